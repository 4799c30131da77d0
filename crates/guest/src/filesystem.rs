//! `filesystem.Filesystem`: looking at files, making, moving, removing and watching them.
//!
//! Each RPC is one function. The daemon acts as root: the user decides only where relative paths
//! begin and whose new things are. Work with the kernel runs on threads that may block.

pub(crate) mod directories;
pub(crate) mod error;
mod list;
pub(crate) mod remove;
pub(crate) mod service;
mod watch;
mod watches;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::filesystem::{
    CreateWatcherResponse, EntryResponse, GetWatcherEventsResponse, ListDirRequest,
    ListDirResponse, MoveRequest, PathRequest, WatchDirRequest, WatchDirResponse, WatcherRequest,
};
use courier_protocol::envd::process::Empty;
use futures_util::Stream;

use crate::context::Context;
use crate::user::User;
use crate::{entry, path};

use error::{Fault, FilesystemError};
use watch::{Detail, Scope, Tree, Watch};
pub(crate) use watches::Watches;

/// What is at a path; a link is shown as itself.
///
/// # Errors
/// `not_found`, `invalid_argument` and what the kernel says.
pub(crate) async fn stat(
    context: &Context,
    user: &User,
    request: PathRequest,
) -> Result<EntryResponse, ConnectError> {
    let path = resolve(&request.path, user)?;
    let accounts = context.accounts().clone();
    run(move || shown("stat", &path, &accounts)).await
}

/// Makes a directory and its missing parents.
///
/// # Errors
/// `already_exists` for a directory, `invalid_argument` for anything else in its place.
pub(crate) async fn make_dir(
    context: &Context,
    user: &User,
    request: PathRequest,
) -> Result<EntryResponse, ConnectError> {
    let path = resolve(&request.path, user)?;
    let (user, accounts) = (user.clone(), context.accounts().clone());
    let watches = Arc::clone(context.watches());
    run(move || {
        match fs::metadata(&path) {
            Ok(status) if status.is_dir() => {
                return Err(FilesystemError::DirectoryExists { path });
            }
            Ok(_other) => return Err(FilesystemError::NotADirectoryInTheWay { path }),
            Err(_missing) => directories::ensure(&path, &user, &watches)?,
        }
        shown("stat", &path, &accounts)
    })
    .await
}

/// Renames or moves an entry; missing parents of the destination are made.
///
/// # Errors
/// `not_found`, and what the kernel says.
pub(crate) async fn move_entry(
    context: &Context,
    user: &User,
    request: MoveRequest,
) -> Result<EntryResponse, ConnectError> {
    let source = resolve(&request.source, user)?;
    let destination = resolve(&request.destination, user)?;
    let (user, accounts) = (user.clone(), context.accounts().clone());
    let watches = Arc::clone(context.watches());
    run(move || {
        fs::symlink_metadata(&source)
            .map_err(|error| FilesystemError::io("move", &source, error))?;
        if let Some(parent) = destination.parent() {
            directories::ensure(parent, &user, &watches)?;
        }
        fs::rename(&source, &destination)
            .map_err(|error| FilesystemError::io("move to", &destination, error))?;
        shown("stat", &destination, &accounts)
    })
    .await
}

/// Lists a directory.
///
/// # Errors
/// `not_found`, and `invalid_argument` for what is no directory or too large to list.
pub(crate) async fn list_dir(
    context: &Context,
    user: &User,
    request: ListDirRequest,
) -> Result<ListDirResponse, ConnectError> {
    let path = resolve(&request.path, user)?;
    let accounts = context.accounts().clone();
    run(move || {
        let entries = list::list(&path, request.depth, &accounts.names())?;
        Ok(ListDirResponse { entries })
    })
    .await
}

/// Removes an entry with everything in it; nothing there is fine.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn remove(
    _context: &Context,
    user: &User,
    request: PathRequest,
) -> Result<Empty, ConnectError> {
    let path = resolve(&request.path, user)?;
    run(move || remove::remove(&path).map(|()| Empty {})).await
}

