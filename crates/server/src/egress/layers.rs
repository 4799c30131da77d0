//! From what is asked to layers: presets are resolved, tunnels looked up, and what is asked is held
//! against the template's bound. Nothing is widened, and nothing is dropped without a word.

use std::collections::BTreeMap;

use courier_egress::policy::{CompileError, Compiled, Uncovered, covers};
use courier_protocol::node::{OfferedTunnel, PRESET_SECRETS, PresetError, ResolvedPreset};
use courier_types::egress::{
    Action, Credential, Destination, Layer, LayerSource, Layers, NetworkSpec, Policy, PolicyError,
    PortRange, PresetName, Protocol, Rule, SecretName, TunnelName, UpstreamProxy,
};
use courier_types::{GuestFile, ProjectId};

use crate::app::App;
use crate::http::{ApiError, chain};
use crate::{BuildEgress, EgressDefault};

/// Why a policy is not put in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("egress: {0}")]
    Policy(#[from] PolicyError),
    #[error("egress: {0}")]
    Compile(#[from] CompileError),
    #[error("egress: {0}")]
    Preset(PresetError),
    #[error("egress: preset {name} cannot be used", name = preset_name(.0))]
    PresetConfiguration(#[source] PresetError),
    #[error("egress: the template does not allow that much: {0}")]
    Beyond(#[from] Uncovered),
    #[error(
        "egress: the template does not allow any bytes to egressProxy, so nothing goes there: {0}"
    )]
    BeyondProxy(#[source] Uncovered),
    #[error(
        "egress: the template does not allow the internet, and whoever answers for names in \
         dnsServers could have them mean any address: {0}"
    )]
    BeyondResolver(#[source] Uncovered),
    #[error("egress: egressProxy has no HOST:PORT")]
    ProxyAddress,
    #[error("egress: there is no tunnel {name}; there are: {}", join(known))]
    Tunnel { name: TunnelName, known: Vec<OfferedTunnel> },
    #[error("egress: secret {name}: names that begin with {PRESET_SECRETS:?} belong to presets")]
    ReservedSecret { name: SecretName },
    #[error("the comparison of two policies was interrupted")]
    Interrupted,
    #[error("the operator's egress policy of builds cannot be put in force")]
    Builds(#[source] Box<Self>),
    #[error("the template's own egress policy cannot be put in force")]
    Template(#[source] Box<Self>),
}

fn preset_name(error: &PresetError) -> &str {
    match error {
        PresetError::Unknown { name, .. } | PresetError::Configuration { name, .. } => {
            name.as_str()
        }
    }
}

fn join(tunnels: &[OfferedTunnel]) -> String {
    let names: Vec<&str> = tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl From<PresetError> for EgressError {
    fn from(error: PresetError) -> Self {
        match error {
            PresetError::Unknown { .. } => Self::Preset(error),
            PresetError::Configuration { .. } => Self::PresetConfiguration(error),
        }
    }
}

impl From<EgressError> for ApiError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Policy(_)
            | EgressError::Compile(_)
            | EgressError::Preset(_)
            | EgressError::Beyond(_)
            | EgressError::BeyondProxy(_)
            | EgressError::BeyondResolver(_)
            | EgressError::ProxyAddress
            | EgressError::Tunnel { .. }
            | EgressError::ReservedSecret { .. } => Self::bad_request(error.to_string()),
            // The operator's to mend: what is wrong is in the log, with the host's paths.
            EgressError::PresetConfiguration(_) => {
                tracing::error!(error = chain(&error), "a preset cannot be used");
                Self::conflict(format!("{error}: the server's log says why"))
            }
            EgressError::Builds(_) | EgressError::Template(_) | EgressError::Interrupted => {
                Self::internal(&error)
            }
        }
    }
}

/// What is asked of a sandbox's egress.
#[derive(Debug, Clone, Default)]
pub(crate) enum Asked {
    /// Nothing: the template's policy, or the server's default where there is none.
    #[default]
    Nothing,
    /// This policy.
    Whole(Policy),
    /// These wishes, and for the rest what would be without them.
    Wish(Wish),
}

/// Wishes in E2B's form. They are tried in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What shall be reached.
    pub(crate) allow: Vec<Rule>,
    /// What shall not.
    pub(crate) deny: Vec<Rule>,
    /// Whether the rest shall be reached; what would be without a wish where nothing is said.
    pub(crate) internet: Option<bool>,
    /// What is added to requests.
    pub(crate) credentials: Vec<Credential>,
}

