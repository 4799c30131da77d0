//! From the steps of an order to what is to be done, and by which keys it is found in the cache.

use courier_protocol::node::{BuildError, BuildStage, Step, StepKind};

use super::key::Key;
use super::state::{PATH, State};
use super::text;

/// Most steps of a build: each may become a layer, and an image is made of all of them. Docker's own
/// limit for layers is 127.
const STEPS_MAX: usize = 500;

/// One step of a plan.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its place, counted from 1.
    pub(super) number: usize,
    /// What it does.
    pub(super) kind: StepKind,
    /// What it runs in.
    pub(super) before: State,
    /// What holds after it.
    pub(super) after: State,
    /// What its result is known by; absent where it changes nothing but the state.
    pub(super) key: Option<Key>,
    /// What an earlier build made of it is not used, nor of anything after it.
    pub(super) force: bool,
}

impl Planned {
    /// Where it is in the build.
    pub(super) const fn stage(&self) -> BuildStage {
        BuildStage::Step(self.number)
    }
}

/// Steps in their order, each with its state and key.
#[derive(Debug)]
pub(super) struct Plan {
    /// The steps.
    pub(super) steps: Vec<Planned>,
    /// What holds after the last one.
    pub(super) end: State,
}

impl Plan {
    /// Threads the state through the steps.
    ///
    /// # Errors
    /// A step makes no sense; the error names it.
    pub(super) fn of(source: Key, start: State, steps: Vec<Step>) -> Result<Self, BuildError> {
        if steps.len() > STEPS_MAX {
            let message = format!("the build has {} steps; {STEPS_MAX} are the most", steps.len());
            return Err(BuildError::Failed { stage: BuildStage::Base, message });
        }
        let (mut state, mut chain) = (start, source);
        let mut planned = Vec::with_capacity(steps.len());
        for (index, Step { kind, force }) in steps.into_iter().enumerate() {
            let number = index + 1;
            let after = state.after(&kind).map_err(|error| BuildError::Failed {
                stage: BuildStage::Step(number),
                message: format!("{}: {}", text::step(&kind), text::chain(&error)),
            })?;
            let key = match &kind {
                // It changes no file, and the keys of later steps cover the state.
                StepKind::Env(pairs) if !sets_path(pairs) => None,
                StepKind::Env(_)
                | StepKind::Run { .. }
                | StepKind::Copy { .. }
                | StepKind::Workdir(_)
                | StepKind::User(_) => {
                    chain = chain.step(&kind, &state);
                    Some(chain)
                }
            };
            let before = std::mem::replace(&mut state, after.clone());
            planned.push(Planned { number, kind, before, after, key, force });
        }
        Ok(Self { steps: planned, end: state })
    }
}

/// True for variables of which login shells have to be told.
fn sets_path(pairs: &[(String, String)]) -> bool {
    pairs.iter().any(|(name, _value)| name == PATH)
}

#[cfg(test)]
mod tests {
    use courier_types::BuildConfig;

    use super::*;

    fn source() -> Key {
        Key::of_layers::<[u8; 32]>(None, [])
    }

    fn plan(kinds: Vec<StepKind>) -> Result<Plan, BuildError> {
        let steps = kinds.into_iter().map(|kind| Step { kind, force: false }).collect();
        Plan::of(source(), State::of(&BuildConfig::default()), steps)
    }

    fn run(command: &str) -> StepKind {
        StepKind::Run { command: command.to_owned(), user: None }
    }

    fn env(name: &str, value: &str) -> StepKind {
        StepKind::Env(vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn each_step_runs_in_what_the_ones_before_left() {
        let plan = plan(vec![
            env("A", "1"),
            StepKind::User("app".to_owned()),
            StepKind::Workdir("/srv".to_owned()),
            run("make"),
        ])
        .unwrap();
        let make = &plan.steps[3];
        assert_eq!((make.before.user.as_str(), make.before.workdir.as_str()), ("app", "/srv"));
        assert_eq!(make.before, plan.end);
        assert_eq!(plan.steps[0].key, None);
        assert!(plan.steps[1..].iter().all(|step| step.key.is_some()));
    }

    #[test]
    fn a_changed_step_changes_its_key_and_all_after_it_and_none_before() {
        let keys = |kinds| {
            let keys = plan(kinds).unwrap().steps.into_iter().map(|step| step.key);
            keys.collect::<Vec<_>>()
        };
        let one = keys(vec![run("a"), run("b"), run("c")]);
        let two = keys(vec![run("a"), run("x"), run("c")]);
        assert_eq!(one[0], two[0]);
        assert!(one[1] != two[1] && one[2] != two[2]);
        let variable = keys(vec![run("a"), env("A", "1"), run("b"), run("c")]);
        assert!(variable[0] == one[0] && variable[2] != one[1]);
    }

    #[test]
    fn a_path_is_told_to_login_shells_and_so_has_a_key_of_its_own() {
        let key = |value: &str| plan(vec![env("PATH", value)]).unwrap().steps[0].key;
        assert!(key("/a").is_some() && key("/a") != key("/b"));
    }

    #[test]
    fn a_step_that_makes_no_sense_is_named_with_its_number() {
        let error = plan(vec![run("a"), StepKind::User("1 2".to_owned())]).unwrap_err();
        let BuildError::Failed { stage, message } = error else { unreachable!("{error:?}") };
        assert_eq!(stage, BuildStage::Step(2));
        assert!(message.starts_with("USER 1 2: \"1 2\" is no name of a user"), "{message}");
        assert!(plan(vec![run("a"); 501]).is_err());
    }
}
