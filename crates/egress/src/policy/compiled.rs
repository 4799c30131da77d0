//! Layers of policies, ready to decide.

use std::net::{Ipv4Addr, SocketAddrV4};

use courier_types::egress::{
    Credential, HostName, LayerSource, Layers, PolicyError, PresetName, TunnelName,
};
use ipnet::Ipv4Net;

use super::layer::CompiledLayer;
use super::{Decision, Question, Reason, Scheme, Verdict};

/// Why layers cannot decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A policy with too many parts.
    #[error("the policy of the {layer} is too large")]
    Policy {
        /// Whose.
        layer: LayerSource,
        /// What is wrong.
        #[source]
        source: PolicyError,
    },
    /// A preset whose rules are not there.
    #[error("preset {preset:?} of the {layer} has not been resolved into rules", preset = preset.as_str())]
    Preset {
        /// Whose.
        layer: LayerSource,
        /// Which.
        preset: PresetName,
    },
    /// A rule that allows what no policy can open.
    #[error(
        "rule {rule} of the {layer} ({text}) can never be reached: {network} is never routed out of a sandbox"
    )]
    Unreachable {
        /// Whose.
        layer: LayerSource,
        /// The rule's place, from 0.
        rule: usize,
        /// The rule in words.
        text: String,
        /// What it names.
        network: Ipv4Net,
    },
}

/// The policies of one sandbox, ready to decide.
#[derive(Debug, Clone)]
pub struct Compiled {
    layers: Vec<CompiledLayer>,
}

impl Compiled {
    /// Makes layers ready to decide. Presets must have been resolved before.
    ///
    /// # Errors
    /// A policy is too large, has an unresolved preset, or allows what can never be reached.
    pub fn new(layers: &Layers) -> Result<Self, CompileError> {
        let layers = layers.0.iter().map(CompiledLayer::new).collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// Allows nothing.
    #[must_use]
    pub const fn deny_all() -> Self {
        Self { layers: Vec::new() }
    }

    /// Decides.
    #[must_use]
    pub fn decide<'p>(&'p self, question: &Question<'_>) -> Decision<'p> {
        let mut reasons = Vec::with_capacity(self.layers.len());
        let mut verdict = Verdict::Allow;
        for layer in &self.layers {
            let outcome = layer.outcome(question);
            reasons.push(layer.reason(outcome, question));
            match outcome.verdict {
                Verdict::Deny => return denied(reasons),
                Verdict::Inspect => verdict = Verdict::Inspect,
                Verdict::Allow => {}
            }
        }
        if self.layers.is_empty() {
            let text = "there is no policy: nothing is allowed".to_owned();
            return denied(vec![Reason { layer: LayerSource::Sandbox, rule: None, text }]);
        }
        if self.must_open(question) {
            verdict = Verdict::Inspect;
        }
        Decision { verdict, reasons, credentials: self.credentials_for(question) }
    }

    /// True when a layer wants what is refused to be recorded, for a proposal.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.layers.iter().any(|layer| layer.learn)
    }

    /// True when every layer names the tunnel.
    #[must_use]
    pub fn allows_tunnel(&self, name: &TunnelName) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| layer.tunnels.contains(name))
    }

    /// True when TLS to that address passes whatever name it asks for, and so where the name is
    /// hidden, too.
    pub(crate) fn passes_any_name(&self, address: SocketAddrV4) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| layer.passes_any_name(address))
    }

    /// True when some rule is about a network with that address, other than one with all.
    pub(super) fn names_network_of(&self, address: Ipv4Addr) -> bool {
        self.layers.iter().any(|layer| layer.names_network_of(address))
    }

    fn all_credentials(&self) -> impl Iterator<Item = &Credential> {
        self.layers.iter().flat_map(|layer| &layer.credentials)
    }

    fn has_credential(&self, host: &HostName, port: u16) -> bool {
        self.all_credentials().any(|credential| is_at(credential, host, port))
    }

    /// True when a credential could have to be added to what comes on that connection.
    fn must_open(&self, question: &Question<'_>) -> bool {
        match question {
            Question::Connection { address, names } => {
                names.iter().any(|name| self.has_credential(name, address.port()))
            }
            Question::Tls { address, host: Some(host) } => {
                self.has_credential(host, address.port())
            }
            Question::Tls { host: None, .. }
            | Question::Name { .. }
            | Question::Opaque { .. }
            | Question::Request { .. } => false,
        }
    }

    /// What is added to a request.
    fn credentials_for(&self, question: &Question<'_>) -> Vec<&Credential> {
        let Question::Request { scheme: Scheme::Https, address, host: Some(host), method, path } =
            question
        else {
            return Vec::new();
        };
        let wanted = |credential: &&Credential| {
            is_at(credential, host, address.port())
                && (credential.methods.is_empty()
                    || credential.methods.iter().any(|of| of.as_str() == *method))
                && (credential.paths.is_empty()
                    || credential.paths.iter().any(|of| of.matches(path)))
        };
        self.all_credentials().filter(wanted).collect()
    }
}

/// A credential that names no port is for 443.
fn is_at(credential: &Credential, host: &HostName, port: u16) -> bool {
    let here = match credential.ports.as_slice() {
        [] => port == 443,
        ports => ports.iter().any(|range| range.contains(port)),
    };
    here && credential.host.matches(host)
}

const fn denied<'p>(reasons: Vec<Reason>) -> Decision<'p> {
    Decision { verdict: Verdict::Deny, reasons, credentials: Vec::new() }
}
