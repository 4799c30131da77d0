//! How wide the rules are that let a name pass: found out by asking the one decision function
//! about names beside it.

use courier_types::egress::{HostName, LayerSource};

use super::budget::Width;
use crate::policy::{Compiled, Question, Verdict};

/// A label that no rule is about by name: what lets it pass lets any label pass.
const PROBE: &str = "any-label-77b8a6a8";

/// Which rule of which layer decided, without its text.
type Deciding = Vec<(LayerSource, Option<usize>)>;

/// The width for an allowed name.
///
/// Where a label that nobody wrote into a rule passes beside the name, by the same rules, these
/// rules take any label there. The highest such place in the tree of names is their parent.
pub(super) fn of(policy: &Compiled, host: &HostName) -> Width {
    let Some(deciding) = deciding(policy, host) else { return Width::Exact };
    let mut width = Width::Exact;
    let mut rest = host.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        // Where the probe makes too long a name, it counts as passing: that costs a few bytes.
        let probe = format!("{PROBE}.{parent}").parse();
        let passes = |probe: HostName| self::deciding(policy, &probe).as_ref() == Some(&deciding);
        let Ok(parent_name) = parent.parse() else { return width };
        if !probe.map_or(true, passes) {
            return width;
        }
        width = Width::Below(parent_name);
        rest = parent;
    }
    // A wildcard is never right below a top-level domain, so what passes there is any name.
    if width == Width::Exact { width } else { Width::Any }
}

/// The rules that let the name pass; `None` where it does not.
fn deciding(policy: &Compiled, host: &HostName) -> Option<Deciding> {
    let decision = policy.decide(&Question::Name { host });
    let passes = decision.verdict != Verdict::Deny;
    passes.then(|| decision.reasons.iter().map(|reason| (reason.layer, reason.rule)).collect())
}

#[cfg(test)]
mod tests {
    use courier_types::egress::Layers;

    use super::*;

    #[track_caller]
    fn width(layers: &[&str], host: &str) -> Width {
        let layer =
            |rules: &&str| format!(r#"{{"source":"sandbox","policy":{{"rules":{rules}}}}}"#);
        let layers: Vec<String> = layers.iter().map(layer).collect();
        let layers: Layers = serde_json::from_str(&format!("[{}]", layers.join(","))).unwrap();
        of(&Compiled::new(&layers).unwrap(), &host.parse().unwrap())
    }

    fn below(parent: &str) -> Width {
        Width::Below(parent.parse().unwrap())
    }

    #[test]
    fn the_widest_rule_of_the_narrowest_layer_counts() {
        const EXACT: &str = r#"[{"allow":"api.allowed.test"}]"#;
        const BELOW: &str = r#"[{"allow":"*.allowed.test"}]"#;
        const DEEPER: &str = r#"[{"allow":"*.b.allowed.test"}]"#;
        const ANY: &str = r#"[{"allow":"internet"}]"#;
        for (layers, host, expected) in [
            (&[EXACT][..], "api.allowed.test", Width::Exact),
            (&[BELOW], "api.allowed.test", below("allowed.test")),
            (&[BELOW], "x.y.z.allowed.test", below("allowed.test")),
            (&[ANY], "api.allowed.test", Width::Any),
            (&[EXACT, ANY], "api.allowed.test", Width::Exact),
            (&[ANY, BELOW], "api.allowed.test", below("allowed.test")),
            (&[BELOW, DEEPER], "a.b.allowed.test", below("b.allowed.test")),
        ] {
            assert_eq!(width(layers, host), expected, "{layers:?} {host}");
        }
    }

    #[test]
    fn an_exact_rule_before_a_wide_one_is_exact() {
        let rules =
            r#"[{"allow":"api.allowed.test"},{"allow":"*.allowed.test"},{"allow":"internet"}]"#;
        assert_eq!(width(&[rules], "api.allowed.test"), Width::Exact);
        assert_eq!(width(&[rules], "other.allowed.test"), below("allowed.test"));
        assert_eq!(width(&[rules], "other.test"), Width::Any);
    }

    #[test]
    fn a_name_too_long_for_the_probe_is_not_free() {
        let label = "x".repeat(63);
        let host = format!("a.{label}.{label}.{label}.{}.allowed.test", "y".repeat(40));
        assert_eq!(width(&[r#"[{"allow":"*.allowed.test"}]"#], &host), below("allowed.test"));
    }
}
