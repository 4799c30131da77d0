//! The file with the key: 64 hexadecimal digits, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::{KEY_LEN, VaultError};
use crate::random;

/// Digits of the key, a line break behind them, and one byte more, which there must not be.
const READ_MAX: u64 = 2 * KEY_LEN as u64 + 2;

/// Bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;

pub(super) type Key = Zeroizing<[u8; KEY_LEN]>;

/// The key of the file; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Key>, VaultError> {
    let failed = |source| VaultError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.mode() & OTHERS != 0 {
        return Err(VaultError::Exposed { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 2));
    match file.take(READ_MAX).read_to_string(&mut text) {
        Ok(_length) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(VaultError::Malformed { path: path.to_owned() });
        }
        Err(error) => return Err(failed(error)),
    }
    parse(&text).map(Some).ok_or_else(|| VaultError::Malformed { path: path.to_owned() })
}

/// Makes the file with a new key. It appears whole or not at all, and never in place of another.
pub(super) fn make(path: &Path) -> Result<Key, VaultError> {
    let key: Key = Zeroizing::new(random::vault_key());
    write(path, &key).map_err(|source| VaultError::File { path: path.to_owned(), source })?;
    Ok(key)
}

fn write(path: &Path, key: &Key) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    // What an interrupted start left: nothing was sealed with it.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    let digits = Zeroizing::new(random::hex(key.as_slice()));
    file.write_all(digits.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::hard_link(draft, path)?;
    fs::remove_file(draft)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

fn parse(text: &str) -> Option<Key> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    if digits.len() != 2 * KEY_LEN || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut key: Key = Zeroizing::new([0; KEY_LEN]);
    for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_read_again() {
        let folder = folder();
        let path = folder.path().join("key");
        assert!(read(&path).unwrap().is_none());
        // An interrupted start left a draft.
        fs::write(folder.path().join("key.new"), "half").unwrap();
        let key = make(&path).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), key);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let again = make(&path).unwrap_err();
        assert!(matches!(again, VaultError::File { .. }), "{again}");
        assert_eq!(read(&path).unwrap().unwrap(), key);
    }

    #[test]
    fn a_file_that_is_exposed_or_holds_no_key_is_refused_by_name() {
        let folder = folder();
        let path = folder.path().join("key");
        let digits = "ab".repeat(KEY_LEN);
        for text in [
            "",
            "ab",
            &digits[1..],
            &format!("{digits}0"),
            &format!("{digits}\n\n"),
            &"zz".repeat(KEY_LEN),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, VaultError::Malformed { .. }), "{text:?}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
        fs::write(&path, &digits).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), [0xab; KEY_LEN]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path).unwrap_err(), VaultError::Exposed { .. }));
        fs::write(&path, [0xff; 64]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read(&path).unwrap_err(), VaultError::Malformed { .. }));
    }
}
