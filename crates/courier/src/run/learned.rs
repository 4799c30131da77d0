//! What runs were refused, for the proposal at their end.

use std::sync::{Mutex, PoisonError};

use courier_egress::policy::propose;
use courier_types::egress::{Flow, FlowEvent};

use crate::egress::{Seen, Wish};

/// Most refusals of all runs together that a proposal looks at.
const REFUSALS_MAX: usize = 20_000;

/// Refusals of several runs.
#[derive(Debug, Default)]
pub(crate) struct Learned(Mutex<Refusals>);

#[derive(Debug, Default)]
struct Refusals {
    flows: Vec<Flow>,
    /// Records that nobody looked at.
    missed: u64,
}

impl Learned {
    /// Adds what one run was refused.
    pub(crate) fn add(&self, seen: Seen) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.missed = known.missed.saturating_add(seen.missed);
        for flow in seen.flows {
            if !matches!(flow.event, FlowEvent::Refused { .. }) {
                continue;
            }
            if known.flows.len() < REFUSALS_MAX {
                known.flows.push(flow);
            } else {
                known.missed = known.missed.saturating_add(1);
            }
        }
    }

    /// What to print: the proposal as a diff to what the user gave, or that there is none.
    pub(crate) fn told(&self, wish: &Wish) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut proposed = propose(&known.flows, &wish.policy.clone().unwrap_or_default());
        // That it was learned now is no part of what is proposed.
        proposed.learn = wish.file.policy.learn;
        let mut told = match wish.file.diff(&proposed) {
            Some(diff) => diff,
            None => "courier: nothing was refused that a rule could allow\n".to_owned(),
        };
        if known.missed > 0 {
            told.push_str(&format!("courier: {} records were not looked at\n", known.missed));
        }
        crate::output::printable(&told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressArgs;

    fn refused(host: &str) -> Flow {
        let text = format!(
            r#"{{"seq":1,"at":7,"event":"refused","transport":"tcp","host":"{host}","address":"198.19.0.1:443","protocol":"https","fence":"policy","why":"","count":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn runs_together_make_one_proposal_with_what_was_given_on_the_line() {
        let args = EgressArgs {
            allow: vec![serde_json::from_str(r#"{"allow":"known.test"}"#).unwrap()],
            learn: true,
            ..EgressArgs::default()
        };
        let wish = args.read().unwrap();
        let learned = Learned::default();
        for host in ["a.test", "b.test", "a.test", "known.test"] {
            learned.add(Seen { flows: vec![refused(host)], missed: 1 });
        }
        insta::assert_snapshot!(learned.told(&wish));
    }

    #[test]
    fn nothing_refused_is_said_in_words() {
        let wish = EgressArgs { learn: true, ..EgressArgs::default() }.read().unwrap();
        assert!(Learned::default().told(&wish).starts_with("courier: nothing was refused"));
    }
}
