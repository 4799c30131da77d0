//! The life of one sandbox on its node, as a pure function of (state, event).
//!
//! ```text
//!                 Made              Ready
//!  Making ───────────▶ Greeting ───────────▶ Running
//!    │ EndAsked           │ EndAsked, GuestLost, Gone │
//!    ▼                    ▼                           ▼
//!  Doomed ──Made──▶ Ending ◀──────────────────────────┘
//!    │ NotMade         │ Destroyed
//!    ▼                 ▼
//!  Ended ◀─────────────┘          Making ──NotMade──▶ Ended
//! ```
//!
//! Always: `Ended` is left by nothing, is entered once, and is entered only when no process of the
//! sandbox is left. An event that cannot matter in a state changes nothing.

use courier_types::{EndReason, ObservedState};

/// How this node came by the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It makes it.
    Fresh,
    /// It took over one that runs already.
    Adopted,
}

impl Origin {
    /// The reason when a sandbox of this origin never answers.
    const fn never_answered(self) -> EndReason {
        match self {
            Self::Fresh => EndReason::NeverStarted,
            Self::Adopted => EndReason::GuestLost,
        }
    }

    /// The reason when there is no machine to begin with.
    const fn no_machine(self) -> EndReason {
        match self {
            Self::Fresh => EndReason::NeverStarted,
            Self::Adopted => EndReason::Lost,
        }
    }
}

/// Why a sandbox is being destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The node decided; this is the reason, whatever is found.
    Decided(EndReason),
    /// It ended or failed by itself. What the driver finds is the reason; this one where the driver
    /// found nothing but our own destroying.
    Suspected(EndReason),
}

impl Cause {
    /// The one reason, given what the driver found.
    const fn settle(self, found: EndReason) -> EndReason {
        match (self, found) {
            (Self::Decided(reason), _) | (Self::Suspected(reason), EndReason::Requested) => reason,
            (
                Self::Suspected(_),
                EndReason::Timeout
                | EndReason::Memory
                | EndReason::Crashed
                | EndReason::GuestLost
                | EndReason::Lost
                | EndReason::NeverStarted,
            ) => found,
        }
    }
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The driver makes the machine, or attaches to it.
    Making(Origin),
    /// The driver still makes the machine, which is to be destroyed as soon as it is there.
    Doomed(EndReason),
    /// The machine is there; its guest daemon has not answered yet.
    Greeting(Origin),
    /// The guest daemon answers.
    Running,
    /// Being destroyed.
    Ending(Cause),
    /// Nothing is left of it.
    Ended(EndReason),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The machine is there.
    Made,
    /// The machine could not be made, and nothing is left of it.
    NotMade,
    /// The guest daemon answered and has been told who it is.
    Ready,
    /// The guest daemon closed its channel, lied on it or did not answer in time.
    GuestLost,
    /// The machine ended by itself.
    Gone,
    /// Somebody asked for the end, or its time was up.
    EndAsked(EndReason),
    /// The machine is destroyed; the driver says how it ended.
    Destroyed(EndReason),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Tell the server.
    Report(ObservedState),
    /// Open the channel and greet the guest daemon.
    Greet,
    /// Close the channel and abort every request in flight.
    CutOff,
    /// Have the driver destroy the machine, again and again until it says that it did.
    Destroy,
}

impl State {
    /// The first state, with what to report of it.
    #[must_use]
    pub const fn first(origin: Origin) -> (Self, Action) {
        (Self::Making(origin), Action::Report(ObservedState::Creating))
    }

    /// What is shown outside.
    #[must_use]
    pub const fn observed(self) -> ObservedState {
        match self {
            Self::Making(_) | Self::Greeting(_) => ObservedState::Creating,
            Self::Running => ObservedState::Running,
            Self::Doomed(_) | Self::Ending(_) => ObservedState::Killing,
            Self::Ended(reason) => ObservedState::ended(reason),
        }
    }

    /// The next state and what follows, in order. Total: an event that cannot matter changes
    /// nothing.
    #[must_use]
    pub fn step(self, event: Event) -> (Self, Vec<Action>) {
        match self {
            Self::Making(origin) => making(origin, event),
            Self::Doomed(reason) => doomed(reason, event),
            Self::Greeting(origin) => greeting(origin, event),
            Self::Running => running(event),
            Self::Ending(cause) => ending(cause, event),
            Self::Ended(_) => (self, Vec::new()),
        }
    }
}

fn making(origin: Origin, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Made => (State::Greeting(origin), vec![Action::Greet]),
        Event::NotMade => end(origin.no_machine()),
        Event::EndAsked(reason) => {
            (State::Doomed(reason), vec![Action::Report(ObservedState::Killing)])
        }
        Event::Ready | Event::GuestLost | Event::Gone | Event::Destroyed(_) => {
            (State::Making(origin), Vec::new())
        }
    }
}

fn doomed(reason: EndReason, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Made => (State::Ending(Cause::Decided(reason)), vec![Action::Destroy]),
        Event::NotMade => end(reason),
        Event::EndAsked(_)
        | Event::Ready
        | Event::GuestLost
        | Event::Gone
        | Event::Destroyed(_) => (State::Doomed(reason), Vec::new()),
    }
}

fn greeting(origin: Origin, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Ready => (State::Running, vec![Action::Report(ObservedState::Running)]),
        Event::GuestLost => destroy(Cause::Suspected(origin.never_answered())),
        Event::Gone => destroy(match origin {
            Origin::Fresh => Cause::Decided(EndReason::NeverStarted),
            Origin::Adopted => Cause::Suspected(EndReason::Crashed),
        }),
        Event::EndAsked(reason) => destroy(Cause::Decided(reason)),
        Event::Made | Event::NotMade | Event::Destroyed(_) => (State::Greeting(origin), Vec::new()),
    }
}

