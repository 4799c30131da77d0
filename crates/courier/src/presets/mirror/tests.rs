//! What an address, a login and a rule of a mirror are.

use super::*;

fn mirror(text: &str) -> Mirror {
    Mirror::parse(text, "a test").unwrap()
}

#[test]
fn an_address_and_its_password_part_at_once() {
    let with = mirror("https://ci:can%40ary@mirror.test/simple/");
    assert_eq!(with.url.as_str(), "https://mirror.test/simple/");
    let placed = Placed::of("pypi", &with, with.below()).unwrap().unwrap();
    assert_eq!(placed.value().expose(), b"can@ary");
    for shown in [format!("{with:?}"), format!("{placed:?}"), format!("{:?}", placed.credential())]
    {
        assert!(!shown.contains("can@ary") && !shown.contains("can%40ary"), "{shown}");
    }
}

#[test]
fn a_user_alone_is_a_token_and_never_shown() {
    let mirror = mirror("https://canary@mirror.test/simple");
    let placed = Placed::of("pypi", &mirror, None).unwrap().unwrap();
    assert!(!format!("{placed:?}{:?}", placed.credential()).contains("canary"));
    assert_eq!(mirror.login.unwrap().header(), b"Basic Y2FuYXJ5Og==");
}

#[test]
fn the_name_of_a_secret_is_that_of_its_place_not_of_its_value() {
    let name = |text: &str| {
        let mirror = mirror(text);
        Placed::of("pypi", &mirror, mirror.below()).unwrap().unwrap().secret_name().unwrap()
    };
    let first = name("https://ci:one@mirror.test/simple");
    assert_eq!(first, name("https://ci:two@mirror.test/simple"));
    for other in [
        "https://ci:one@other.test/simple",
        "https://ci:one@mirror.test:8443/simple",
        "https://ci:one@mirror.test/other",
        "https://else:one@mirror.test/simple",
    ] {
        assert_ne!(first, name(other), "{other}");
    }
    assert!(first.as_str().starts_with("preset.pypi."));
}

#[test]
fn no_sandbox_is_sent_to_the_node_itself() {
    for text in [
        "http://localhost:3141/root",
        "http://x.localhost/",
        "http://127.0.0.1:4873",
        "http://2130706433/",
        "http://0.0.0.0/",
        "http://[::1]/",
    ] {
        let error = Mirror::parse(text, "a test").unwrap_err();
        assert!(error.to_string().contains("private tunnel"), "{text}: {error}");
    }
}

#[test]
fn what_is_no_mirror_is_refused_and_no_password_is_in_the_message() {
    for text in [
        "ftp://ci:canary@mirror.test/",
        "https://ci:canary@mirror.test/?token=canary",
        "https://ci:canary%zz@mirror.test/",
        "ci:canary@mirror.test",
        "https://ci:canary@[2001:db8::1]/",
        "https://ci:canary@mirror test/",
    ] {
        let error = Mirror::parse(text, "a test").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{text}: {error}");
    }
}

#[test]
fn a_password_never_goes_out_in_clear_nor_to_a_bare_address() {
    for text in ["http://ci:canary@mirror.test/", "https://ci:canary@192.0.2.7/"] {
        let error = Placed::of("pypi", &mirror(text), None).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{text}: {error}");
    }
}

#[test]
fn a_place_has_one_rule_that_reads_only() {
    let site = |text: &str, paths: &[&str]| {
        let url: Url = text.parse().unwrap();
        let paths = paths.iter().map(|path| path.parse().unwrap()).collect();
        Site::new(&url, paths, "a test").unwrap()
    };
    let rules = rules(vec![
        site("https://a.test/x", &["/x/*"]),
        site("https://a.test/y", &["/y/*"]),
        site("http://a.test/", &["/z/*"]),
        site("http://a.test/", &[]),
        site("https://192.0.2.7:8443/", &[]),
    ]);
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(
        text,
        r#"[{"allow":"a.test","ports":[443],"protocols":["https"],"methods":["GET","HEAD"],"paths":["/x/*","/y/*"]},{"allow":"a.test","ports":[80],"protocols":["http"],"methods":["GET","HEAD"]},{"allow":"192.0.2.7","ports":[8443],"protocols":["https"],"methods":["GET","HEAD"]}]"#
    );
}