impl Wish {
    fn rules(&self) -> Vec<Rule> {
        self.allow.iter().chain(&self.deny).cloned().collect()
    }
}

/// What may be put in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted {
    /// What decides.
    pub(crate) layers: Layers,
    /// Environment that presets want.
    pub(crate) env: BTreeMap<String, String>,
    /// Files that presets want.
    pub(crate) files: Vec<GuestFile>,
}

impl Granted {
    fn add(&mut self, source: LayerSource, resolved: Resolved) {
        self.env.extend(resolved.env);
        for file in resolved.files {
            self.files.retain(|known| known.path != file.path);
            self.files.push(file);
        }
        self.layers.0.push(Layer { source, policy: resolved.policy });
    }
}

/// A policy without presets, and what they brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    policy: Policy,
    env: BTreeMap<String, String>,
    files: Vec<GuestFile>,
}

impl Resolved {
    fn add(&mut self, preset: ResolvedPreset) {
        self.policy.rules.extend(preset.rules);
        self.policy.credentials.extend(preset.credentials);
        self.env.extend(preset.env);
        self.files.extend(preset.files);
    }
}

impl From<Policy> for Resolved {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}

/// The bound that a template lays down.
pub(crate) async fn template_bound(
    app: &App,
    project: &ProjectId,
    policy: Option<&Policy>,
) -> Result<Option<Resolved>, EgressError> {
    let Some(policy) = policy else { return Ok(None) };
    resolve(app, project, policy.clone())
        .await
        .map(Some)
        .map_err(|error| EgressError::Template(Box::new(error)))
}

/// The layers that come of what is asked, under a template's bound where there is one.
pub(crate) async fn grant(
    app: &App,
    project: &ProjectId,
    bound: Option<Resolved>,
    asked: Asked,
) -> Result<Granted, EgressError> {
    let own = match asked {
        Asked::Nothing if bound.is_some() => None,
        Asked::Nothing => Some(Resolved::from(default_policy(app))),
        Asked::Whole(policy) => {
            let resolved = resolve(app, project, policy).await?;
            if let Some(bound) = &bound {
                check_bound(&bound.policy, resolved.policy.clone()).await?;
            }
            Some(resolved)
        }
        Asked::Wish(wish) => {
            let policy = wished(app, bound.as_ref().map(|bound| &bound.policy), wish).await?;
            Some(resolve(app, project, policy).await?)
        }
    };
    let mut granted = Granted::default();
    if let Some(bound) = bound {
        granted.add(LayerSource::Template, bound);
    }
    if let Some(own) = own {
        granted.add(LayerSource::Sandbox, own);
    }
    Compiled::new(&granted.layers)?;
    Ok(granted)
}

/// The layers of a build's steps: what the operator says of builds, under the bound of the template
/// that they start from where there is one.
pub(crate) async fn grant_build(
    app: &App,
    project: &ProjectId,
    bound: Option<&Policy>,
) -> Result<Granted, EgressError> {
    let bound = template_bound(app, project, bound).await?;
    let own = match &app.config.build_egress {
        BuildEgress::Presets(names) => usable_presets(app, names).await,
        BuildEgress::Internet => Policy::internet().into(),
        BuildEgress::Policy(policy) => resolve(app, project, (**policy).clone())
            .await
            .map_err(|error| EgressError::Builds(Box::new(error)))?,
    };
    let mut granted = Granted::default();
    if let Some(bound) = bound {
        granted.add(LayerSource::Template, bound);
    }
    granted.add(LayerSource::Sandbox, own);
    Compiled::new(&granted.layers)?;
    Ok(granted)
}

/// What those presets stand for that this node can give: most nodes have not every package manager.
async fn usable_presets(app: &App, names: &[PresetName]) -> Resolved {
    let mut resolved = Resolved::default();
    for name in names {
        match app.presets.resolve(name).await {
            Ok(preset) => resolved.add(preset),
            Err(error) => {
                tracing::debug!(preset = %name, error = chain(&error), "builds go without a preset");
            }
        }
    }
    resolved
}

