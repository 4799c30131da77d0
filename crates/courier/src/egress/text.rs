//! Policies and explanations as people read them.

use courier_protocol::v1::Egress;
use courier_types::egress::{
    Action, Credential, Destination, Explanation, HostPattern, Injection, Policy, Protocol, Rule,
};

use super::policy_text::one_line;
use crate::output::printable;

/// Most rules of a layer that are shown.
const RULES_SHOWN: usize = 200;

/// A policy in a few words, for a table.
pub(crate) fn brief(policy: &Policy) -> String {
    let count = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let parts: Vec<String> = [
        count(policy.rules.len(), "rule"),
        count(policy.presets.len(), "preset"),
        count(policy.credentials.len(), "credential"),
        count(policy.tunnels.len(), "tunnel"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// What is in force for a sandbox.
pub(crate) fn shown(egress: &Egress) -> String {
    let mut text = String::new();
    match egress.layers.0.as_slice() {
        [] => text.push_str("It reaches nothing: no policy lets anything through.\n"),
        [_] => {}
        [..] => text.push_str("What every layer allows is allowed.\n\n"),
    }
    let layers =
        egress.layers.0.iter().map(|layer| format!("{}\n{}", layer.source, of(&layer.policy)));
    text.push_str(&layers.collect::<Vec<_>>().join("\n"));
    if let Some(proxy) = &egress.upstream_proxy {
        let tls = if proxy.tls { ", with TLS" } else { "" };
        text.push_str(&format!("\nAll of it goes through the proxy {}{tls}.\n", proxy.address));
    }
    if !egress.dns_servers.is_empty() {
        let servers: Vec<String> = egress.dns_servers.iter().map(ToString::to_string).collect();
        text.push_str(&format!("\nNames are asked of {}.\n", servers.join(", ")));
    }
    printable(&text)
}

/// The lines of one layer.
fn of(policy: &Policy) -> String {
    let mut lines: Vec<String> = Vec::new();
    let rules = policy.rules.iter().take(RULES_SHOWN).enumerate();
    lines.extend(rules.map(|(place, rule)| format!("{place:>4}  {}", words(rule))));
    let more = policy.rules.len().saturating_sub(RULES_SHOWN);
    if more > 0 {
        lines.push(format!("   …  {more} more: --json has them"));
    }
    lines.push("   -  deny everything else".to_owned());
    lines.extend(policy.presets.iter().map(|name| format!("      preset {name}")));
    lines.extend(policy.credentials.iter().map(|known| format!("      {}", credential(known))));
    lines.extend(policy.tunnels.iter().map(|name| format!("      tunnel {name}.tunnel.internal")));
    if policy.learn {
        lines.push("      learning: what is refused is recorded in detail".to_owned());
    }
    lines.join("\n") + "\n"
}

/// A rule in words, with what it leaves unsaid.
fn words(rule: &Rule) -> String {
    let action = match rule.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    };
    let mut text = format!("{action:5} {}", rule.to);
    let allows_host = rule.action == Action::Allow && matches!(rule.to, Destination::Host(_));
    let protocols: Vec<&str> = rule.protocols.iter().copied().map(protocol).collect();
    let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
    let (spoken, places) = (protocols.join(", "), ports.join(", "));
    text.push_str(&match (protocols.is_empty(), ports.is_empty()) {
        (true, true) if allows_host => "  http on 80, https on 443".to_owned(),
        (true, true) if rule.is_about_requests() => "  http and https on any port".to_owned(),
        (true, true) => "  anything".to_owned(),
        (true, false) if allows_host || rule.is_about_requests() => {
            format!("  http and https on {places}")
        }
        (true, false) => format!("  anything on {places}"),
        (false, true) => format!("  {spoken}"),
        (false, false) => format!("  {spoken} on {places}"),
    });
    let list = |items: Vec<String>| items.join(" ");
    let methods = list(rule.methods.iter().map(|method| method.as_str().to_owned()).collect());
    let paths = list(rule.paths.iter().map(ToString::to_string).collect());
    for part in [methods, paths].into_iter().filter(|part| !part.is_empty()) {
        text.push_str("  ");
        text.push_str(&part);
    }
    text
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Https => "https",
        Protocol::Tcp => "tcp",
    }
}

fn credential(credential: &Credential) -> String {
    let how = match &credential.injection {
        Injection::Header { name, value } => format!("header {name}: {value}"),
        Injection::Bearer { secret } => format!("secret {secret} as bearer"),
        Injection::Basic { username, secret } => format!("secret {secret} as basic of {username}"),
        Injection::Placeholder { secret } => format!("secret {secret} in place of its token"),
    };
    let host: &HostPattern = &credential.host;
    let mut text = format!("credential at {host}: {how}");
    let methods = credential.methods.iter().map(|method| method.as_str().to_owned());
    let only: Vec<String> =
        methods.chain(credential.paths.iter().map(ToString::to_string)).collect();
    if !only.is_empty() {
        text.push_str(&format!(" (only {})", only.join(" ")));
    }
    text
}

/// Which rule decides, and why.
pub(crate) fn explained(explanation: &Explanation) -> String {
    let mut text = if explanation.allowed { "Allowed.\n\n" } else { "Refused.\n\n" }.to_owned();
    for step in &explanation.steps {
        text.push_str(&format!("  {} {}\n", step.asked, verdict(&step.verdict)));
        for reason in &step.reasons {
            text.push_str(&format!("      {reason}\n"));
        }
    }
    if !explanation.credentials.is_empty() {
        let names: Vec<&str> = explanation.credentials.iter().map(|name| name.as_str()).collect();
        text.push_str(&format!("\nSecrets that are added: {}\n", names.join(", ")));
    }
    if let Some(rule) = &explanation.would_allow {
        text.push_str("\nThis rule would allow it, before those of every layer that refuses:\n");
        text.push_str(&format!("  {}\n", one_line(rule)));
    }
    printable(&text)
}

fn verdict(word: &str) -> &str {
    match word {
        "allow" => "Yes.",
        "deny" => "No.",
        "inspect" => "That is looked at more closely.",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shown_with_what_their_rules_leave_unsaid() {
        let egress: Egress = serde_json::from_str(
            r#"{"layers":[
                {"source":"template","policy":{"rules":[{"allow":"*.example.com"},{"allow":"192.0.2.0/24"}]}},
                {"source":"sandbox","policy":{
                    "rules":[
                        {"allow":"api.example.com","methods":["GET","HEAD"],"paths":["/v1/*"]},
                        {"allow":"git.example.com","ports":[22,"8000-8010"],"protocols":["tcp"]},
                        {"allow":"192.0.2.1","ports":[53]},
                        {"deny":"internet","methods":["POST"]},
                        {"deny":"internet"}],
                    "credentials":[
                        {"host":"api.example.com","secret":"openai","as":{"bearer":{}},"paths":["/v1/*"]},
                        {"host":"git.example.com","secret":"gh","as":{"basic":{"username":"x"}}},
                        {"host":"api.example.com","as":{"header":{"name":"x-key","value":"k ${secrets.a}"}}},
                        {"host":"api.example.com","secret":"b","as":{"placeholder":{}}}],
                    "tunnels":["db"],"learn":true}}],
               "upstream_proxy":{"address":"proxy.test:1080","tls":true},"dns_servers":["192.0.2.53"]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(shown(&egress));
        let none: Egress = serde_json::from_str(r#"{"layers":[]}"#).unwrap();
        assert_eq!(shown(&none), "It reaches nothing: no policy lets anything through.\n");
        let policies: Vec<String> =
            egress.layers.0.iter().map(|layer| brief(&layer.policy)).collect();
        assert_eq!(policies, ["2 rules", "5 rules, 4 credentials, 1 tunnel"]);
        assert_eq!(brief(&Policy::default()), "nothing");
    }

    #[test]
    fn an_explanation_names_each_question_its_rule_and_what_would_allow_it() {
        use courier_egress::policy::{Compiled, explain};
        use courier_types::egress::{ExplainRequest, Layer, LayerSource, Layers};
        let policy = r#"{"rules":[{"allow":"api.example.com","methods":["GET"]}],"credentials":[{"host":"api.example.com","secret":"openai","as":{"bearer":{}}}]}"#;
        let policy = serde_json::from_str(policy).unwrap();
        let layers = Layers(vec![Layer { source: LayerSource::Sandbox, policy }]);
        let compiled = Compiled::new(&layers).unwrap();
        let told: Vec<String> =
            [("api.example.com", "GET"), ("api.example.com", "POST"), ("b.test", "GET")]
                .into_iter()
                .map(|(host, method)| {
                    let request = ExplainRequest {
                        host: host.to_owned(),
                        port: None,
                        protocol: None,
                        method: Some(method.to_owned()),
                        path: None,
                    };
                    explained(&explain(&compiled, &request).unwrap())
                })
                .collect();
        insta::assert_snapshot!(told.join("\n---\n"));
    }
}
