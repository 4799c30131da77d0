//! The second stage: a root file system and a guest daemon make an image.

use std::io::{Seek as _, SeekFrom};
use std::time::Duration;

use super::*;

/// Where the guest daemon lives inside.
const GUEST: &str = "usr/local/bin/courier-guest";
/// How an image is written: quietly, and with file data at block boundaries (a layout that the
/// isolation can map).
const OPTIONS: [&str; 3] = ["-d0", "-E", "noinline_data"];
/// How often the growing file is looked at for the progress bar.
const LOOK: Duration = Duration::from_millis(200);
/// Where an image's magic number is, and what it is.
const MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

impl Stages<'_> {
    /// Writes the image of a build and returns its size.
    pub(super) async fn image(&mut self, root: &Path, build: &str) -> Result<u64, TemplateError> {
        check_space(self.request.templates, IMAGE_MIB)?;
        self.progress.begin(BuildStep::Image);
        place_guest(self.request.guest, root)?;
        let partial = self.work.join("image");
        self.write_image(root, &partial).await?;
        let size = check_image(&partial)?;
        let path = super::super::manifest::image_of(self.request.templates, build);
        File::open(&partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::set_permissions(&partial, fs::Permissions::from_mode(0o644)))
            .and_then(|()| fs::rename(&partial, &path))
            .and_then(|()| File::open(self.request.templates)?.sync_all())
            .map_err(TemplateError::host("write", &path))?;
        Ok(size)
    }

    async fn write_image(&self, root: &Path, image: &Path) -> Result<(), TemplateError> {
        let mut words = vec!["mkfs.erofs".to_owned()];
        words.extend(OPTIONS.map(str::to_owned));
        words.extend([image, root].map(|path| path.display().to_string()));
        let step = "writing the image";
        let tool = Tool { step, words, input: "", network: Network::None, log: &self.log };
        let expected = Template::read(self.request.templates, self.request.recipe.name)?
            .map_or(IMAGE_MIB << 20, |template| template.size_bytes);
        let writing = tool.run(|_line| {});
        tokio::pin!(writing);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                outcome = &mut writing => return outcome,
                _tick = look.tick() => {
                    let size = fs::metadata(image).map_or(0, |meta| meta.len());
                    self.progress.at(size, expected);
                }
            }
        }
    }
}

/// Puts the guest daemon into the root file system, in place of the one of an earlier build.
fn place_guest(guest: &Path, root: &Path) -> Result<(), TemplateError> {
    let place = root.join(GUEST);
    let fresh = place.with_extension("new");
    fs::copy(guest, &fresh)
        .and_then(|_size| fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)))
        .and_then(|()| std::os::unix::fs::chown(&fresh, Some(0), Some(0)))
        .and_then(|()| fs::rename(&fresh, &place))
        .map_err(TemplateError::host("put the guest daemon at", &place))
}

/// A tool that says that all is well has written an image; look whether it has.
fn check_image(image: &Path) -> Result<u64, TemplateError> {
    let (offset, expected) = MAGIC;
    let read = || {
        let mut file = File::open(image)?;
        let mut magic = [0; 4];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut magic)?;
        if magic == expected {
            return Ok(file.metadata()?.len());
        }
        Err(std::io::Error::other("what mkfs.erofs wrote is no image"))
    };
    read().map_err(TemplateError::host("use", image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_the_magic_number_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        fs::write(&path, vec![0; 4096]).unwrap();
        assert!(check_image(&path).is_err());
        let mut bytes = vec![0; 4096];
        bytes[1024..1028].copy_from_slice(&MAGIC.1);
        fs::write(&path, bytes).unwrap();
        assert_eq!(check_image(&path).unwrap(), 4096);
    }
}
