//! What each package manager's configuration becomes.

use super::World;

const PAGE: &str = r#"<a href="https://files.test/packages/a.whl#sha256=1">a</a>
    <a href='../../other/b.whl'>b</a>"#;

#[test]
fn pip_is_told_by_files_and_variables_the_last_word_counts() {
    let world = World::new()
        .file("/etc/pip.conf", "[global]\nindex-url = https://first.test/simple\n")
        .file(
            "/home/ci/.config/pip/pip.conf",
            "# a comment\n[global]\nindex-url: https://ci:canary@second.test/pypi/simple/\n\
             extra-index-url =\n    https://third.test/simple\n    https://fourth.test/simple\n",
        );
    let seen = world.resolve("pypi");
    assert_eq!(seen.places(), ["second.test:443 /pypi/*", "third.test:443", "fourth.test:443"]);
    assert_eq!(seen.credentials(), [r#"second.test /pypi/* {"basic":{"username":"ci"}} canary"#]);
    assert_eq!(seen.preset.env["PIP_INDEX_URL"], "https://second.test/pypi/simple");
    assert_eq!(
        seen.file("/etc/pip.conf"),
        "[global]\nindex-url = https://second.test/pypi/simple\ndisable-pip-version-check = true\n\
         extra-index-url =\n    https://third.test/simple\n    https://fourth.test/simple\n"
    );
    let world = world.variable("PIP_INDEX_URL", "https://variable.test/simple");
    assert_eq!(world.resolve("pypi").places()[0], "variable.test:443");
    let world = world.given("pypi=https://given.test/simple");
    assert_eq!(world.resolve("pypi").places(), ["given.test:443"]);
}

#[test]
fn pip_takes_passwords_from_netrc_and_a_setting_of_install_counts_more() {
    let world = World::new()
        .file(
            "/etc/pip.conf",
            "[global]\nindex-url=https://a.test/\n[install]\nindex-url=https://b.test/x/simple\n",
        )
        .file("/home/ci/.netrc", "machine b.test login ci password canary\n");
    let credentials = world.resolve("pypi").credentials();
    assert_eq!(credentials, [r#"b.test /x/* {"basic":{"username":"ci"}} canary"#]);
}

#[test]
fn an_index_is_asked_where_its_files_are() {
    let world = World::new().tool("python3", "https://index.test/simple\n");
    // It does not answer: nothing more is opened than itself.
    assert_eq!(world.resolve("pypi").places(), ["index.test:443"]);
    let files = r#"{"files":[{"url":"https://files.test/packages/a.whl"}]}"#;
    let world = world.page("https://index.test/simple/pip/", files);
    assert_eq!(world.resolve("pypi").places(), ["index.test:443 /simple/*", "files.test:443"]);
    let world = world.page("https://index.test/simple/pip/", PAGE);
    assert_eq!(world.resolve("pypi").places(), ["index.test:443", "files.test:443"]);
    let below = World::new().given("pypi=https://index.test/repository/pypi/simple").page(
        "https://index.test/repository/pypi/simple/pip/",
        r#"<a href="../../packages/a.whl">"#,
    );
    assert_eq!(below.resolve("pypi").places(), ["index.test:443 /repository/pypi/*"]);
}

#[test]
fn npm_is_told_by_files_and_variables_with_scopes_and_every_form_of_login() {
    let world = World::new()
        .file("/etc/npmrc", "registry=https://first.test/\n")
        .file(
            "/home/ci/.npmrc",
            "; a comment\nregistry = \"https://npm.test/repo/\"\n//npm.test/repo/:_authToken=${TOKEN}\n\
             @acme:registry=https://acme.test/\n//acme.test/:_auth=Y2k6Y2FuYXJ5\n\
             @more:registry=https://more.test:8443/\n//more.test:8443/:username=ci\n\
             //more.test:8443/:_password=Y2FuYXJ5\n//elsewhere.test/:_authToken=canary\n",
        )
        .variable("TOKEN", "canary");
    let seen = world.resolve("npm");
    assert_eq!(seen.places(), ["npm.test:443 /repo/*", "acme.test:443", "more.test:8443"]);
    assert_eq!(
        seen.credentials(),
        [
            r#"acme.test {"basic":{"username":"ci"}} canary"#,
            r#"more.test {"basic":{"username":"ci"}} canary"#,
            r#"npm.test /repo/* {"bearer":{}} canary"#,
        ]
    );
    let file = seen.file("/etc/npmrc");
    assert!(file.starts_with("registry=https://npm.test/repo/\n"), "{file}");
    assert!(file.contains("@acme:registry=https://acme.test/\n"), "{file}");
    let world = world.variable("NPM_CONFIG_REGISTRY", "https://variable.test");
    assert_eq!(world.resolve("npm").places()[0], "variable.test:443");
}

#[test]
fn npm_is_asked_for_its_registry_and_the_registry_for_its_archives() {
    let world = World::new().tool("npm", "https://npm.test/\n").page(
        "https://npm.test/npm/latest",
        r#"{"dist":{"tarball":"https://archives.test/npm.tgz"}}"#,
    );
    let seen = world.resolve("npm");
    assert_eq!(seen.places(), ["npm.test:443", "archives.test:443"]);
    assert_eq!(seen.preset.env["npm_config_registry"], "https://npm.test/");
}

#[test]
fn cargo_is_told_by_source_replacement_and_registries() {
    let world = World::new()
        .file(
            "/home/ci/.cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"step\"\n[source.step]\nreplace-with = \"mirror\"\n\
             [registries.mirror]\nindex = \"sparse+https://cargo.test/index/\"\n\
             [registries.private]\nindex = \"sparse+https://private.test/\"\n\
             [registries.git]\nindex = \"https://git.test/index.git\"\n[registry]\ndefault = \"private\"\n",
        )
        .file("/home/ci/.cargo/credentials.toml", "[registries.mirror]\ntoken = \"canary\"\n")
        .variable("CARGO_REGISTRIES_PRIVATE_TOKEN", "Bearer canary")
        .page(
            "https://cargo.test/index/config.json",
            r#"{"dl":"https://dl.test/crates/{crate}/{version}","auth-required":true}"#,
        );
    let seen = world.resolve("cargo");
    assert_eq!(seen.places(), ["cargo.test:443 /index/*", "dl.test:443", "private.test:443"]);
    let how = r#"{"header":{"name":"authorization","value":"${secrets.NAME}"}}"#;
    assert_eq!(
        seen.credentials(),
        [format!("cargo.test {how} canary"), format!("private.test {how} Bearer canary"),]
    );
    let file: toml::Table = seen.file("/.cargo/config.toml").parse().unwrap();
    assert_eq!(file["source"]["crates-io"]["replace-with"].as_str(), Some("mirror"));
    let index = file["registries"]["mirror"]["index"].as_str();
    assert_eq!(index, Some("sparse+https://cargo.test/index/"));
    assert_eq!(file["registry"]["default"].as_str(), Some("private"));
    assert!(seen.preset.env.contains_key("CARGO_REGISTRIES_PRIVATE_TOKEN"));
}

#[test]
fn a_given_index_of_cargo_gets_a_name_of_its_own() {
    let seen = World::new().given("cargo=https://ci:canary@cargo.test/index/").resolve("cargo");
    let file: toml::Table = seen.file("/.cargo/config.toml").parse().unwrap();
    assert_eq!(file["source"]["crates-io"]["replace-with"].as_str(), Some("courier"));
    let index = file["registries"]["courier"]["index"].as_str();
    assert_eq!(index, Some("sparse+https://cargo.test/index/"));
    assert!(seen.preset.env.contains_key("CARGO_REGISTRIES_COURIER_TOKEN"));
}

#[test]
fn an_index_of_cargo_that_is_no_sparse_one_is_refused_and_a_broken_file_does_not_tell_its_line() {
    let world = World::new().file(
        "/home/ci/.cargo/config.toml",
        "[source.crates-io]\nreplace-with=\"m\"\n[source.m]\nregistry=\"https://ci:canary@git.test/i\"\n",
    );
    assert!(world.refusal("cargo").contains("sparse+https://"));
    let world =
        World::new().file("/home/ci/.cargo/credentials.toml", "[registries.m]\ntoken = \"canary\n");
    assert!(world.refusal("cargo").contains("/home/ci/.cargo/credentials.toml"));
}

#[test]
fn apt_keeps_the_mirrors_of_the_sandboxes_release_with_their_logins() {
    let world = World::new()
        .file(
            "/etc/apt/sources.list.d/debian.sources",
            "Types: deb\nURIs: https://apt.test/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\nSigned-By: /somewhere/else.gpg\n",
        )
        .file(
            "/etc/apt/sources.list",
            "deb http://security.test/debian-security bookworm-security main\n",
        )
        .file("/etc/apt/auth.conf.d/apt.conf", "machine apt.test login ci password canary\n")
        .file("/etc/apt/auth.conf.d/apt.bak", "machine security.test login ci password canary\n");
    let seen = world.resolve("apt");
    assert_eq!(seen.places(), ["security.test:80 /debian-security/*", "apt.test:443 /debian/*"]);
    assert_eq!(seen.credentials(), [r#"apt.test /debian/* {"basic":{"username":"ci"}} canary"#]);
    let signed = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    assert_eq!(
        seen.file("/etc/apt/sources.list"),
        format!(
            "{signed} http://security.test/debian-security bookworm-security main\n\
             {signed} https://apt.test/debian bookworm main\n\
             {signed} https://apt.test/debian bookworm-updates main\n"
        )
    );
}

#[test]
fn a_given_mirror_of_debian_is_asked_which_suites_it_has() {
    let world = World::new()
        .given("apt=http://apt.test/debian")
        .page("http://apt.test/debian/dists/bookworm/InRelease", "signed")
        .page("http://apt.test/debian/dists/bookworm-updates/InRelease", "signed");
    let seen = world.resolve("apt");
    let file = seen.file("/etc/apt/sources.list");
    assert!(file.contains("bookworm main") && file.contains("bookworm-updates main"), "{file}");
    assert!(!file.contains("security"), "{file}");
}

#[test]
fn go_keeps_its_proxies_and_never_goes_directly() {
    let world = World::new().file(
        "/home/ci/.config/go/env",
        "GOPROXY=https://ci:canary@go.test/mod|https://second.test,direct\nGOSUMDB=sums.test\n\
             GOPRIVATE=acme.test/*\n",
    );
    let seen = world.resolve("go");
    assert_eq!(seen.places(), ["go.test:443 /mod/*", "second.test:443", "sums.test:443"]);
    assert_eq!(seen.credentials(), [r#"go.test /mod/* {"basic":{"username":"ci"}} canary"#]);
    let env = &seen.preset.env;
    assert_eq!(env["GOPROXY"], "https://go.test/mod,https://second.test");
    assert_eq!((env["GOSUMDB"].as_str(), env["GONOSUMDB"].as_str()), ("sums.test", "acme.test/*"));
    // A proxy that passes the database on is enough.
    let world = world.page("https://go.test/mod/sumdb/sums.test/supported", "");
    assert_eq!(world.resolve("go").places(), ["go.test:443 /mod/*", "second.test:443"]);
    let with_address = World::new()
        .variable("GOPROXY", "https://go.test")
        .variable("GOSUMDB", "sums.test+ac4e+key https://passed.test/sumdb");
    let seen = with_address.resolve("go");
    assert_eq!(seen.places(), ["go.test:443", "passed.test:443 /sumdb/*"]);
    assert_eq!(seen.preset.env["GOSUMDB"], "sums.test+ac4e+key https://passed.test/sumdb");
    let login = with_address.variable("GOSUMDB", "sums.test https://ci:canary@passed.test/");
    assert!(login.refusal("go").contains("GOSUMDB"));
    let off = World::new().given("go=https://go.test").variable("GOSUMDB", "off");
    assert_eq!(off.resolve("go").preset.env["GOSUMDB"], "off");
    let world = World::new().tool("go", "https://own.test,direct\nsums.test\n");
    assert_eq!(world.resolve("go").places(), ["own.test:443", "sums.test:443"]);
    assert!(World::new().variable("GOPROXY", "direct").refusal("go").contains("GOPROXY"));
}
