//! Small files that tell when they are damaged: the SHA-256 of the text, and the text, JSON.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::{Digest, HostError, host};

/// Most bytes of such a file. The largest are builds of [`super::StoreBounds::layers`] layers with a
/// long environment.
const BYTES_MAX: u64 = 4 << 20;

/// Reads one; `None` where there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let damaged =
        |reason: &str| StoreError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    match fs::metadata(path) {
        Ok(meta) if meta.len() > BYTES_MAX => return Err(damaged("it is too long")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HostError::of("read", path)(error).into()),
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged("it is no text"));
        }
        Err(error) => return Err(HostError::of("read", path)(error).into()),
    };
    let (seal, body) = text.split_once('\n').ok_or_else(|| damaged("it has no seal"))?;
    if seal.parse() != Ok(Digest::of(body.as_bytes())) {
        return Err(damaged("its seal is that of another text"));
    }
    let value = serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some(value))
}

/// Writes one, unless it is too long to be read again: readers see what was there before or this, whole.
pub(super) fn write<T: Serialize>(
    temporary: &Path,
    path: &Path,
    value: &T,
) -> Result<(), HostError> {
    let refused = HostError::of::<io::Error>;
    let body = serde_json::to_string_pretty(value)
        .map_err(|error| refused("write", path)(io::Error::other(error)))?;
    let text = format!("{}\n{body}", Digest::of(body.as_bytes()));
    if text.len() as u64 > BYTES_MAX {
        return Err(refused("write", path)(io::ErrorKind::FileTooLarge.into()));
    }
    let mut file = host::temporary(temporary)?;
    file.write_all(text.as_bytes()).map_err(refused("write", path))?;
    host::sync(&file)?;
    host::publish(file, path)
}
