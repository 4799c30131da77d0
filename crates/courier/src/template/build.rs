//! Builds a template in two stages, each cached: the root file system, by its recipe; the image, by
//! the root file system and the guest daemon that goes into it.
//!
//! ```text
//! TEMPLATES/.lock              held while anything is built
//! TEMPLATES/.build-XXXX/       what a build makes; swept by the next one
//! TEMPLATES/rootfs/NAME-HASH/  root file systems; only root may look in
//! TEMPLATES/NAME-HASH.erofs    images
//! TEMPLATES/NAME.json          what is built (see manifest)
//! ```

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use courier_types::{BuildConfig, Limits, Timestamp};
use sha2::{Digest as _, Sha256};

use super::error::TemplateError;
use super::manifest::{GuestStamp, Template, prune};
use super::mirror::{self, Mirror};
use super::progress::{BuildStep, Progress};
use super::recipe::{Recipe, hex};
use super::tool::{self, Network, Tool};

mod image;
mod rootfs;

/// Prefix of the folders that builds work in.
const WORK: &str = ".build-";
/// Name of the folder of root file systems.
const ROOT_FILE_SYSTEMS: &str = "rootfs";
/// Characters of a hash that a name has: 64 bits, collisions among our own builds are no concern.
const NAME_HASH: usize = 16;
/// Free space that a root file system takes, with the packages that it is made from.
const ROOTFS_MIB: u64 = 1_536;
/// Free space that an image takes.
const IMAGE_MIB: u64 = 1_024;

/// How much of the guest daemon is read at once to hash it.
const HASH_CHUNK_BYTES: usize = 128 * 1024;

/// What building needs, and the Debian package of each.
const TOOLS: [(&str, &str); 4] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.erofs", "erofs-utils"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];

/// What is asked of a build.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// What to build.
    pub(crate) recipe: &'static Recipe,
    /// Where templates are.
    pub(crate) templates: &'a Path,
    /// The guest daemon's binary.
    pub(crate) guest: &'a Path,
    /// The mirror that the user named.
    pub(crate) mirror: Option<&'a str>,
    /// Whether caches count.
    pub(crate) caches: Caches,
    /// What a user who is not root should run.
    pub(crate) command: String,
}

/// Whether what an earlier build made may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    /// Where nothing has changed.
    Used,
    /// Everything is made anew.
    Ignored,
}

/// The template as it is, where it is built already of this recipe and this guest daemon.
///
/// # Errors
/// The guest daemon or the manifest cannot be read.
pub(crate) fn current(request: &Request<'_>) -> Result<Option<Template>, TemplateError> {
    let stamp = GuestStamp::of(request.guest)?;
    let Some(template) = Template::read(request.templates, request.recipe.name)? else {
        return Ok(None);
    };
    if template.recipe != request.recipe.hash() {
        return Ok(None);
    }
    let is_same = template.guest_stamp == stamp || template.guest == guest_hash(request.guest)?;
    Ok(is_same.then_some(template))
}

/// Makes the template be there, of this recipe and this guest daemon.
///
/// # Errors
/// See [`TemplateError`]; nothing that was built before is lost.
pub(crate) async fn build(request: &Request<'_>) -> Result<Template, TemplateError> {
    if !rustix::process::geteuid().is_root() {
        let (name, command) = (request.recipe.name.to_owned(), request.command.clone());
        return Err(TemplateError::NotRoot { name, command });
    }
    let guest = guest_hash(request.guest)?;
    let stamp = GuestStamp::of(request.guest)?;
    check_tools()?;
    create_folder(request.templates, 0o755)?;
    let _lock = super::lock::take(request.templates).await?;
    sweep(request.templates)?;
    // Another process may have built it while we waited.
    if request.caches == Caches::Used
        && let Some(template) = current(request)?
    {
        return Ok(template);
    }
    let work = work_folder(request.templates)?;
    let mut stages = Stages {
        request,
        work: work.path().to_owned(),
        log: request.templates.join("build.log"),
        progress: Progress::new(request.recipe.name),
    };
    let built = stages.run(&guest, stamp).await;
    stages.progress.finish();
    built
}

/// A build under way.
struct Stages<'a> {
    request: &'a Request<'a>,
    work: PathBuf,
    log: PathBuf,
    progress: Progress,
}

