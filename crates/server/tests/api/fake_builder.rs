//! A builder without sandboxes: it remembers what it was asked, and does what a test says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use courier_protocol::node::{
    BuildError, BuildLog, BuildLogLevel, BuildOrder, BuildSource, BuildStage, BuildWatcher,
    Builder, Built, NodeError, StepKind,
};
use courier_types::{BuildConfig, Timestamp};
use http_body_util::BodyExt as _;
use tokio::sync::watch;

/// What `build` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Work,
    /// Its second step fails, after so many lines.
    Fail(usize),
    Full,
    Break,
    Panic,
    /// It waits until [`FakeBuilder::release`].
    Wait,
}

struct State {
    does: Does,
    removes_fail: bool,
    orders: Vec<BuildOrder>,
    /// The archives that steps named.
    archives: Vec<Vec<u8>>,
    kept: BTreeSet<String>,
    /// Builds that are being made now.
    under_way: usize,
}

pub(crate) struct FakeBuilder {
    state: Mutex<State>,
    released: watch::Sender<bool>,
}

impl FakeBuilder {
    pub(crate) fn new() -> Self {
        let state = State {
            does: Does::Work,
            removes_fail: false,
            orders: Vec::new(),
            archives: Vec::new(),
            kept: BTreeSet::new(),
            under_way: 0,
        };
        Self { state: Mutex::new(state), released: watch::channel(false).0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn does(&self, does: Does) {
        self.lock().does = does;
    }

    pub(crate) fn removes_fail(&self, fail: bool) {
        self.lock().removes_fail = fail;
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) fn last_order(&self) -> BuildOrder {
        self.lock().orders.last().expect("something was ordered").clone()
    }

    pub(crate) fn orders(&self) -> usize {
        self.lock().orders.len()
    }

    pub(crate) fn archives(&self) -> Vec<Vec<u8>> {
        self.lock().archives.clone()
    }

    pub(crate) fn kept(&self) -> Vec<String> {
        self.lock().kept.iter().cloned().collect()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.lock().under_way
    }

    pub(crate) fn plant(&self, reference: &str) {
        self.lock().kept.insert(reference.to_owned());
    }
}

/// Counts a build until it ends or is dropped.
struct UnderWay<'a>(&'a FakeBuilder);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

fn entry(stage: BuildStage, level: BuildLogLevel, message: String) -> BuildLog {
    BuildLog { at: Timestamp::from_micros(1_000_000), level, stage, message }
}

#[async_trait]
impl Builder for FakeBuilder {
    async fn build(
        &self,
        order: BuildOrder,
        watcher: Arc<dyn BuildWatcher>,
    ) -> Result<Built, BuildError> {
        let does = {
            let mut state = self.lock();
            state.orders.push(order.clone());
            state.under_way += 1;
            state.does
        };
        let _under_way = UnderWay(self);
        watcher.log(entry(BuildStage::Base, BuildLogLevel::Debug, "the base".to_owned()));
        for step in &order.steps {
            if let StepKind::Copy { files, .. } = &step.kind {
                let body = watcher.files(files).await.unwrap();
                let bytes = body.collect().await.unwrap().to_bytes().to_vec();
                self.lock().archives.push(bytes);
            }
        }
        match does {
            Does::Work => {}
            Does::Fail(lines) => {
                let stage = BuildStage::Step(2);
                for line in 0..lines {
                    let text = format!("line {line}");
                    watcher.log(entry(stage, BuildLogLevel::Info, text));
                }
                let message = "failed to run command 'make': exit status 2".to_owned();
                watcher.log(entry(stage, BuildLogLevel::Error, message.clone()));
                return Err(BuildError::Failed { stage, message });
            }
            Does::Full => {
                return Err(NodeError::Full { what: "memory".to_owned() }.into());
            }
            Does::Break => {
                return Err(NodeError::Node("a secret of the host's".into()).into());
            }
            Does::Panic => panic!("a test asked for it"),
            Does::Wait => {
                self.released.subscribe().wait_for(|released| *released).await.unwrap();
            }
        }
        watcher.log(entry(BuildStage::Finalize, BuildLogLevel::Info, "done".to_owned()));
        let base = match order.source {
            BuildSource::Build { config, .. } => config,
            BuildSource::Image { .. } => BuildConfig::default(),
        };
        self.lock().kept.insert(order.sandbox.build);
        Ok(Built {
            config: BuildConfig { start: order.start, ready: order.ready, ..base },
            size_bytes: 4_096,
            image_digest: None,
        })
    }

    async fn remove(&self, build: &str) -> Result<(), NodeError> {
        let mut state = self.lock();
        if state.removes_fail {
            return Err(NodeError::Node("it does not want to".into()));
        }
        state.kept.remove(build);
        Ok(())
    }

    async fn remove_except(&self, keep: &[String]) -> Result<Vec<String>, NodeError> {
        let mut state = self.lock();
        let (kept, removed) =
            std::mem::take(&mut state.kept).into_iter().partition(|build| keep.contains(build));
        state.kept = kept;
        Ok(removed.into_iter().collect::<BTreeSet<String>>().into_iter().collect())
    }
}
