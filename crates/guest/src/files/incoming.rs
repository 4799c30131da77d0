//! The body of an upload as it comes: expanded when it is compressed, and never waited for for
//! ever.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use crate::http::Body;

use super::error::FilesError;
use super::gzip::Gunzip;

/// Longest silence in the middle of a body.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(300);

/// How long, after an error, what is left of the body is still taken in and dropped, so that a
/// client that sends first and reads then gets to read the answer.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: Body,
    gunzip: Option<Gunzip>,
}

impl Incoming {
    /// A body that comes as it is.
    pub(crate) const fn new(body: Body) -> Self {
        Self { body, gunzip: None }
    }

    /// Expands the body as its headers say.
    ///
    /// # Errors
    /// [`FilesError::ContentEncoding`].
    pub(crate) fn decode(&mut self, headers: &HeaderMap) -> Result<(), FilesError> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        let encoding = encoding.map_or("", |value| value.to_str().unwrap_or("?")).trim();
        self.gunzip = match encoding.to_ascii_lowercase().as_str() {
            "" | "identity" => None,
            "gzip" | "x-gzip" => Some(Gunzip::default()),
            _ => return Err(FilesError::ContentEncoding { encoding: encoding.to_owned() }),
        };
        Ok(())
    }

    /// More of the body; none at its end.
    ///
    /// # Errors
    /// The client went away, stalls, or did not send what it said.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FilesError> {
        loop {
            if let Some(gunzip) = &mut self.gunzip
                && let Some(piece) = gunzip.next_piece()?
            {
                return Ok(Some(piece));
            }
            let frame = tokio::time::timeout(IDLE_MAX, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_elapsed| FilesError::Stalled)? else {
                if let Some(gunzip) = &self.gunzip {
                    gunzip.finish()?;
                }
                return Ok(None);
            };
            let Ok(bytes) = frame.map_err(FilesError::CutOff)?.into_data() else { continue };
            match &mut self.gunzip {
                Some(gunzip) => gunzip.push(bytes),
                None if bytes.is_empty() => {}
                None => return Ok(Some(bytes)),
            }
        }
    }

    /// Takes in what is left of the body, for [`DRAIN_MAX`] at most, and drops it.
    pub(crate) async fn drain(mut self) {
        let drain = async { while let Some(Ok(_dropped)) = self.body.frame().await {} };
        // Whether it ends in time or not, the answer follows.
        let _in_time = tokio::time::timeout(DRAIN_MAX, drain).await;
    }
}