impl Stages<'_> {
    async fn run(&mut self, guest: &str, stamp: GuestStamp) -> Result<Template, TemplateError> {
        let (recipe, templates) = (self.request.recipe, self.request.templates);
        File::create(&self.log).map_err(TemplateError::host("write", &self.log))?;
        let root = self.root_file_system().await?;
        let build = name_of_build(recipe.name, &recipe.hash(), guest);
        let size_bytes = self.image(&root, &build).await?;
        let previous = Template::read(templates, recipe.name)?
            .and_then(|old| if old.build == build { old.previous } else { Some(old.build) });
        let template = Template {
            name: recipe.name.to_owned(),
            template_id: Template::id_of(recipe.name),
            build,
            previous,
            recipe: recipe.hash(),
            guest: guest.to_owned(),
            guest_stamp: stamp,
            created: Timestamp::from(std::time::SystemTime::now()),
            size_bytes,
            limits: Limits::default(),
            egress: recipe.egress()?,
            config: BuildConfig::default(),
            binaries: Vec::new(),
        };
        template.write(templates)?;
        prune(templates, &super::list_in(templates)?)?;
        Ok(template)
    }
}

/// The name of a build says what it was made from.
pub(crate) fn name_of_build(name: &str, recipe: &str, guest: &str) -> String {
    let hash = hex(&Sha256::digest(format!("{recipe} {guest}")));
    format!("{name}-{}", hash.get(..NAME_HASH).unwrap_or(&hash))
}

/// A folder to work in, which goes with the value.
pub(crate) fn work_folder(templates: &Path) -> Result<tempfile::TempDir, TemplateError> {
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix(WORK).tempdir_in(templates);
    folder.map_err(TemplateError::host("make a folder in", templates))
}

/// SHA-256 of a binary, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub(crate) fn guest_hash(guest: &Path) -> Result<String, TemplateError> {
    let missing = |source| TemplateError::GuestMissing { path: guest.to_owned(), source };
    let mut hash = Sha256::new();
    let mut file = File::open(guest).map_err(missing)?;
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk).map_err(missing)?;
        if read == 0 {
            break;
        }
        hash.update(chunk.get(..read).unwrap_or_default());
    }
    Ok(hex(&hash.finalize()))
}

fn check_tools() -> Result<(), TemplateError> {
    for (tool, package) in TOOLS {
        if tool::find(tool).is_none() {
            let remedy = format!("apt-get install --yes {package}");
            return Err(TemplateError::ToolMissing { tool, remedy });
        }
    }
    Ok(())
}

/// Makes a folder, and sets its mode though the process's mask says otherwise.
fn create_folder(path: &Path, mode: u32) -> Result<(), TemplateError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(TemplateError::host("make", path))
}

/// Removes what builds left that did not come to their end. The caller holds the lock.
pub(crate) fn sweep(templates: &Path) -> Result<(), TemplateError> {
    let folder = fs::read_dir(templates).map_err(TemplateError::host("read", templates))?;
    for entry in folder.flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(TemplateError::host("remove", &path))?;
        }
    }
    Ok(())
}

fn check_space(folder: &Path, needed_mib: u64) -> Result<(), TemplateError> {
    let space = rustix::fs::statvfs(folder)
        .map_err(|error| TemplateError::host("look at", folder)(error.into()))?;
    let free_mib = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
    if free_mib >= needed_mib {
        return Ok(());
    }
    Err(TemplateError::NoSpace { folder: folder.to_owned(), free_mib, needed_mib })
}

/// Everything below a folder is on disk.
fn sync(folder: &Path) -> Result<(), TemplateError> {
    let file = File::open(folder).map_err(TemplateError::host("open", folder))?;
    rustix::fs::syncfs(file).map_err(|error| TemplateError::host("sync", folder)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftovers_of_a_killed_build_are_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".build-abc/rootfs/etc")).unwrap();
        fs::create_dir_all(folder.path().join("rootfs/abc")).unwrap();
        sweep(folder.path()).unwrap();
        assert!(!folder.path().join(".build-abc").exists());
        assert!(folder.path().join("rootfs/abc").exists());
    }

    #[test]
    fn another_guest_daemon_gives_another_build_of_the_same_name() {
        let recipe = Recipe::find("base").unwrap();
        let named = |guest| name_of_build(recipe.name, &recipe.hash(), guest);
        let names = [named("a"), named("b")];
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.starts_with("base-") && name.len() == 21));
    }

    #[test]
    fn too_little_space_is_told_with_figures() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_space(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("MiB free"), "{error}");
    }
}
