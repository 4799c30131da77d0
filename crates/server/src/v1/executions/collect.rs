//! Files back from the sandbox, within bounds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_client::tree::Matches;
use courier_client::{GuestClient, drain};
use courier_protocol::v1::CollectedFile;

use crate::http::chain;

/// Most files.
const FILES_MAX: usize = 256;

/// Most bytes of all files together.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads what was matched; what cannot be read says why instead.
pub(super) async fn collect(client: &GuestClient, found: &Matches) -> Vec<CollectedFile> {
    let mut collected = Vec::new();
    let mut left = BYTES_MAX;
    for (number, file) in found.files.iter().enumerate() {
        let path = &file.guest_path;
        if number >= FILES_MAX {
            let error = format!("not read: more than {FILES_MAX} files matched");
            collected.push(failed(path, error));
            break;
        }
        collected.push(match read(client, path, left).await {
            Ok(bytes) => {
                left = left.saturating_sub(bytes.len());
                read_file(path, bytes)
            }
            Err(error) => failed(path, chain(&error)),
        });
    }
    let unmatched = found.unmatched.iter().map(|pattern| failed(pattern, "nothing matches".into()));
    collected.extend(unmatched);
    collected
}

async fn read(
    client: &GuestClient,
    path: &str,
    max: usize,
) -> Result<Vec<u8>, courier_client::ClientError> {
    drain(client.read_file(path).await?.body, max).await
}

fn read_file(path: &str, bytes: Vec<u8>) -> CollectedFile {
    let path = path.to_owned();
    match String::from_utf8(bytes) {
        Ok(text) => CollectedFile { path, text: Some(text), ..CollectedFile::default() },
        Err(error) => {
            let base64 = Some(STANDARD.encode(error.as_bytes()));
            CollectedFile { path, base64, ..CollectedFile::default() }
        }
    }
}

fn failed(path: &str, error: String) -> CollectedFile {
    CollectedFile { path: path.to_owned(), error: Some(error), ..CollectedFile::default() }
}
