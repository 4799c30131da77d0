//! Where images of templates come from: flags of `courier serve`, with the environment variables that
//! stand for them.

use courier_image::registry::{DefaultRegistry, KnownRegistry};

use crate::local_images::LocalImage;

/// Where images come from.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Images of templates")]
pub(crate) struct RegistryArgs {
    /// Registry that may be private or on this machine, where its API is if elsewhere, and whether
    /// it has no TLS [default: those of /etc/containers/registries.conf] (may be repeated; with ';'
    /// between several in the variable)
    #[arg(
        long,
        value_name = "HOST[:PORT][=HOST[:PORT][/PATH]][,insecure]",
        value_delimiter = ';',
        env = "COURIER_REGISTRIES",
        hide_env_values = true
    )]
    pub(crate) registry: Vec<KnownRegistry>,
    /// Registry of images whose names have none, such as python:3.12, and what stands before names
    /// of one word there [default: that of the machine's container tools, if they have one]
    #[arg(
        long,
        value_name = "HOST[:PORT][/NAMESPACE]",
        env = "COURIER_REGISTRY_DEFAULT",
        hide_env_values = true
    )]
    pub(crate) registry_default: Option<DefaultRegistry>,
    /// Root file system on this machine that templates may start from as local/NAME: a tar, plain or
    /// compressed by gzip or zstd, or a folder (may be repeated; with ';' between several in the
    /// variable)
    #[arg(
        long,
        value_name = "NAME=PATH",
        value_delimiter = ';',
        env = "COURIER_IMAGES",
        hide_env_values = true
    )]
    pub(crate) image: Vec<LocalImage>,
    /// Pull from no other registries than these
    #[arg(long, env = "COURIER_REGISTRY_ONLY", hide_env_values = true)]
    pub(crate) registry_only: bool,
}
