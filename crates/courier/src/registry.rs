//! How builds get images: the operator's registries, and connections that lead to nothing private
//! but those.

mod dial;
mod machine;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use courier_egress::{Resolver, UpstreamTrust};
use courier_image::registry::{Others, PullBounds, Registries, RegistrySettings};

use self::dial::GuardedDial;
use crate::compose::certificates;
use crate::config::outside::OutsideArgs;
use crate::config::registries::RegistryArgs;

/// The registries of this node.
///
/// # Errors
/// A flag cannot be used; the error names it.
pub(crate) fn registries(outside: &OutsideArgs) -> anyhow::Result<Registries> {
    let resolver = match outside.egress_resolver.as_slice() {
        [] => Resolver::system().context("name a DNS server with --egress-resolver")?,
        servers => Resolver::with_servers(servers).context("--egress-resolver cannot be used")?,
    };
    let extra = outside.egress_ca.iter().map(|path| certificates(path));
    let extra = extra.collect::<anyhow::Result<Vec<_>>>()?;
    let trust = UpstreamTrust::new(&extra).context("the CA certificates cannot be used")?;
    let settings = settings(&outside.registries, Path::new("/"));
    let dial = Arc::new(GuardedDial::new(resolver));
    Ok(Registries::new(settings, dial, trust.http1(), PullBounds::default()))
}

/// What the flags say, and where they say nothing, what the container tools of the machine say
/// whose root folder it is.
fn settings(args: &RegistryArgs, root: &Path) -> RegistrySettings {
    let machine = machine::settings(root);
    // The first one of a name counts, so flags come first.
    let known = args.registry.iter().cloned().chain(machine.known).collect();
    let others = if args.registry_only { Others::None } else { Others::Public };
    let default = args.registry_default.clone().or(machine.default);
    RegistrySettings { known, default, blocked: machine.blocked, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_before_what_the_machine_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/containers");
        std::fs::create_dir_all(&folder).unwrap();
        let text = "unqualified-search-registries = [\"machine.test\"]\n\
                    [[registry]]\nlocation = \"same.test\"\ninsecure = true\n";
        std::fs::write(folder.join("registries.conf"), text).unwrap();
        let none = settings(&RegistryArgs::default(), root.path());
        assert_eq!(none.default.unwrap().to_string(), "machine.test");
        assert_eq!((none.known.len(), none.others), (1, Others::Public));
        let args = RegistryArgs {
            image: Vec::new(),
            registry: vec!["same.test".parse().unwrap()],
            registry_default: Some("flag.test/library".parse().unwrap()),
            registry_only: true,
        };
        let set = settings(&args, root.path());
        assert_eq!(set.default.unwrap().to_string(), "flag.test/library");
        assert_eq!(set.known[0], "same.test".parse().unwrap());
        assert_eq!(set.others, Others::None);
    }
}
