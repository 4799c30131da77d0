//! The OpenAPI document.

use serde_json::Value;

use crate::world::World;

fn document() -> Value {
    serde_json::to_value(courier_server::openapi_document()).unwrap()
}

#[tokio::test]
async fn every_path_and_method_of_the_document_is_served() {
    let world = World::new().await;
    let mut count = 0;
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let concrete = path.replace('{', "x").replace('}', "");
            let answer = world.call(&method.to_uppercase(), &concrete, None).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(!answer.text.contains("no such path"), "{method} {path}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn the_operations_are_these() {
    let mut lines = Vec::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let summary = operation["summary"].as_str().unwrap_or_default();
            lines.push(format!("{:6} {path}: {summary}", method.to_uppercase()));
        }
    }
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_schema_that_is_referred_to_is_in_the_document() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas[name].is_object(), "{name}");
    }
}

#[test]
fn only_health_the_document_and_uploads_with_a_ticket_are_open() {
    let mut open = Vec::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            if operation["security"] == serde_json::json!([{}]) {
                open.push(path.clone());
            }
        }
    }
    open.sort();
    assert_eq!(
        open,
        ["/health", "/openapi.json", "/v1/openapi.json", "/v1/uploads/{project}/{hash}"]
    );
}

/// Paths of `/v1` refer to our own bodies, and the others to E2B's, though some have one name.
#[test]
fn bodies_of_one_name_in_two_apis_are_two_schemas() {
    let document = document();
    let fields = |path: &str, method: &str| {
        let body = &document["paths"][path][method]["requestBody"]["content"]["application/json"];
        let name = body["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        document["components"]["schemas"][name]["properties"].clone()
    };
    for (path, own, foreign) in
        [("/v1/sandboxes", "limits", "templateID"), ("/v2/sandboxes", "templateID", "limits")]
    {
        let fields = fields(path, "post");
        assert!(fields[own].is_object() && fields[foreign].is_null(), "{path}: {fields}");
    }
    let answer = |path: &str, status: &str| {
        let body = &document["paths"][path]["post"]["responses"][status];
        let schema = &body["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        document["components"]["schemas"][name]["properties"].clone()
    };
    assert!(answer("/secrets", "201")["secretID"].is_object());
    assert!(answer("/v1/secrets", "201")["id"].is_object());
}
