//! What the operator decides.

use std::time::Duration;

/// What sandboxes may reach of which neither template nor create says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressDefault {
    /// Nothing.
    #[default]
    Deny,
    /// Everything public: E2B's default.
    Internet,
}

/// Configuration of the server. [`Config::default`] is what an operator who says nothing gets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Domain of the data plane, with `:port` where it is not 443; none in URL mode. Create answers
    /// carry it, and the SDKs obey.
    pub domain: Option<String>,
    /// Sandboxes that one project may have at once.
    pub sandboxes_max: u64,
    /// Longest lifetime that a client may ask for, from the moment of asking.
    pub timeout_max: Duration,
    /// How long a node may take to make a sandbox before it is given up.
    pub create_timeout: Duration,
    /// Time between two sweeps, which repeat what failed and end what nobody ended.
    pub sweep_every: Duration,
    /// How long ended sandboxes stay visible.
    pub ended_kept_for: Duration,
    /// How many ended sandboxes stay visible.
    pub ended_kept_max: u64,
    /// What sandboxes may reach when nobody says.
    pub egress_default: EgressDefault,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: None,
            sandboxes_max: 100,
            timeout_max: Duration::from_hours(24),
            create_timeout: Duration::from_mins(1),
            sweep_every: Duration::from_secs(30),
            ended_kept_for: Duration::from_hours(24 * 7),
            ended_kept_max: 10_000,
            egress_default: EgressDefault::Deny,
        }
    }
}
