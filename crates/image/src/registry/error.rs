//! Why an image was not pulled, and by whose fault.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::auth::AuthError;
use super::digest::BlobDigest;
use super::manifest::ManifestError;
use super::settings::SiteError;
use super::web::WebError;

/// What a registry has, in the words of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The manifest or index of the reference, or the manifest that an index leads to.
    Manifest,
    /// The image's configuration.
    Config,
    /// A layer.
    Layer {
        /// Which, counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("the manifest"),
            Self::Config => f.write_str("the configuration"),
            Self::Layer { number, of } => write!(f, "layer {number} of {of}"),
        }
    }
}

/// What a registry said that is not so. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// The bytes are not those that were asked for.
    #[error("asked for {asked}, it sent bytes with the digest {sent}")]
    Digest {
        /// What was asked for.
        asked: BlobDigest,
        /// What came.
        sent: BlobDigest,
    },
    /// The header says another digest than the bytes have.
    #[error("its Docker-Content-Digest says {said}, the bytes have the digest {sent}")]
    Header {
        /// What it says.
        said: BlobDigest,
        /// What came.
        sent: BlobDigest,
    },
    /// There are more or fewer bytes than the manifest says.
    #[error("the manifest says {said} bytes, it sent {sent}")]
    Size {
        /// What the manifest says.
        said: u64,
        /// What came, or what its head announced. As far as it was read.
        sent: String,
    },
    /// The unpacked bytes are not those that the configuration names.
    #[error("the configuration says that it unpacks to {said}, it unpacks to {unpacked}")]
    DiffId {
        /// What the configuration says.
        said: BlobDigest,
        /// What it is.
        unpacked: BlobDigest,
    },
    /// The manifest and the configuration do not have the same layers.
    #[error("the manifest has {layers} layers, the configuration {diff_ids}")]
    Layers {
        /// Those of the manifest.
        layers: usize,
        /// Those of the configuration.
        diff_ids: usize,
    },
}

/// Why something was not got from a registry.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// No login that it takes.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// It has no such thing.
    #[error("it does not have it")]
    Missing,
    /// Another answer than that.
    #[error("it answers {status}")]
    Status {
        /// The answer.
        status: StatusCode,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Redirects without end, or to an address without TLS.
    #[error("it redirects too often, or to what is not followed")]
    Redirect,
}

impl FetchError {
    /// Whether the same may succeed a moment later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Web(error) => error.passes(),
            Self::Status { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
            }
            Self::Auth(_) | Self::Missing | Self::Redirect => false,
        }
    }
}

/// Why an image was not pulled. Of what was pulled before, only whole and verified layers are kept.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No registry is asked. The caller's or the operator's fault; nothing was sent.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The registry has no such image.
    #[error("there is no image {reference}")]
    NoImage {
        /// The image.
        reference: String,
    },
    /// Something was not got.
    #[error("{item} of {reference} cannot be had from {registry}")]
    Fetch {
        /// The image.
        reference: String,
        /// The registry.
        registry: String,
        /// What.
        item: Item,
        /// What was met.
        #[source]
        source: Box<FetchError>,
    },
    /// The registry lies.
    #[error("registry {registry} lies about {item} of {reference}")]
    Lie {
        /// The image.
        reference: String,
        /// The registry.
        registry: String,
        /// About what.
        item: Item,
        /// How.
        #[source]
        source: Box<Lie>,
    },
    /// It is no image that can be used.
    #[error("{reference} cannot be used")]
    Unusable {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// It is for other machines.
    #[error(
        "{reference} is an image for another architecture: this node is {wanted}, it has {there}"
    )]
    Platform {
        /// The image.
        reference: String,
        /// What this node is.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// It is too large.
    #[error("{reference} is too large: its layers have more than {most} bytes {how}")]
    TooLarge {
        /// The image.
        reference: String,
        /// How many they may have.
        most: u64,
        /// As they are sent, or unpacked.
        how: &'static str,
    },
    /// A layer is not what layers are, or could not be stored.
    #[error("{item} of {reference} cannot be taken")]
    Layer {
        /// The image.
        reference: String,
        /// Which.
        item: Item,
        /// What the store said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
