//! What is kept encrypted: values of secrets, and what sandboxes are made with.
//!
//! AES-256-GCM under one key of 32 bytes, which is in a file of its own beside the database (64
//! hexadecimal digits, mode 0600). Sealed text is `1:` and base64url of nonce (12 random bytes),
//! ciphertext and tag (16 bytes). What a text belongs to is authenticated with it, so no row's text
//! can be moved to another row. Random nonces are safe for 2^32 texts under one key.
//!
//! The key is made once, at the first start. It is never overwritten: without it, what it sealed is
//! lost, so a key that is missing or another one is an error that names the file.

mod key_file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use courier_store::{Sealed, Store, StoreError};
use courier_types::{ProjectId, SandboxId, SecretId, VolumeId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::random;

/// Bytes of the key.
const KEY_LEN: usize = 32;

/// The format of sealed text.
const FORMAT: &str = "1:";

/// What is sealed to recognise the key by.
const CHECK: &[u8] = b"courier";

/// Why sealed text is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsealError {
    #[error("sealed text has a format that this version does not know")]
    Format,
    #[error("sealed text was not sealed for this place with this key")]
    Key,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or made.
    #[error("the key file {path} cannot be read or made")]
    File {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: std::io::Error,
    },
    /// The database was written with a key, and there is none.
    #[error(
        "the key file {path} is missing, and the database has secrets that only it opens: put it \
         back from a backup, or move the database away to begin anew"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others can read the key.
    #[error("the key file {path} can be read by others: run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("the key file {path} holds no key: put the right one back from a backup")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The database was written with another key.
    #[error(
        "the key file {path} is not the one that the database was written with: put the right one \
         back from a backup"
    )]
    Wrong {
        /// The file.
        path: PathBuf,
    },
    /// The database could not be asked.
    #[error("the database could not be asked for its key's check")]
    Store(#[from] StoreError),
}

/// What a sealed text belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// The check of the key itself.
    Check,
    /// A value of a secret.
    Secret {
        /// Whose it is.
        project: &'a ProjectId,
        /// Which.
        id: &'a SecretId,
        /// Number of the value.
        version: u64,
    },
    /// The leave to upload an archive.
    Upload {
        /// Whose it will be.
        project: &'a ProjectId,
        /// What its owner calls it: hexadecimal digits.
        hash: &'a str,
    },
    /// The token for a volume's content.
    Volume {
        /// Whose it is.
        project: &'a ProjectId,
        /// Which.
        id: &'a VolumeId,
    },
    /// What a sandbox was made with.
    Sandbox {
        /// Whose it is.
        project: &'a ProjectId,
        /// Which.
        id: &'a SandboxId,
    },
}

impl Place<'_> {
    /// The text that is authenticated. Ids have no spaces, so no two places share one.
    fn text(self) -> String {
        match self {
            Self::Check => "check".to_owned(),
            Self::Secret { project, id, version } => format!("secret {project} {id} {version}"),
            Self::Upload { project, hash } => format!("upload {project} {hash}"),
            Self::Volume { project, id } => format!("volume {project} {id}"),
            Self::Sandbox { project, id } => format!("sandbox {project} {id}"),
        }
    }
}

/// The key. Clones share it.
#[derive(Clone)]
pub struct Vault(Arc<LessSafeKey>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// Reads the key file, or makes it where the database has never had one, and checks that it is
    /// the one that the database was written with.
    ///
    /// One process at a time: the caller holds the data folder's lock.
    ///
    /// # Errors
    /// The file cannot be used, is missing though the database needs it, or is another one.
    pub async fn open(path: &Path, store: &Store) -> Result<Self, VaultError> {
        let check = store.key_check().await?;
        let key = match (key_file::read(path)?, &check) {
            (Some(key), _) => key,
            (None, None) => key_file::make(path)?,
            (None, Some(_)) => return Err(VaultError::Missing { path: path.to_owned() }),
        };
        let vault = Self::new(&key);
        match check {
            Some(check) if vault.unseal(Place::Check, &check).is_err() => {
                return Err(VaultError::Wrong { path: path.to_owned() });
            }
            Some(_) => {}
            None => store.insert_key_check(&vault.seal(Place::Check, CHECK)).await?,
        }
        Ok(vault)
    }

    fn new(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes any 32 bytes");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// Encrypts something for a place.
    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Sealed {
        let nonce: [u8; NONCE_LEN] = random::nonce();
        let mut bytes = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(plain);
        let place = place.text();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut bytes,
            )
            .expect("a text is shorter than the cipher's limit of 64 GiB");
        bytes.splice(0..0, nonce);
        Sealed::new(format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Decrypts what was encrypted for that place.
    pub(crate) fn unseal(
        &self,
        place: Place<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let text = sealed.as_str().strip_prefix(FORMAT).ok_or(UnsealError::Format)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_not_base64| UnsealError::Format)?;
        let mut bytes = Zeroizing::new(bytes);
        let (nonce, _rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(UnsealError::Format)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let place = place.text();
        let length = self
            .0
            .open_within(nonce, Aad::from(place.as_bytes()), &mut bytes, NONCE_LEN..)
            .map_err(|_unspecified| UnsealError::Key)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(version: u64) -> (ProjectId, SecretId, u64) {
        (ProjectId::from_random([1; 20]), SecretId::from_random([2; 20]), version)
    }

    fn secret(place: &(ProjectId, SecretId, u64)) -> Place<'_> {
        Place::Secret { project: &place.0, id: &place.1, version: place.2 }
    }

    #[test]
    fn a_text_opens_in_its_own_place_only_and_never_seals_to_the_same_twice() {
        let vault = Vault::new(&[7; KEY_LEN]);
        let (first, second) = (place(1), place(2));
        let sealed = vault.seal(secret(&first), b"value");
        assert_eq!(vault.unseal(secret(&first), &sealed).unwrap().as_slice(), b"value");
        assert_ne!(vault.seal(secret(&first), b"value"), sealed);
        let sandbox = SandboxId::from_random([2; 20]);
        for other in
            [secret(&second), Place::Check, Place::Sandbox { project: &first.0, id: &sandbox }]
        {
            assert_eq!(vault.unseal(other, &sealed).unwrap_err(), UnsealError::Key);
        }
        let another = Vault::new(&[8; KEY_LEN]);
        assert_eq!(another.unseal(secret(&first), &sealed).unwrap_err(), UnsealError::Key);
    }

    #[test]
    fn a_changed_or_cut_text_does_not_open() {
        let vault = Vault::new(&[7; KEY_LEN]);
        let place = place(1);
        let text = vault.seal(secret(&place), b"").as_str().to_owned();
        assert_eq!(vault.unseal(secret(&place), &Sealed::new(text.clone())).unwrap().len(), 0);
        for length in 0..text.len() {
            let cut = Sealed::new(text[..length].to_owned());
            assert!(vault.unseal(secret(&place), &cut).is_err(), "{length}");
        }
        for other in ["", "1:", "2:AAAA", "1:====", &format!("{text}A"), &text.replace("1:", "")] {
            assert!(vault.unseal(secret(&place), &Sealed::new(other.to_owned())).is_err());
        }
    }
}
