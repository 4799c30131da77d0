//! What a COPY names, found in the context: every source with what is below it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use courier_archive::{Bounds, EntryPath};

use super::super::dockerfile::{Copy, CopySource, Fault};
use super::Context;
use super::error::ContextError;
use super::folder::{Found, Links, Spot, leads_out};
use super::pattern::{self, clean, is_pattern};

/// Most entries of a COPY: as many as are taken.
const MAX_ENTRIES: usize = Bounds::CONTEXT.entries as usize;

/// An entry of the archive to be.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A file of the context.
    File(Spot),
    /// A folder with its permission bits.
    Folder(u32),
    /// A symbolic link and what it says.
    Link(Vec<u8>),
    /// A here-document.
    Text(String),
}

/// The entries of an archive.
pub(super) type Items = BTreeMap<EntryPath, Item>;

/// What a COPY comes to: its archive's entries, and what of them is meant.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) items: Items,
    /// The one file, or `.` for all of them.
    pub(super) source: String,
}

/// A source in the context, once patterns are resolved.
struct Source {
    path: PathBuf,
    at: usize,
}

/// Finds what a COPY names.
pub(super) fn gather(context: &Context, copy: &Copy) -> Result<Gathered, ContextError> {
    let mut gathering = Gathering { context, items: Items::new(), singles: Vec::new(), folders: 0 };
    for source in &copy.sources {
        match source {
            CopySource::Path { pattern, at } => {
                for source in resolve(context, pattern, *at)? {
                    gathering.add(&source, copy)?;
                }
            }
            CopySource::Document { name, content } => {
                let at = 0;
                let path = entry(Path::new(name), at)?;
                gathering.singles.push(name.clone());
                gathering.put(path, Item::Text(content.clone()), at)?;
            }
        }
    }
    let count = gathering.singles.len() + gathering.folders;
    let source = match gathering.singles.as_slice() {
        // A name that reads as a pattern is no path on the wire: everything is meant then, for there
        // is nothing else.
        [single] if gathering.folders == 0 && !is_pattern(single) => single.clone(),
        [single] if gathering.folders == 0 && !copy.destination.ends_with('/') => {
            let what =
                format!("{single} has characters of patterns, so it needs a folder to go into");
            let remedy = format!("write {}/ as the destination", copy.destination);
            return Err(asked(first_place(copy), what, remedy));
        }
        _ => ".".to_owned(),
    };
    if count > 1 && !copy.destination.ends_with('/') {
        let at = first_place(copy);
        let what = format!("this names {count} files or folders, which need a folder to go into");
        return Err(asked(at, what, format!("write {}/ as the destination", copy.destination)));
    }
    Ok(Gathered { items: gathering.items, source })
}

fn first_place(copy: &Copy) -> usize {
    copy.sources
        .iter()
        .find_map(|source| match source {
            CopySource::Path { at, .. } => Some(*at),
            CopySource::Document { .. } => None,
        })
        .unwrap_or(0)
}

fn asked(at: usize, what: impl Into<String>, remedy: impl Into<String>) -> ContextError {
    ContextError::Asked(Fault::new(at, what, remedy))
}

fn entry(path: &Path, at: usize) -> Result<EntryPath, ContextError> {
    EntryPath::new(path.as_os_str().as_bytes()).map_err(|error| {
        asked(at, format!("{} cannot be packed: {error}", path.display()), "rename it")
    })
}

struct Gathering<'a> {
    context: &'a Context,
    items: Items,
    /// Names of sources that are no folders.
    singles: Vec<String>,
    /// How many sources are folders.
    folders: usize,
}

