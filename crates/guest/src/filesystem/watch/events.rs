//! Events as the wire shows them.

use std::path::Path;

use courier_protocol::envd::filesystem::{EventType, FilesystemEvent};

use super::Told;
use crate::entry;
use crate::user::Names;

/// Puts what happened into the wire's words.
pub(super) struct Teller<'a> {
    /// The watched directory, as it was asked for.
    pub(super) root: &'a Path,
    /// Given when events carry entries.
    pub(super) names: Option<&'a Names>,
}

impl Teller<'_> {
    /// The event of one thing that happened. The watched directory's own name is `.`.
    pub(super) fn event(&self, told: &Told) -> FilesystemEvent {
        let is_root = told.path.as_os_str().is_empty();
        let name = if is_root { ".".into() } else { told.path.to_string_lossy().into_owned() };
        let leaves_an_entry = match told.kind {
            EventType::Create | EventType::Write | EventType::Chmod => true,
            EventType::Remove | EventType::Rename | EventType::Unspecified => false,
        };
        let entry = self.names.filter(|_| leaves_an_entry).and_then(|names| {
            let path = if is_root { self.root.to_owned() } else { self.root.join(&told.path) };
            // It may be gone again by now; then the event goes without it.
            entry::look_at(&path, names).ok()
        });
        FilesystemEvent { name, kind: told.kind.into(), entry }
    }
}
