//! Private mirrors, mirrors that cannot be used, and what becomes of a secret when the
//! configuration changes.

use courier_protocol::node::Presets as _;

use super::World;

#[test]
fn the_hosts_that_the_configuration_names_are_known_and_those_of_an_index_are_not_among_them() {
    let world = World::new()
        .given("pypi=https://10.1.2.3/simple,https://nexus:8443/simple")
        .file("/home/ci/.npmrc", "registry=http://npm.corp.test\n")
        .page(
            "http://npm.corp.test/npm/latest",
            r#"{"dist":{"tarball":"https://inner.test/n.tgz"}}"#,
        );
    let hosts = world.presets().hosts();
    let hosts: Vec<String> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    assert_eq!(hosts, ["nexus:8443", "npm.corp.test:80"]);
    assert_eq!(world.resolve("pypi").places(), ["10.1.2.3:443", "nexus:8443"]);
}

#[test]
fn a_mirror_on_the_node_itself_is_refused_with_the_way_out() {
    for (name, world) in [
        ("pypi", World::new().variable("PIP_INDEX_URL", "http://localhost:3141/root")),
        ("npm", World::new().file("/etc/npmrc", "registry=http://127.0.0.1:4873/")),
        ("go", World::new().variable("GOPROXY", "http://[::1]:3000")),
        ("cargo", World::new().given("cargo=http://ci:canary@localhost:8000")),
    ] {
        let refusal = world.refusal(name);
        assert!(refusal.contains("private tunnel"), "{refusal}");
    }
}

#[test]
fn a_password_that_would_go_out_in_clear_is_a_mistake_that_is_told() {
    let world = World::new().given("pypi=http://ci:canary@pypi.test/simple");
    assert!(world.refusal("pypi").contains("in clear"));
    let world = World::new()
        .file("/etc/npmrc", "registry=http://npm.test/\n//npm.test/:_authToken=canary\n");
    assert!(world.refusal("npm").contains("in clear"));
    // One for another place does not matter.
    let world = World::new()
        .file("/etc/npmrc", "registry=https://npm.test/\n//192.0.2.7/:_authToken=canary\n");
    assert_eq!(world.resolve("npm").credentials(), Vec::<String>::new());
}

#[test]
fn an_index_that_names_the_node_or_metadata_as_its_files_host_opens_nothing_there() {
    let files = r#"{"files":[{"url":"http://localhost/x"},{"url":"http://127.0.0.1/x"},
        {"url":"http://[::1]/x"},{"url":"file:///etc/passwd"},{"url":"https://files.test/x"}]}"#;
    let world = World::new()
        .given("pypi=https://index.test/simple")
        .page("https://index.test/simple/pip/", files);
    assert_eq!(world.resolve("pypi").places(), ["index.test:443 /simple/*", "files.test:443"]);
}

#[test]
fn a_secret_follows_its_place_a_new_password_counts_at_once_and_another_host_has_another() {
    let world = World::new()
        .file("/etc/npmrc", "registry=https://npm.test/\n//npm.test/:_authToken=canary\n");
    let seen = world.resolve("npm");
    let name = seen.preset.credentials[0].injection.secrets()[0].clone();
    let value = |world: &World| {
        world
            .presets()
            .secret(&name)
            .map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
    };
    assert_eq!(value(&world).as_deref(), Some("canary"));
    let rotated = "registry=https://npm.test/\n//npm.test/:_authToken=canary-2\n";
    let world = world.file("/etc/npmrc", rotated);
    assert_eq!(value(&world).as_deref(), Some("canary-2"));
    let moved = "registry=https://other.test/\n//other.test/:_authToken=canary-3\n";
    let world = world.file("/etc/npmrc", moved);
    assert_eq!(value(&world), None);
    for text in ["preset.npm", "preset.npm.0", "preset.none.x", "npm", "preset."] {
        assert!(world.presets().secret(&text.parse().unwrap()).is_none(), "{text}");
    }
}

#[test]
fn files_that_the_user_of_the_server_may_not_have_meant_are_bounded_and_told() {
    let world =
        World::new().file("/etc/pip.conf", "[global\nindex-url = https://ci:canary@a.test\n");
    assert!(world.refusal("pypi").contains("/etc/pip.conf"));
    let world = World::new().file("/etc/npmrc", &" ".repeat(2 * 1024 * 1024));
    assert!(world.refusal("npm").contains("/etc/npmrc cannot be read"));
}
