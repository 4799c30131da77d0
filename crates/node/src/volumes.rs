//! Volumes: the driver's, with the words of the node's contract.

use std::time::Duration;

use async_trait::async_trait;
use courier_driver::DriverError;
use courier_protocol::node::{VolumeError, Volumes};
use courier_types::VolumeId;

use crate::local::LocalNode;

/// Longest wait for a driver. It waits itself for what is being let go of, which takes a few seconds
/// at most.
const DEADLINE: Duration = Duration::from_secs(90);

#[async_trait]
impl Volumes for LocalNode {
    async fn make(&self, id: &VolumeId, size_mib: u32) -> Result<(), VolumeError> {
        let volumes = self.driver().volumes().ok_or(VolumeError::Unsupported)?;
        in_time(volumes.make(id, size_mib)).await?.map_err(|error| failed(id, error))
    }

    async fn delete(&self, id: &VolumeId) -> Result<(), VolumeError> {
        let volumes = self.driver().volumes().ok_or(VolumeError::Unsupported)?;
        in_time(volumes.delete(id)).await?.map_err(|error| failed(id, error))
    }

    async fn list(&self) -> Result<Vec<VolumeId>, VolumeError> {
        let volumes = self.driver().volumes().ok_or(VolumeError::Unsupported)?;
        in_time(volumes.list()).await?.map_err(|error| VolumeError::Node(error.into()))
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, VolumeError> {
    tokio::time::timeout(DEADLINE, work).await.map_err(|elapsed| VolumeError::Node(elapsed.into()))
}

fn failed(id: &VolumeId, error: DriverError) -> VolumeError {
    let id = id.clone();
    match error {
        DriverError::NoVolume { .. } => VolumeError::NotFound { id },
        DriverError::VolumeInUse { .. } => VolumeError::InUse { id, source: error.into() },
        DriverError::Full { what } => VolumeError::Full { what },
        DriverError::Unavailable { .. }
        | DriverError::NotFound { .. }
        | DriverError::NotStarted { .. }
        | DriverError::Launcher(_)
        | DriverError::Host { .. } => VolumeError::Node(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_the_caller_can_do_something_about_keeps_its_kind() {
        let id = VolumeId::from_random([1; VolumeId::RANDOM_BYTES]);
        let told = |error| failed(&id, error);
        let missing = told(DriverError::NoVolume { id: id.to_string() });
        assert!(matches!(missing, VolumeError::NotFound { .. }));
        let used = told(DriverError::VolumeInUse { what: "x".to_owned() });
        assert!(matches!(used, VolumeError::InUse { .. }));
        let full = told(DriverError::Full { what: "x".to_owned() });
        assert!(matches!(full, VolumeError::Full { .. }));
        let broken = told(DriverError::Launcher(io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(broken, VolumeError::Node(_)));
    }
}