impl Gathering<'_> {
    /// A file comes under its name, a folder's content without the folder: as Docker has it.
    fn add(&mut self, source: &Source, copy: &Copy) -> Result<(), ContextError> {
        let spot = self.context.root.below(&source.path, Links::Followed);
        let found =
            spot.look().map_err(|error| self.context.missing(source.at, &source.path, &error))?;
        let ignore = &self.context.ignore;
        let is_folder = matches!(found, Found::Folder { .. });
        if ignore.is_ignored(&source.path) && !(is_folder && ignore.has_exceptions()) {
            let what = format!("{} is left out by .dockerignore", source.path.display());
            return Err(asked(source.at, what, "remove the line that leaves it out"));
        }
        match found {
            Found::Folder { .. } => {
                self.folders += 1;
                let root = spot.as_root().map_err(self.host("read", &source.path))?;
                self.folder(&root, Path::new(""), &source.path, source.at)
            }
            Found::File { .. } => {
                if copy.is_add {
                    self.check_no_archive(&spot, source)?;
                }
                let name = source.path.file_name().unwrap_or(OsStr::new("."));
                let path = entry(Path::new(name), source.at)?;
                let shown = name.to_str().ok_or_else(|| {
                    let what = format!("{} is no UTF-8", source.path.display());
                    asked(source.at, what, "rename it, or COPY the folder that it is in")
                })?;
                self.singles.push(shown.to_owned());
                self.put(path, Item::File(spot), source.at)
            }
            Found::Link(_) | Found::Special => Err(special(source.at, &source.path)),
        }
    }

    /// What is in a folder. `below` is its path in the archive, `path` the one in the context.
    fn folder(
        &mut self,
        root: &Spot,
        below: &Path,
        path: &Path,
        at: usize,
    ) -> Result<(), ContextError> {
        // Depth is bounded by what a path of an archive may have.
        let spot = root.below(below, Links::Kept);
        for name in spot.names(MAX_ENTRIES).map_err(self.host("read", path))? {
            let (below, path) = (below.join(&name), path.join(&name));
            let is_ignored = self.context.ignore.is_ignored(&path);
            if is_ignored && !self.context.ignore.has_exceptions() {
                continue;
            }
            let spot = root.below(&below, Links::Kept);
            let found = spot.look().map_err(self.host("read", &path))?;
            if let Found::Folder { mode } = found {
                let entry = entry(&below, at)?;
                if !is_ignored {
                    self.put(entry, Item::Folder(mode), at)?;
                }
                self.folder(root, &below, &path, at)?;
                continue;
            }
            if is_ignored {
                continue;
            }
            let item = match found {
                Found::File { .. } => Item::File(spot),
                Found::Link(target) => Item::Link(target),
                Found::Special | Found::Folder { .. } => return Err(special(at, &path)),
            };
            self.put(entry(&below, at)?, item, at)?;
        }
        Ok(())
    }

    /// What comes later replaces what came before, but for folders, whose contents are merged.
    fn put(&mut self, path: EntryPath, item: Item, at: usize) -> Result<(), ContextError> {
        let is_folder = matches!(item, Item::Folder(_));
        let clash = |known: &Item| matches!(known, Item::Folder(_)) != is_folder;
        if self.items.get(&path).is_some_and(clash) {
            let what = format!(
                "{} is a folder in one source and none in another",
                path.as_path().display()
            );
            return Err(asked(at, what, "copy them by two instructions"));
        }
        self.items.insert(path, item);
        if self.items.len() > MAX_ENTRIES {
            let what = format!("this has more than {MAX_ENTRIES} files");
            return Err(asked(at, what, "leave out what is not needed by .dockerignore"));
        }
        Ok(())
    }

    fn host(
        &self,
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> ContextError + use<> {
        ContextError::host(what, &self.context.path.join(path))
    }

    /// ADD would unpack an archive.
    fn check_no_archive(&self, spot: &Spot, source: &Source) -> Result<(), ContextError> {
        let (file, _size, _mode) = spot.open().map_err(self.host("read", &source.path))?;
        let is_archive = super::magic::is_archive(file).map_err(self.host("read", &source.path))?;
        if !is_archive {
            return Ok(());
        }
        let what = format!("ADD does not unpack {}", source.path.display());
        Err(asked(source.at, what, "COPY it to /tmp, and unpack it by RUN tar -xf"))
    }
}

fn special(at: usize, path: &Path) -> ContextError {
    let what = format!("{} is a device, a socket or a pipe", path.display());
    asked(at, what, "leave it out by .dockerignore")
}

/// The paths that a source stands for, in order.
fn resolve(context: &Context, pattern: &str, at: usize) -> Result<Vec<Source>, ContextError> {
    if pattern.split('/').any(|piece| piece == "..") {
        let what = format!("{pattern} leads out of the context");
        let remedy = format!("only what is in {} can be copied", context.path.display());
        return Err(asked(at, what, remedy));
    }
    let clean = clean(pattern);
    if !is_pattern(&clean) {
        let path = PathBuf::from(&clean);
        return Ok(vec![Source { path, at }]);
    }
    let matcher = pattern::compile(&clean)
        .map_err(|error| asked(at, error.to_string(), "write \\ before what is no pattern"))?;
    let mut found = Vec::new();
    let depth = clean.split('/').count();
    let pieces: Vec<&str> = clean.split('/').collect();
    let fixed = pieces.iter().take_while(|piece| !is_pattern(piece)).count();
    let start: PathBuf = pieces.iter().take(fixed).collect();
    candidates(context, &start, depth - fixed, &mut found)?;
    found.retain(|path| matcher.is_match(path) && !context.ignore.is_ignored(path));
    if found.is_empty() {
        let what = format!("nothing in the context fits {clean}");
        return Err(asked(at, what, format!("look into {}", context.path.display())));
    }
    Ok(found.into_iter().map(|path| Source { path, at }).collect())
}

/// Everything that lies as deep below a folder as a pattern has pieces.
fn candidates(
    context: &Context,
    path: &Path,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), ContextError> {
    let Some(rest) = depth.checked_sub(1) else {
        found.push(path.to_owned());
        return Ok(());
    };
    let spot = context.root.below(path, Links::Followed);
    // What is no folder, or leads out, has nothing that fits.
    let Ok(Found::Folder { .. }) = spot.look() else { return Ok(()) };
    let names = spot.names(MAX_ENTRIES);
    for name in names.map_err(ContextError::host("read", &context.path.join(path)))? {
        if found.len() >= MAX_ENTRIES {
            break;
        }
        candidates(context, &path.join(name), rest, found)?;
    }
    Ok(())
}

impl Context {
    fn missing(&self, at: usize, path: &Path, error: &io::Error) -> ContextError {
        let shown = path.display();
        if leads_out(error) {
            let what = format!("{shown} is a link that leads out of the context");
            return asked(at, what, "copy into the context what it leads to");
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                let what = format!("{shown} is not in the context {}", self.path.display());
                asked(at, what, "paths are relative to the context, not to the Dockerfile")
            }
            _ => asked(at, format!("{shown} cannot be read: {error}"), "look at its permissions"),
        }
    }
}
