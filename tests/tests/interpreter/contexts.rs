//! Contexts: made, listed, restarted and removed, each with a state of its own.

use serde_json::{Value, json};

use super::rig::{Interpreter, World, of, text};

#[track_caller]
fn languages(interpreter: &Interpreter<'_>) -> Vec<Value> {
    let list = interpreter.request("GET", "/contexts", None).assert_status(200).json();
    list.as_array().expect("a list").iter().map(|one| one["language"].clone()).collect()
}

pub(crate) fn a_context_has_its_own_state_and_folder(world: &World) {
    let interpreter = world.interpreter();
    assert_eq!(languages(&interpreter), ["python", "javascript"]);

    let body = json!({"cwd": "/var/tmp", "language": "Python"});
    let made = interpreter.request("POST", "/contexts", Some(&body)).assert_status(200).json();
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made, json!({"id": id, "language": "python", "cwd": "/var/tmp"}));
    assert_eq!(languages(&interpreter), ["python", "javascript", "python"]);

    let run = |code: &str| text(&interpreter.execute(&json!({"code": code, "context_id": id})));
    assert_eq!(run("import os; x = 7; os.getcwd()"), "/var/tmp");
    assert_eq!(
        interpreter.python("'x' in globals(), __import__('os').getcwd()"),
        "(False, '/home/user')"
    );

    let restarted = interpreter.request("POST", &format!("/contexts/{id}/restart"), None);
    assert_eq!(restarted.assert_status(200).text(), "null");
    assert_eq!(run("'x' in globals(), __import__('os').getcwd()"), "(False, '/var/tmp')");

    let removed = interpreter.request("DELETE", &format!("/contexts/{id}"), None);
    assert_eq!(removed.assert_status(200).text(), "null");
    for (method, path, body) in [
        ("DELETE", format!("/contexts/{id}"), None),
        ("POST", format!("/contexts/{id}/restart"), None),
        ("POST", "/execute".to_owned(), Some(json!({"code": "1", "context_id": id}))),
    ] {
        let answer = interpreter.request(method, &path, body.as_ref());
        assert_eq!(answer.assert_status(404).text(), format!("Context {id} not found"));
    }
}

pub(crate) fn executions_of_one_context_wait_for_each_other(world: &World) {
    let interpreter = world.interpreter();
    let body = |n: u8| {
        json!({"code": format!("import time; start = time.time(); time.sleep(0.5); spans = \
            globals().get('spans', []) + [(start, time.time())]; {n}")})
    };
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| interpreter.execute(&body(1)));
        let two = interpreter.execute(&body(2));
        (one.join().expect("no panic"), two)
    });
    assert_eq!((text(&one), text(&two)), ("1".into(), "2".into()));
    assert_eq!(interpreter.python("a, b = sorted(spans); a[1] <= b[0]"), "True");
}

pub(crate) fn a_restart_ends_what_runs_with_an_error(world: &World) {
    let interpreter = world.interpreter();
    let list = interpreter.request("GET", "/contexts", None).json();
    let id = list[0]["id"].as_str().expect("an id").to_owned();
    let code = json!({"code": "print('go', flush=True)\nwhile True: pass"});
    let mut running = interpreter.begin(&code);
    interpreter.request("POST", &format!("/contexts/{id}/restart"), None).assert_status(200);
    assert_eq!(running.event()["name"], "ContextRestarting");
    assert_eq!(running.event()["type"], "end_of_execution");
    assert_eq!(interpreter.python("1 + 1"), "2");
}

pub(crate) fn what_cannot_be_asked_is_refused_with_its_reason(world: &World) {
    let interpreter = world.interpreter();
    let both = json!({"code": "1", "context_id": "a", "language": "python"});
    for (path, body, status, says) in [
        ("/execute", both, 400, "Only one of"),
        ("/execute", json!({"code": "1", "language": "cobol"}), 400, "unsupported language"),
        ("/execute", json!({"code": "1", "language": "java"}), 500, "no kernel for this language"),
        ("/execute", json!({"code": "1", "env_vars": {"A=B": "x"}}), 400, "env_vars"),
        ("/execute", json!({"code": "1", "context_id": "../x"}), 404, "Context ../x not found"),
        ("/execute", json!({"language": "python"}), 422, "code"),
        ("/contexts", json!({"cwd": "/no/such/folder"}), 400, "is not a folder"),
    ] {
        let answer = interpreter.request("POST", path, Some(&body));
        assert!(answer.text().contains(says), "{body}: {} {}", answer.status, answer.text());
        answer.assert_status(status);
    }
    let events = interpreter.execute(&json!({"code": ""}));
    assert!(of(&events, "error").is_empty(), "{events:?}");
}
