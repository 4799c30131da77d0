//! What the steps of a build may reach: what the operator says of builds, and nothing that the
//! template they start from does not allow. Users have no say in it.

use std::collections::BTreeMap;

use courier_store::ProjectRow;
use courier_types::GuestFile;
use courier_types::egress::{NetworkSpec, Policy};

use crate::app::App;
use crate::egress::{EgressError, Granted, grant_build};
use crate::random;

/// The network of a build's sandbox, with what presets want beside it.
#[derive(Debug, Clone)]
pub(super) struct BuildNetwork {
    /// The network. Nobody knows the token of its ports.
    pub(super) network: NetworkSpec,
    /// Environment that presets want.
    pub(super) env: BTreeMap<String, String>,
    /// Files that presets want.
    pub(super) files: Vec<GuestFile>,
}

/// Makes the network of a build that starts from something with that bound.
pub(super) async fn network(
    app: &App,
    project: &ProjectRow,
    bound: Option<&Policy>,
) -> Result<BuildNetwork, EgressError> {
    let Granted { layers, env, files } = grant_build(app, &project.id, bound).await?;
    let network = NetworkSpec {
        egress: layers,
        traffic_token: Some(random::access_token()),
        project: Some(project.id.clone()),
        ..NetworkSpec::default()
    };
    Ok(BuildNetwork { network, env, files })
}
