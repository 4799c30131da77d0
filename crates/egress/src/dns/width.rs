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
