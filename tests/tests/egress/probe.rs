//! One probe: what a hostile program tries, and by what one sees that it got out.

use courier_tests::rig::Place;
use courier_tests::rig::journal::Event;
use courier_tests::wait;
use serde_json::Value;

use crate::world::{Attempt, World};

/// By what a leak is seen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sign {
    /// The attempt's own random text is in a packet that left, or in what a decoy received.
    Canary,
    /// The program says that somebody answered.
    Answer,
    /// A packet went to this address.
    Packet(&'static str),
    /// A TLS hello with this name arrived.
    Hello(&'static str),
    /// The node's own service was called.
    HostService,
    /// The program printed what only a metadata service tells.
    Metadata,
}

/// Where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    /// In the sandbox with the policy of the suite.
    Fenced,
    /// In a sandbox that may reach the whole internet: what is never allowed is not allowed there.
    Internet,
}

/// A line of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// The entry of the catalogue, with a letter for each of its variants.
    pub(crate) id: &'static str,
    /// A sentence about behaviour.
    pub(crate) name: &'static str,
    /// An expression of `probes/egress.py`.
    action: &'static str,
    /// What the control does, where it cannot be the very same.
    control: Option<&'static str>,
    signs: &'static [Sign],
    inside: Inside,
    user: &'static str,
    /// The fence that the flow log must name.
    fence: Option<&'static str>,
}

/// A probe whose leak shows by its canary, in the fenced sandbox, as an ordinary user.
pub(crate) const fn probe(id: &'static str, name: &'static str, action: &'static str) -> Probe {
    Probe {
        id,
        name,
        action,
        control: None,
        signs: &[Sign::Canary],
        inside: Inside::Fenced,
        user: "user",
        fence: None,
    }
}

impl Probe {
    /// Its leak shows by these signs. The control must show every one of them.
    pub(crate) const fn by(self, signs: &'static [Sign]) -> Self {
        Self { signs, ..self }
    }

    /// Its control does this instead.
    pub(crate) const fn control(self, action: &'static str) -> Self {
        Self { control: Some(action), ..self }
    }

    /// It runs where the whole internet is allowed.
    pub(crate) const fn on_the_internet(self) -> Self {
        Self { inside: Inside::Internet, ..self }
    }

    /// It runs as root inside.
    pub(crate) const fn as_root(self) -> Self {
        Self { user: "root", ..self }
    }

    /// The flow log says that this fence refused it.
    pub(crate) const fn fence(self, fence: &'static str) -> Self {
        Self { fence: Some(fence), ..self }
    }
}

impl World {
    /// Shows that the probe gets out where no fence is, and does not where one is.
    #[track_caller]
    pub(crate) fn hold(&self, probe: &Probe) {
        let place = self.rig.place();
        let control = self.outside(probe.control.unwrap_or(probe.action));
        for sign in probe.signs {
            assert!(
                self.shows(*sign, &control, &place),
                "the probe is broken: its control shows no {sign:?}: {}\n{}",
                control.outcome,
                self.told(&place)
            );
        }
        let sandbox = self.inside(probe.inside);
        let flows = self.last_flow(&sandbox);
        let place = self.rig.place();
        let attempt = self.attempt(&sandbox, probe.user, probe.action);
        for sign in probe.signs {
            assert!(
                !self.shows(*sign, &attempt, &place),
                "it got out: {sign:?}: {}\n{}",
                attempt.outcome,
                self.told(&place)
            );
        }
        if let Some(fence) = probe.fence {
            self.assert_refused(&sandbox, flows, fence, &attempt.outcome);
        }
    }

    /// Whether an attempt that began at `place` shows a sign.
    fn shows(&self, sign: Sign, attempt: &Attempt, place: &Place) -> bool {
        match sign {
            Sign::Canary => self.canary_is_out(&attempt.canary, place),
            Sign::Answer => attempt.outcome["reached"] == true,
            Sign::Packet(address) => {
                let address: std::net::IpAddr = address.parse().expect("a probe names an address");
                self.rig.packets(place).iter().any(|packet| packet.to == address)
            }
            Sign::Hello(wanted) => self.rig.events(place).iter().any(
                |event| matches!(event, Event::Hello { name: Some(name), .. } if name == wanted),
            ),
            Sign::HostService => self.host_service_was_called(place),
            Sign::Metadata => attempt.outcome.to_string().contains(&self.rig.world.canary),
        }
    }

    /// Whether a text left the node after `place`: in a packet as it is, or in what a decoy has
    /// understood.
    pub(crate) fn canary_is_out(&self, canary: &str, place: &Place) -> bool {
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, canary.as_bytes()).is_some();
        let packets = self.rig.packets(place);
        let told = self.told(place);
        // Names may come in another case.
        packets.iter().any(|packet| holds(&packet.bytes.to_ascii_lowercase()))
            || holds(told.to_ascii_lowercase().as_bytes())
    }

    /// What the decoys received after `place`, as JSON lines.
    pub(crate) fn told(&self, place: &Place) -> String {
        let events = self.rig.events(place);
        let line = |event: &Event| serde_json::to_string(event).expect("events are plain") + "\n";
        events.iter().map(line).collect()
    }

    fn host_service_was_called(&self, place: &Place) -> bool {
        self.rig.host_service_calls(place) > 0
    }

    /// Waits until the flow log says that a fence refused something.
    #[track_caller]
    pub(crate) fn assert_refused(
        &self,
        sandbox: &courier_tests::sandbox::Sandbox<'_>,
        after: u64,
        fence: &str,
        outcome: &Value,
    ) {
        wait::until("the refusal is in the flow log", crate::world::PROMPT, || {
            let flows = self.flows(sandbox, after);
            let refused = |flow: &Value| flow["event"] == "refused" && flow["fence"] == fence;
            if flows.iter().any(refused) {
                Ok(())
            } else {
                Err(format!("no {fence:?} in {flows:?}; {outcome}"))
            }
        });
    }
}
