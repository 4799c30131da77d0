//! What a node is told when it is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use courier_protocol::node::BoxError;
use courier_types::Timestamp;

use crate::admission::Capacity;
use crate::network::NetworkConfig;

/// Tells the wall-clock time. Injected, so that tests decide what time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The host's wall clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().into())
}

/// Which builds are on this node.
#[async_trait]
pub trait Builds: Send + Sync + 'static {
    /// The read-only root filesystem image of a build, if it is here. Where only its parts are, it is
    /// made of them first.
    ///
    /// # Errors
    /// The build is here, and its image cannot be made.
    async fn image(&self, build: &str) -> Result<Option<PathBuf>, BoxError>;

    /// References of all builds that are here, sorted.
    async fn list(&self) -> Vec<String>;
}

/// Builds as files of one directory: `DIR/REFERENCE.EXTENSION`.
#[derive(Debug, Clone)]
pub struct BuildDir {
    dir: PathBuf,
    extension: String,
}

impl BuildDir {
    /// The images with an extension (without its dot) in a directory.
    #[must_use]
    pub const fn new(dir: PathBuf, extension: String) -> Self {
        Self { dir, extension }
    }
}

/// A reference becomes a file name: letters, digits, `_`, `-` and inner dots only.
pub(crate) fn is_reference(build: &str) -> bool {
    !build.is_empty()
        && build.len() <= 128
        && !build.starts_with('.')
        && build.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl BuildDir {
    /// The image of a build, if it is here.
    fn find(&self, build: &str) -> Option<PathBuf> {
        if !is_reference(build) {
            return None;
        }
        let path = self.dir.join(format!("{build}.{}", self.extension));
        path.is_file().then_some(path)
    }
}

#[async_trait]
impl Builds for BuildDir {
    async fn image(&self, build: &str) -> Result<Option<PathBuf>, BoxError> {
        Ok(self.find(build))
    }

    async fn list(&self) -> Vec<String> {
        let suffix = format!(".{}", self.extension);
        // A directory that cannot be read holds no build that could be started.
        let mut builds: Vec<String> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(&suffix).map(str::to_owned))
            .filter(|build| is_reference(build))
            .collect();
        builds.sort();
        builds
    }
}

/// How a node works.
#[derive(Clone)]
pub struct NodeConfig {
    /// Where its builds are.
    pub builds: Arc<dyn Builds>,
    /// How much it takes on.
    pub capacity: Capacity,
    /// Most machines that are made at the same time; further ones wait for their turn.
    pub making_limit: usize,
    /// Longest time for the driver to make a machine.
    pub make_deadline: Duration,
    /// Longest time for a guest daemon to answer after that.
    pub ready_deadline: Duration,
    /// Longest time for the start and ready commands of a build after that.
    pub start_deadline: Duration,
    /// Longest wait for the head of a guest's answer, once the request is sent whole.
    pub answer_deadline: Duration,
    /// What its sandboxes' networks are made of.
    pub network: NetworkConfig,
    /// Tells the time.
    pub clock: Clock,
}

impl NodeConfig {
    /// A configuration with the usual deadlines.
    #[must_use]
    pub fn new(builds: Arc<dyn Builds>, capacity: Capacity, network: NetworkConfig) -> Self {
        Self {
            builds,
            capacity,
            // Measured: throughput still grows at two for each processor, and no longer at four.
            making_limit: 2 * std::thread::available_parallelism().map_or(2, usize::from),
            // A cold create takes 0.2 s; this is for a host under heavy load.
            make_deadline: Duration::from_secs(60),
            ready_deadline: Duration::from_secs(60),
            // Servers and E2B's SDKs give up on a create after a minute: they shall still be told what
            // the commands wrote. What takes longer belongs into a step of the build.
            start_deadline: Duration::from_secs(50),
            // An upload's answer comes after the guest has synced the file.
            answer_deadline: Duration::from_secs(300),
            network,
            clock: system_clock(),
        }
    }
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("capacity", &self.capacity)
            .field("making_limit", &self.making_limit)
            .field("make_deadline", &self.make_deadline)
            .field("ready_deadline", &self.ready_deadline)
            .field("start_deadline", &self.start_deadline)
            .field("answer_deadline", &self.answer_deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_reference_never_leads_out_of_its_directory() {
        for build in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\0", "ä"] {
            assert!(!is_reference(build), "{build:?}");
        }
        assert!(is_reference("base-3.12_x"));
    }
}
