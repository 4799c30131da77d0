//! The one place where this crate reads the wall clock.

use std::time::{Duration, SystemTime};

use courier_types::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The point `span` before.
pub(crate) fn before(time: Timestamp, span: Duration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_sub(micros))
}
