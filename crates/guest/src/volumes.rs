//! The content of a volume, for the server's content API: only in the sandboxes that the server
//! makes for that, which have the volume at [`MOUNT`] and run nothing else.
//!
//! Whoever has the volume in another sandbox may change anything in it at any moment, so a path that
//! was looked at may be another one when it is used. That leads at most to a file of this sandbox,
//! which holds nothing but the template's files and this one volume.

mod entry;
mod place;
mod write;

use std::path::Path;

use courier_protocol::envd::volume::{CALL_HEADER, MOUNT, VolumeCall, VolumeOperation};
use http::{HeaderMap, Method, StatusCode};

use crate::files::download::download;
use crate::files::error::FilesError;
use crate::files::incoming::Incoming;
use crate::filesystem::error::FilesystemError;
use crate::filesystem::remove::remove;
use crate::http::{self as answers, Request, Response};

use place::{Last, Place, PlaceError};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// The path.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The body, or the file system.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl From<FilesystemError> for VolumeError {
    fn from(error: FilesystemError) -> Self {
        Self::Files(error.into())
    }
}

impl VolumeError {
    fn answer(&self) -> Response {
        match self {
            Self::Place(error) => answers::error(StatusCode::BAD_REQUEST, &error.to_string()),
            Self::Files(error) => error.answer(),
        }
    }
}

/// Answers one call.
pub(crate) async fn handle(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let value = head.headers.get(CALL_HEADER).and_then(|value| value.to_str().ok());
    let Some(call) = value.and_then(VolumeCall::decode) else {
        return answers::error(StatusCode::BAD_REQUEST, "no call of a volume");
    };
    let mut incoming = Incoming::new(body);
    match carry_out(call, &mut incoming).await {
        Ok(response) => response,
        Err(error) => {
            incoming.drain().await;
            error.answer()
        }
    }
}

async fn carry_out(call: VolumeCall, incoming: &mut Incoming) -> Result<Response, VolumeError> {
    match call.operation {
        VolumeOperation::Read => {
            let place = blocking(move || {
                let place = Place::find(root(), &call.path, Last::Followed)?;
                entry::check_file(&place)?;
                Ok(place)
            })
            .await?;
            Ok(download(place.inside, &Method::GET, &HeaderMap::new()).await?)
        }
        VolumeOperation::Write => {
            let (place, owner) = blocking(move || {
                let place = Place::find(root(), &call.path, Last::Followed)?;
                let owner = write::prepare(&place, &call)?;
                Ok((place, owner))
            })
            .await?;
            write::write(&place, owner, incoming).await?;
            let entry = blocking(move || entry::of(&place)).await?;
            Ok(answers::json(StatusCode::CREATED, &entry))
        }
        VolumeOperation::Stat
        | VolumeOperation::Change
        | VolumeOperation::Remove
        | VolumeOperation::List
        | VolumeOperation::MakeFolder => blocking(move || at_once(&call)).await,
    }
}

/// What takes no stream.
fn at_once(call: &VolumeCall) -> Result<Response, VolumeError> {
    let last = match call.operation {
        VolumeOperation::List => Last::Followed,
        _ => Last::Itself,
    };
    let place = Place::find(root(), &call.path, last)?;
    match call.operation {
        VolumeOperation::List => {
            Ok(answers::json(StatusCode::OK, &entry::list(&place, call.depth)?))
        }
        VolumeOperation::Remove => {
            // A path that is not there is an error here, and none of `remove`.
            entry::of(&place)?;
            if place.is_root() {
                return Err(PlaceError::Root.into());
            }
            remove(&place.inside)?;
            Ok(answers::status(StatusCode::NO_CONTENT))
        }
        VolumeOperation::MakeFolder => {
            write::make_folder(&place, call)?;
            Ok(answers::json(StatusCode::CREATED, &entry::of(&place)?))
        }
        VolumeOperation::Change => {
            entry::of(&place)?;
            write::change(&place, call)?;
            Ok(answers::json(StatusCode::OK, &entry::of(&place)?))
        }
        VolumeOperation::Stat | VolumeOperation::Read | VolumeOperation::Write => {
            Ok(answers::json(StatusCode::OK, &entry::of(&place)?))
        }
    }
}

fn root() -> &'static Path {
    Path::new(MOUNT)
}

/// Something that differs from start to start of the daemon: what an upload that was cut off by a
/// crash left behind is in nobody's way.
fn stamp() -> u128 {
    static STAMP: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    *STAMP.get_or_init(now)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work).await.map_err(FilesystemError::from)?
}
