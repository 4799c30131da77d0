//! Volumes of a node that has none: it remembers which there should be, and fails where a test says so.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use courier_protocol::node::{VolumeError, Volumes};
use courier_types::VolumeId;

#[derive(Debug, Default)]
pub(crate) struct FakeVolumes {
    made: Mutex<BTreeMap<VolumeId, u32>>,
    fail: Mutex<Fails>,
}

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fails {
    #[default]
    Nothing,
    /// Making, after the volume is there.
    Make,
    Delete,
}

impl FakeVolumes {
    pub(crate) fn fail(&self, fails: Fails) {
        *self.fail.lock().unwrap() = fails;
    }

    /// The sizes of those that are there.
    pub(crate) fn sizes(&self) -> Vec<u32> {
        self.made.lock().unwrap().values().copied().collect()
    }

    fn fails(&self, what: Fails) -> Result<(), VolumeError> {
        let fails = *self.fail.lock().unwrap() == what;
        if fails { Err(VolumeError::Node("a test asked for it".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Volumes for FakeVolumes {
    async fn make(&self, id: &VolumeId, size_mib: u32) -> Result<(), VolumeError> {
        self.made.lock().unwrap().insert(id.clone(), size_mib);
        self.fails(Fails::Make)
    }

    async fn delete(&self, id: &VolumeId) -> Result<(), VolumeError> {
        self.fails(Fails::Delete)?;
        match self.made.lock().unwrap().remove(id) {
            Some(_size) => Ok(()),
            None => Err(VolumeError::NotFound { id: id.clone() }),
        }
    }

    async fn list(&self) -> Result<Vec<VolumeId>, VolumeError> {
        Ok(self.made.lock().unwrap().keys().cloned().collect())
    }
}
