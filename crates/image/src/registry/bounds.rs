//! How much of a registry is put up with.

use std::time::Duration;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// What one pull may take.
#[derive(Debug, Clone)]
pub struct PullBounds {
    /// Largest manifest in bytes. The distribution specification has registries take 4 MiB at least.
    pub manifest_bytes: u64,
    /// Largest configuration of an image in bytes: a few KiB are usual.
    pub config_bytes: u64,
    /// Most layers: Docker makes no more than 127.
    pub layers: usize,
    /// Most bytes of all layers as they are sent. Images with models in them have some 10 GiB.
    pub sent_bytes: u64,
    /// Most bytes of all layers, unpacked.
    pub unpacked_bytes: u64,
    /// Longest wait for a connection with TLS, for an answer, and for its next piece.
    pub quiet: Duration,
    /// Longest time for a manifest, a configuration or a token.
    pub document: Duration,
    /// Longest time for one layer, every try included.
    pub layer: Duration,
    /// How often something is asked in all before the registry's failure is the pull's.
    pub tries: u32,
    /// Pause before the second try; each further one is twice as long.
    pub pause: Duration,
    /// Longest pause, whatever a registry asks for.
    pub pause_max: Duration,
}

impl Default for PullBounds {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 * MIB,
            config_bytes: 4 * MIB,
            layers: 128,
            sent_bytes: 16 * GIB,
            unpacked_bytes: 32 * GIB,
            quiet: Duration::from_secs(30),
            document: Duration::from_secs(60),
            layer: Duration::from_secs(30 * 60),
            tries: 4,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(20),
        }
    }
}
