//! What the operator decides.

use std::time::Duration;

use courier_types::egress::{Policy, PresetName};

/// What sandboxes may reach of which neither template nor create says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressDefault {
    /// Nothing.
    #[default]
    Deny,
    /// Everything public: E2B's default.
    Internet,
}

/// What the steps of builds may reach, whoever builds.
#[derive(Debug, Clone, PartialEq)]
pub enum BuildEgress {
    /// What these presets stand for, as far as the node has them.
    Presets(Vec<PresetName>),
    /// Everything public.
    Internet,
    /// What this policy says.
    Policy(Box<Policy>),
}

/// The package managers that builds may use where the operator says nothing: those of most builds.
const BUILD_PRESETS: [&str; 5] = ["apt", "cargo", "go", "npm", "pypi"];

impl Default for BuildEgress {
    fn default() -> Self {
        Self::Presets(BUILD_PRESETS.iter().filter_map(|name| name.parse().ok()).collect())
    }
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
    /// The same for a template with a start or ready command, which runs before the sandbox counts as
    /// made. Below the time that an answer may take.
    pub create_timeout_started: Duration,
    /// Time between two sweeps, which repeat what failed and end what nobody ended.
    pub sweep_every: Duration,
    /// How long ended sandboxes stay visible.
    pub ended_kept_for: Duration,
    /// How many ended sandboxes stay visible.
    pub ended_kept_max: u64,
    /// What sandboxes may reach when nobody says.
    pub egress_default: EgressDefault,
    /// What the steps of builds may reach.
    pub build_egress: BuildEgress,
    /// Builds that are made at once; the others wait for their turn.
    pub builds_at_once: usize,
    /// Builds that one project may have under way, those that wait for their turn included, and as
    /// many that were asked for and are not started.
    pub builds_max: u64,
    /// How long a build may take, from its turn on.
    pub build_timeout: Duration,
    /// Templates that one project may have.
    pub templates_max: u64,
    /// Largest uploaded archive, in bytes.
    pub upload_max_bytes: u64,
    /// Bytes of uploaded archives that one project may have; what was not used for longest goes.
    pub uploads_max_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: None,
            sandboxes_max: 100,
            timeout_max: Duration::from_hours(24),
            create_timeout: Duration::from_mins(1),
            create_timeout_started: Duration::from_secs(150),
            sweep_every: Duration::from_secs(30),
            ended_kept_for: Duration::from_hours(24 * 7),
            ended_kept_max: 10_000,
            egress_default: EgressDefault::Deny,
            build_egress: BuildEgress::default(),
            builds_at_once: 2,
            builds_max: 20,
            build_timeout: Duration::from_hours(1),
            templates_max: 500,
            upload_max_bytes: 1 << 30,
            uploads_max_bytes: 4 << 30,
        }
    }
}