fn running(event: Event) -> (State, Vec<Action>) {
    match event {
        Event::GuestLost => destroy(Cause::Suspected(EndReason::GuestLost)),
        Event::Gone => destroy(Cause::Suspected(EndReason::Crashed)),
        Event::EndAsked(reason) => destroy(Cause::Decided(reason)),
        Event::Made | Event::NotMade | Event::Ready | Event::Destroyed(_) => {
            (State::Running, Vec::new())
        }
    }
}

fn ending(cause: Cause, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Destroyed(found) => end(cause.settle(found)),
        Event::Made
        | Event::NotMade
        | Event::Ready
        | Event::GuestLost
        | Event::Gone
        | Event::EndAsked(_) => (State::Ending(cause), Vec::new()),
    }
}

fn destroy(cause: Cause) -> (State, Vec<Action>) {
    let actions = vec![Action::CutOff, Action::Report(ObservedState::Killing), Action::Destroy];
    (State::Ending(cause), actions)
}

fn end(reason: EndReason) -> (State, Vec<Action>) {
    (State::Ended(reason), vec![Action::CutOff, Action::Report(ObservedState::ended(reason))])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason() -> impl Strategy<Value = EndReason> {
        prop_oneof![
            Just(EndReason::Requested),
            Just(EndReason::Timeout),
            Just(EndReason::Memory),
            Just(EndReason::Crashed),
            Just(EndReason::Lost),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Made),
            Just(Event::NotMade),
            Just(Event::Ready),
            Just(Event::GuestLost),
            Just(Event::Gone),
            reason().prop_map(Event::EndAsked),
            reason().prop_map(Event::Destroyed),
        ]
    }

    fn origin() -> impl Strategy<Value = Origin> {
        prop_oneof![Just(Origin::Fresh), Just(Origin::Adopted)]
    }

    /// Plays a history; returns every state and every action.
    fn play(origin: Origin, events: &[Event]) -> (Vec<State>, Vec<Action>) {
        let (first, report) = State::first(origin);
        let (mut states, mut actions) = (vec![first], vec![report]);
        for event in events {
            let (state, follows) = states.last().unwrap().step(*event);
            states.push(state);
            actions.extend(follows);
        }
        (states, actions)
    }

    proptest! {
        #[test]
        fn a_sandbox_that_ended_never_changes_again_and_reports_its_end_once(
            origin in origin(), events in prop::collection::vec(event(), 0..40),
        ) {
            let (states, actions) = play(origin, &events);
            let ended = states.iter().position(|s| matches!(s, State::Ended(_)));
            if let Some(ended) = ended {
                prop_assert!(states[ended..].iter().all(|s| s == &states[ended]));
            }
            let ends = actions
                .iter()
                .filter(|a| matches!(a, Action::Report(state) if state.is_terminal()))
                .count();
            prop_assert_eq!(ends, usize::from(ended.is_some()));
        }

        #[test]
        fn what_is_shown_outside_never_goes_back(
            origin in origin(), events in prop::collection::vec(event(), 0..40),
        ) {
            let rank = |state: &State| match state.observed() {
                ObservedState::Creating => 0,
                ObservedState::Running => 1,
                ObservedState::Killing => 2,
                ObservedState::Killed { .. } | ObservedState::Error { .. } => 3,
            };
            let (states, _actions) = play(origin, &events);
            prop_assert!(states.windows(2).all(|pair| rank(&pair[0]) <= rank(&pair[1])));
        }

        #[test]
        fn a_kill_ends_a_sandbox_from_every_state_and_twice_is_once(
            origin in origin(), events in prop::collection::vec(event(), 0..20),
        ) {
            let mut history = events;
            history.push(Event::EndAsked(EndReason::Requested));
            history.push(Event::EndAsked(EndReason::Requested));
            // What the node's task brings in any case: the driver's answers.
            history.extend([Event::Made, Event::Destroyed(EndReason::Requested)]);
            let (states, actions) = play(origin, &history);
            prop_assert!(matches!(states.last(), Some(State::Ended(_))), "{:?}", states.last());
            let destroys = actions.iter().filter(|a| **a == Action::Destroy).count();
            prop_assert!(destroys <= 1);
        }

        #[test]
        fn a_machine_that_was_made_is_destroyed_before_the_end(
            origin in origin(), events in prop::collection::vec(event(), 0..40),
        ) {
            let (states, actions) = play(origin, &events);
            let made = states.iter().any(|s| matches!(s, State::Greeting(_) | State::Running));
            if made && matches!(states.last(), Some(State::Ended(_))) {
                prop_assert!(actions.contains(&Action::Destroy));
            }
        }
    }

    #[test]
    fn a_decision_of_ours_is_the_reason_whatever_the_driver_found() {
        let (ending, _) = State::Running.step(Event::EndAsked(EndReason::Timeout));
        let (ended, _) = ending.step(Event::Destroyed(EndReason::Crashed));
        assert_eq!(ended, State::Ended(EndReason::Timeout));
    }

    #[test]
    fn a_guest_lost_for_want_of_memory_ended_for_memory() {
        let (ending, _) = State::Running.step(Event::GuestLost);
        let (ended, _) = ending.step(Event::Destroyed(EndReason::Memory));
        assert_eq!(ended, State::Ended(EndReason::Memory));
        let (ended, _) = ending.step(Event::Destroyed(EndReason::Requested));
        assert_eq!(ended, State::Ended(EndReason::GuestLost));
    }
}