/// Holds the ways out of a network against its template's policy. A proxy sees all that goes out and
/// may send it anywhere, and a resolver may have any name mean any address: without this a create
/// would reach through them what the template does not allow.
pub(crate) fn check_ways(network: &NetworkSpec) -> Result<(), EgressError> {
    let template = |layer: &&Layer| layer.source == LayerSource::Template;
    let Some(bound) = network.egress.0.iter().find(template) else { return Ok(()) };
    if let Some(proxy) = &network.upstream_proxy {
        let way = Policy { rules: vec![rule_of(proxy)?], ..Policy::default() };
        covers(&bound.policy, &way).map_err(EgressError::BeyondProxy)?;
    }
    if network.dns_servers.is_empty() {
        return Ok(());
    }
    covers(&bound.policy, &Policy::internet()).map_err(EgressError::BeyondResolver)
}

/// Any bytes to a proxy.
fn rule_of(proxy: &UpstreamProxy) -> Result<Rule, EgressError> {
    let parsed = proxy
        .address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.parse().ok()?, PortRange::one(port.parse().ok()?)?)));
    let (to, port) = parsed.ok_or(EgressError::ProxyAddress)?;
    let (ports, protocols) = (vec![port], vec![Protocol::Tcp]);
    Ok(Rule { ports, protocols, ..Rule::new(Action::Allow, to) })
}

/// Holds a policy against its bound, beside the work of others: two large ones keep a processor busy
/// for some tenths of a second.
async fn check_bound(bound: &Policy, asked: Policy) -> Result<(), EgressError> {
    let bound = bound.clone();
    let compared = tokio::task::spawn_blocking(move || covers(&bound, &asked)).await;
    Ok(compared.map_err(|_join| EgressError::Interrupted)??)
}

/// What a sandbox may reach of which nobody says anything.
fn default_policy(app: &App) -> Policy {
    match app.config.egress_default {
        EgressDefault::Deny => Policy::default(),
        EgressDefault::Internet => Policy::internet(),
    }
}

/// The policy of a wish. Only what is wished for by name is held against the bound: "the rest" below
/// it is whatever the bound allows, which the bound's own layer sees to.
async fn wished(app: &App, bound: Option<&Policy>, wish: Wish) -> Result<Policy, EgressError> {
    let internet = || Rule::new(Action::Allow, Destination::Internet);
    let mut rules = wish.rules();
    if wish.internet == Some(true) {
        rules.push(internet());
    }
    let mut tunnels = Vec::new();
    if let Some(bound) = bound {
        let asked = Policy { rules: rules.clone(), ..Policy::default() };
        asked.check()?;
        check_bound(bound, asked).await?;
        tunnels.clone_from(&bound.tunnels);
        if wish.internet.is_none() {
            rules.push(internet());
        }
    } else if wish.internet.is_none() {
        rules.extend(default_policy(app).rules);
    }
    Ok(Policy { rules, credentials: wish.credentials, tunnels, ..Policy::default() })
}

/// Checks a policy as a user wrote it, and puts rules in the place of its presets.
async fn resolve(
    app: &App,
    project: &ProjectId,
    mut policy: Policy,
) -> Result<Resolved, EgressError> {
    policy.check()?;
    let secrets = policy.credentials.iter().flat_map(|credential| credential.injection.secrets());
    for name in secrets {
        if name.as_str().starts_with(PRESET_SECRETS) {
            return Err(EgressError::ReservedSecret { name: name.clone() });
        }
    }
    check_tunnels(app, project, &policy.tunnels)?;
    let names = std::mem::take(&mut policy.presets);
    let mut resolved = Resolved::from(policy);
    for name in names {
        resolved.add(app.presets.resolve(&name).await?);
    }
    resolved.policy.check()?;
    Ok(resolved)
}

fn check_tunnels(app: &App, project: &ProjectId, names: &[TunnelName]) -> Result<(), EgressError> {
    if names.is_empty() {
        return Ok(());
    }
    let known = app.tunnels.offered(project);
    match names.iter().find(|name| known.iter().all(|tunnel| tunnel.name != **name)) {
        Some(name) => Err(EgressError::Tunnel { name: name.clone(), known }),
        None => Ok(()),
    }
}
