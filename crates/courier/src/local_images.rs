//! Images that templates start from: those that the operator has on this machine, as `local/NAME`,
//! and those of registries.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use courier_image::registry::Registries;
use courier_image::{Layer, LayerError, Store};
use courier_node::{ImageOrder, Images, PulledImage};
use courier_protocol::node::BoxError;

/// What names of the operator's images begin with.
const PREFIX: &str = "local/";
/// Longest name of one.
const NAME_MAX: usize = 128;

/// Why a flag names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no image: expected NAME=PATH, with a name of a-z, 0-9, '.', '_' and '-', and the \
     absolute path of a tar or a folder"
)]
pub(crate) struct LocalImageError {
    text: String,
}

/// A root file system on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalImage {
    name: String,
    path: PathBuf,
}

impl FromStr for LocalImage {
    type Err = LocalImageError;

    fn from_str(text: &str) -> Result<Self, LocalImageError> {
        let refused = || LocalImageError { text: text.to_owned() };
        let (name, path) = text.split_once('=').ok_or_else(refused)?;
        let is_name =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let good = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(is_name);
        if !good || !Path::new(path).is_absolute() {
            return Err(refused());
        }
        Ok(Self { name: name.to_owned(), path: path.into() })
    }
}

/// Why an image of this machine is not taken.
#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error("there is no image {name:?} on this machine: {known}")]
    Unknown { name: String, known: String },
    #[error("the image {name:?} of this machine cannot be opened")]
    Open { name: String, source: io::Error },
    #[error("the image {name:?} of this machine cannot be taken in")]
    Layer { name: String, source: LayerError },
}

/// Where the images of a node come from.
pub(crate) struct NodeImages {
    local: Vec<LocalImage>,
    registries: Registries,
}

impl NodeImages {
    pub(crate) const fn new(local: Vec<LocalImage>, registries: Registries) -> Self {
        Self { local, registries }
    }

    fn find(&self, name: &str) -> Result<LocalImage, LocalError> {
        let found = self.local.iter().find(|image| image.name == name);
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = self.local.iter().map(|image| image.name.as_str()).collect();
            let known = if names.is_empty() {
                "the operator names some with `courier serve --image NAME=PATH`".to_owned()
            } else {
                format!("there are: {}", names.join(", "))
            };
            LocalError::Unknown { name: name.to_owned(), known }
        })
    }
}

#[async_trait]
impl Images for NodeImages {
    async fn pull(&self, order: &ImageOrder<'_>, store: &Store) -> Result<PulledImage, BoxError> {
        let Some(name) = order.reference.strip_prefix(PREFIX) else {
            return Images::pull(&self.registries, order, store).await;
        };
        let image = self.find(name)?;
        (order.progress)(format!("reading {PREFIX}{name}"));
        let (store, hold) = (store.clone(), Arc::clone(order.hold));
        let added = tokio::task::spawn_blocking(move || {
            let _held_to_the_end = hold;
            add(&store, image)
        });
        let layer = added.await??;
        Ok(PulledImage {
            digest: layer.digest.to_string(),
            layers: vec![layer.digest],
            env: std::collections::BTreeMap::new(),
            workdir: None,
        })
    }
}

/// Takes an image into the store.
fn add(store: &Store, image: LocalImage) -> Result<Layer, LocalError> {
    let LocalImage { name, path } = image;
    let layer = match open(&path) {
        Ok(Source::Tar(tar)) => store.add_layer(tar),
        Ok(Source::Folder(folder)) => store.add_layer(folder),
        Err(source) => return Err(LocalError::Open { name, source }),
    };
    layer.map_err(|source| LocalError::Layer { name, source })
}

/// An opened image.
enum Source {
    Tar(std::fs::File),
    Folder(PackedFolder),
}

fn open(path: &Path) -> io::Result<Source> {
    if !path.is_dir() {
        return Ok(Source::Tar(std::fs::File::open(path)?));
    }
    // Owners, links, names: tar knows all about folders.
    let mut tar = Command::new("tar")
        .args(["--create", "--numeric-owner", "--one-file-system", "--sort=name", "--directory"])
        .arg(path)
        .arg(".")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = tar.stdout.take().ok_or_else(|| io::Error::other("tar has no output"))?;
    Ok(Source::Folder(PackedFolder { tar, output }))
}

/// A folder as a tar. It has no good end unless all of it could be read.
struct PackedFolder {
    tar: Child,
    output: ChildStdout,
}

impl Read for PackedFolder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            let status = self.tar.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!("tar could not read all of it ({status})")));
            }
        }
        Ok(count)
    }
}

impl Drop for PackedFolder {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and does not have to be.
        let _ended = self.tar.kill();
        let _reaped = self.tar.wait();
    }
}

#[cfg(test)]
mod tests {
    use courier_image::{GuestFiles, StoreBounds};

    use super::*;

    fn store(folder: &Path) -> Store {
        let daemon = folder.join("guest");
        std::fs::write(&daemon, "guest").unwrap();
        Store::open(&folder.join("store"), GuestFiles { daemon }, StoreBounds::default()).unwrap()
    }

    #[test]
    fn a_flag_names_an_image_by_a_plain_name_and_an_absolute_path() {
        let image: LocalImage = "debian-12=/srv/root.tar.zst".parse().unwrap();
        assert_eq!(
            (image.name.as_str(), image.path.to_str()),
            ("debian-12", Some("/srv/root.tar.zst"))
        );
        for text in ["debian", "=/srv", "a/b=/srv", "A=/srv", "a=srv", "a="] {
            let error = text.parse::<LocalImage>().unwrap_err().to_string();
            assert!(error.contains("NAME=PATH"), "{error}");
        }
    }

    #[test]
    fn a_folder_and_the_tar_of_it_are_one_layer() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/hostname"), "x").unwrap();
        std::os::unix::fs::symlink("etc/hostname", root.join("link")).unwrap();
        let tar = place.path().join("root.tar");
        let packed =
            Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").status();
        assert!(packed.unwrap().success());
        let store = store(place.path());
        let _lease = store.lease().unwrap();
        let of = |path: &Path| {
            add(&store, LocalImage { name: "a".to_owned(), path: path.to_owned() }).unwrap()
        };
        let (folder, file) = (of(&root), of(&tar));
        assert_eq!((folder.digest, folder.entries), (file.digest, 3));
    }

    #[test]
    fn a_folder_that_cannot_be_read_whole_is_no_image() {
        let place = tempfile::tempdir().unwrap();
        let missing = open(Path::new("/nonexistent/root.tar"));
        assert!(missing.is_err());
        // What is there when tar begins and cannot be read is an error at the end.
        let mut tar = Command::new("sh")
            .args(["-c", "tar -cf - -C / etc/hostname; exit 2"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = tar.stdout.take().unwrap();
        let store = store(place.path());
        let _lease = store.lease().unwrap();
        assert!(store.add_layer(PackedFolder { tar, output }).is_err());
    }
}
