//! How much room the HTTP of one sandbox has: requests at once, and bytes on their way.
//!
//! A guest that opens every connection that it may have, asks a hundred things on each and takes no
//! answer, costs the node what is here and no more.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most requests of one sandbox at once: as many as it may have connections.
const REQUESTS_MAX: usize = 1_024;

/// How many connections have large windows; those that come when there are as many have small ones.
/// All that may be on its way of a sandbox's HTTP/2 is 96 MiB in the large ones (3 MiB each, both
/// sides together) and 124 MiB in the small ones of 992 connections.
const LARGE_MAX: usize = 32;

/// The room of one sandbox. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    requests: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let (requests, large) = (Semaphore::new(REQUESTS_MAX), Semaphore::new(LARGE_MAX));
        Self { requests: Arc::new(requests), large: Arc::new(large) }
    }
}

/// The sandbox has as many requests as it may have.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the sandbox has {REQUESTS_MAX} requests that are not answered in full")]
pub(super) struct NoRoom;

/// A request's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "it is held, not used")] OwnedSemaphorePermit);

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Windowed {
    /// What it may have on its way.
    pub(super) windows: Windows,
    _large: Option<OwnedSemaphorePermit>,
}

/// How much a connection over HTTP/2 may have on its way that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// Enough for 10 MB/s over 100 ms.
    Large,
    /// What HTTP/2 begins with (RFC 9113, section 6.9.2).
    Small,
}

/// The size of every window at the begin, which a connection's cannot be below.
const SMALL: u32 = 65_535;

impl Room {
    /// A place for a request.
    pub(super) fn request(&self) -> Result<Place, NoRoom> {
        Arc::clone(&self.requests).try_acquire_owned().map(Place).map_err(|_none_left| NoRoom)
    }

    /// A place for a connection.
    pub(super) fn connection(&self) -> Windowed {
        let large = Arc::clone(&self.large).try_acquire_owned().ok();
        let windows = if large.is_some() { Windows::Large } else { Windows::Small };
        Windowed { windows, _large: large }
    }
}

impl Windows {
    /// Of one answer.
    pub(super) const fn of_answer(self) -> u32 {
        match self {
            Self::Large => 1 << 20,
            Self::Small => SMALL,
        }
    }

    /// Of all answers on a connection.
    pub(super) const fn of_answers(self) -> u32 {
        match self {
            Self::Large => 2 << 20,
            Self::Small => SMALL,
        }
    }

    /// Of one request: the guest is near, so little is enough.
    pub(super) const fn of_request(self) -> u32 {
        match self {
            Self::Large => 256 * 1024,
            Self::Small => SMALL,
        }
    }

    /// Of all requests on a connection.
    pub(super) const fn of_requests(self) -> u32 {
        match self {
            Self::Large => 1 << 20,
            Self::Small => SMALL,
        }
    }
}