/// Streams what happens in a directory, after `start`. Dropping the stream ends the watch.
///
/// # Errors
/// `not_found`; `invalid_argument` for what is no directory or on a network; `data_loss` in the
/// stream when events were lost.
pub(crate) async fn watch_dir(
    context: &Context,
    user: &User,
    request: WatchDirRequest,
) -> Result<impl Stream<Item = Result<WatchDirResponse, ConnectError>> + use<>, ConnectError> {
    let watch = begin_watch(context, user, request).await?;
    let messages = Watches::stream(watch)?;
    Ok(futures_util::stream::unfold(messages, |mut messages| async {
        let message = messages.recv().await?;
        Some((message.map_err(ConnectError::from), messages))
    }))
}

/// Begins to watch a directory for polls; an hour without one ends it.
///
/// # Errors
/// As of [`watch_dir`].
pub(crate) async fn create_watcher(
    context: &Context,
    user: &User,
    request: WatchDirRequest,
) -> Result<CreateWatcherResponse, ConnectError> {
    let watch = begin_watch(context, user, request).await?;
    Ok(CreateWatcherResponse { watcher_id: context.watches().add_polled(watch)? })
}

/// Everything that happened since the last poll.
///
/// # Errors
/// `not_found`; `data_loss`, once, when events were lost since the last poll.
pub(crate) async fn get_watcher_events(
    context: &Context,
    _user: &User,
    request: WatcherRequest,
) -> Result<GetWatcherEventsResponse, ConnectError> {
    let watches = Arc::clone(context.watches());
    run(move || {
        let events = watches.poll(&request.watcher_id)?;
        Ok(GetWatcherEventsResponse { events })
    })
    .await
}

/// Ends a watch for polls.
///
/// # Errors
/// `not_found`.
pub(crate) async fn remove_watcher(
    context: &Context,
    _user: &User,
    request: WatcherRequest,
) -> Result<Empty, ConnectError> {
    context.watches().remove(&request.watcher_id)?;
    Ok(Empty {})
}

async fn begin_watch(
    context: &Context,
    user: &User,
    request: WatchDirRequest,
) -> Result<Watch, ConnectError> {
    let path = resolve(&request.path, user)?;
    let scope = if request.recursive { Scope::Recursive } else { Scope::Directory };
    let detail = if request.include_entry { Detail::Entry } else { Detail::Name };
    let accounts = context.accounts().clone();
    let watches = Arc::clone(context.watches());
    run(move || {
        let status =
            fs::metadata(&path).map_err(|error| FilesystemError::io("watch", &path, error))?;
        if !status.is_dir() {
            return Err(FilesystemError::NotADirectory { path });
        }
        if !request.allow_network_mounts {
            watch::refuse_network_mount(&path)?;
        }
        let slot = watches.slot()?;
        let tree = Arc::new(Tree::watch(path, scope)?);
        watches.enlist(&tree);
        Ok(Watch::new(tree, detail, accounts, slot))
    })
    .await
}

fn resolve(text: &str, user: &User) -> Result<PathBuf, FilesystemError> {
    Ok(path::resolve(text, &user.home)?)
}

fn shown(
    action: &'static str,
    path: &Path,
    accounts: &crate::user::Accounts,
) -> Result<EntryResponse, FilesystemError> {
    let entry = entry::look_at(path, &accounts.names())
        .map_err(|source| FilesystemError::io(action, path, source))?;
    Ok(EntryResponse { entry: Some(entry) })
}

/// Runs work that may block.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesystemError> + Send + 'static,
) -> Result<T, ConnectError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(FilesystemError::from)?;
    Ok(done?)
}

impl From<FilesystemError> for ConnectError {
    fn from(error: FilesystemError) -> Self {
        let code = match error.fault() {
            Fault::Missing => Code::NotFound,
            Fault::Exists => Code::AlreadyExists,
            Fault::Invalid => Code::InvalidArgument,
            Fault::Denied => Code::PermissionDenied,
            Fault::NoSpace | Fault::Exhausted => Code::ResourceExhausted,
            Fault::Lost => Code::DataLoss,
            Fault::Internal => Code::Internal,
        };
        Self::new(code, error.chain())
    }
}

#[cfg(test)]
mod tests;
