//! The leave to upload one archive: part of an URL that needs no key, sealed by the server for one
//! project and one hash, and valid for a time. Nothing is stored of it.

use courier_store::Sealed;
use courier_types::{ProjectId, Timestamp};

use super::uploads::UPLOAD_TIMEOUT;
use crate::app::App;
use crate::clock;
use crate::vault::Place;

/// Longest ticket that is looked at, in bytes: ours have 60.
const TICKET_MAX: usize = 128;

/// What a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Ours, and in time.
    Valid,
    /// Ours, and too late.
    Expired,
    /// Not ours, or for something else.
    Foreign,
}

/// A new ticket.
pub(crate) fn ticket(app: &App, project: &ProjectId, hash: &str) -> String {
    let expires = clock::now().plus(UPLOAD_TIMEOUT).as_micros();
    let place = Place::Upload { project, hash };
    app.vault.seal(place, expires.to_string().as_bytes()).as_str().to_owned()
}

impl Ticket {
    /// Looks at a ticket.
    pub(crate) fn of(app: &App, project: &ProjectId, hash: &str, text: &str) -> Self {
        if text.len() > TICKET_MAX {
            return Self::Foreign;
        }
        let sealed = Sealed::new(text.to_owned());
        let Ok(plain) = app.vault.unseal(Place::Upload { project, hash }, &sealed) else {
            return Self::Foreign;
        };
        let expires = std::str::from_utf8(&plain).ok().and_then(|text| text.parse().ok());
        match expires.map(Timestamp::from_micros) {
            Some(expires) if clock::now() < expires => Self::Valid,
            Some(_) => Self::Expired,
            None => Self::Foreign,
        }
    }
}
