//! What learn mode proposes.

use courier_types::egress::Flow;

use super::*;

/// Refusals, each as its JSON without what all have.
fn flows(events: &[&str]) -> Vec<Flow> {
    let flow = |(n, event): (usize, &&str)| {
        let text = format!(r#"{{"seq":{n},"at":0,"event":"refused","why":"","count":1,{event}}}"#);
        serde_json::from_str(&text).unwrap()
    };
    events.iter().enumerate().map(flow).collect()
}

#[track_caller]
fn proposed(current: &str, events: &[&str]) -> String {
    let proposal = propose(&flows(events), &policy(current));
    proposal.check().unwrap();
    serde_json::to_string(&proposal.rules).unwrap()
}

const DNS: &str = r#""fence":"policy","transport":"dns","host":"a.test""#;
const HTTPS: &str = r#""fence":"policy","transport":"tcp","host":"a.test","address":"198.19.0.1:443","protocol":"https""#;
const HTTP: &str = r#""fence":"policy","transport":"tcp","host":"a.test","address":"198.19.0.1:80","protocol":"http""#;
const SSH: &str = r#""fence":"policy","transport":"tcp","host":"a.test","address":"198.19.0.1:22","protocol":"tcp""#;

fn get(method: &str, path: &str) -> String {
    format!("{HTTP},\"method\":\"{method}\",\"path\":\"{path}\"")
}

#[test]
fn a_host_gets_the_least_that_was_refused() {
    for (events, rules) in [
        (vec![DNS], r#"[{"allow":"a.test"}]"#),
        (vec![DNS, HTTPS], r#"[{"allow":"a.test","protocols":["https"]}]"#),
        (vec![HTTPS, DNS, HTTP, HTTPS], r#"[{"allow":"a.test"}]"#),
        (vec![SSH, DNS], r#"[{"allow":"a.test","ports":[22],"protocols":["tcp"]}]"#),
    ] {
        assert_eq!(proposed("{}", &events), rules);
    }
}

#[test]
fn requests_that_were_seen_are_all_that_is_allowed() {
    let events = [get("GET", "/x"), get("GET", "/y"), get("POST", "/z"), get("PUT", "/z")];
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(
        proposed("{}", &events),
        r#"[{"allow":"a.test","protocols":["http"],"methods":["GET"],"paths":["/x","/y"]},{"allow":"a.test","protocols":["http"],"methods":["POST","PUT"],"paths":["/z"]}]"#
    );
    let odd = get("GET", "/%20");
    assert_eq!(
        proposed("{}", &[&odd]),
        r#"[{"allow":"a.test","protocols":["http"],"methods":["GET"]}]"#
    );
}

#[test]
fn an_address_is_proposed_unless_we_made_it_up() {
    let real = r#""fence":"policy","transport":"tcp","address":"8.8.8.8:53""#;
    let made_up = r#""fence":"policy","transport":"tcp","address":"198.19.0.9:443""#;
    assert_eq!(
        proposed("{}", &[real, made_up]),
        r#"[{"allow":"8.8.8.8","ports":[53],"protocols":["tcp"]}]"#
    );
}

#[test]
fn what_was_meant_or_is_allowed_by_now_is_not_proposed() {
    for current in [
        r#"{"rules":[{"deny":"a.test"}]}"#,
        r#"{"rules":[{"deny":"*.test.test"},{"allow":"a.test"}]}"#,
    ] {
        let before = serde_json::to_string(&policy(current).rules).unwrap();
        assert_eq!(proposed(current, &[DNS, HTTPS, HTTP]), before);
    }
    for fence in ["address", "framing", "ech", "limit"] {
        let event = HTTPS.replace("policy", fence);
        assert_eq!(proposed("{}", &[&event]), "[]");
    }
    let udp = r#""fence":"policy","transport":"udp","address":"8.8.8.8:53""#;
    assert_eq!(proposed("{}", &[udp]), "[]");
}

#[test]
fn rules_come_before_the_one_that_denies_everything() {
    assert_eq!(
        proposed(r#"{"rules":[{"allow":"b.test"},{"deny":"internet"}]}"#, &[HTTPS]),
        r#"[{"allow":"b.test"},{"allow":"a.test","protocols":["https"]},{"deny":"internet"}]"#
    );
}

#[test]
fn a_tunnel_is_proposed_as_one() {
    let event = DNS.replace("a.test", "db.tunnel.internal");
    let proposal = propose(&flows(&[&event, &event]), &Policy::default());
    assert!(proposal.rules.is_empty());
    assert_eq!(proposal.tunnels, ["db".parse().unwrap()]);
}

#[test]
fn a_proposal_is_bounded_and_valid_whatever_the_guest_did() {
    let event = |n: u32| {
        format!(
            r#""fence":"policy","transport":"tcp","host":"h{}.test","address":"198.19.0.1:{}","protocol":"tcp""#,
            n % 700,
            n % 500 + 1,
        )
    };
    let methods = |n: u32| get(&format!("M{}", "A".repeat((n % 32) as usize)), &format!("/{n}"));
    let events: Vec<String> = (0..3_000).map(event).chain((0..300).map(methods)).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let proposal = propose(&flows(&events), &Policy::default());
    let text = serde_json::to_string(&proposal).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), proposal);
    assert!(proposal.rules.len() < 1_000, "{}", proposal.rules.len());
}
