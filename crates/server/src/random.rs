//! The one place where this crate takes randomness, from the operating system's generator by way of
//! the thread's.

use std::fmt::Write as _;

use courier_types::egress::GuestToken;
use courier_types::{
    AccessToken, ApiKeyId, BuildId, ProjectId, SandboxId, SecretId, TemplateId, VolumeId,
};

/// Random bytes of an access token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// Random bytes of an API key: 40 hexadecimal digits, as every version of the SDKs accepts.
const KEY_BYTES: usize = 20;

pub(crate) fn sandbox_id() -> SandboxId {
    SandboxId::from_random(rand::random())
}

pub(crate) fn project_id() -> ProjectId {
    ProjectId::from_random(rand::random())
}

pub(crate) fn api_key_id() -> ApiKeyId {
    ApiKeyId::from_random(rand::random())
}

pub(crate) fn template_id() -> TemplateId {
    TemplateId::from_random(rand::random())
}

pub(crate) fn build_id() -> BuildId {
    BuildId::from_random(rand::random())
}

pub(crate) fn access_token() -> AccessToken {
    AccessToken::new(hex(&rand::random::<[u8; TOKEN_BYTES]>()))
}

pub(crate) fn api_key_digits() -> String {
    hex(&rand::random::<[u8; KEY_BYTES]>())
}

/// A key of the vault.
pub(crate) fn vault_key() -> [u8; 32] {
    rand::random()
}

/// A nonce, which never comes again under one key.
pub(crate) fn nonce() -> [u8; 12] {
    rand::random()
}

pub(crate) fn secret_id() -> SecretId {
    SecretId::from_random(rand::random())
}

pub(crate) fn volume_id() -> VolumeId {
    VolumeId::from_random(rand::random())
}

pub(crate) fn guest_token() -> GuestToken {
    GuestToken::from_random(rand::random())
}

/// In hexadecimal, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
