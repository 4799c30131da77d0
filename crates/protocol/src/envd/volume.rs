//! How the server reaches the content of a volume: `POST /volume` to the guest daemon of a sandbox
//! that has it at [`MOUNT`]. Clients can never reach it: the proxy answers 404.
//!
//! What is asked is in the header [`CALL_HEADER`]; the body is what is written, or empty. The answer's
//! body is a [`VolumeEntry`], a list of them, the bytes of a file, or nothing.
//!
//! [`VolumeEntry`]: crate::e2b::VolumeEntry

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The path of all calls.
pub const VOLUME_PATH: &str = "/volume";

/// Where the volume is mounted.
pub const MOUNT: &str = "/volume";

/// The header with the call: base64url of JSON, as paths have any characters.
pub const CALL_HEADER: &str = "courier-volume";

/// What is asked of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeCall {
    /// What to do.
    pub operation: VolumeOperation,
    /// With what: from the volume's root, with or without a slash at its beginning.
    pub path: String,
    /// How deep a list goes; 1 is the folder itself.
    pub depth: u32,
    /// The owner to be.
    pub uid: Option<u32>,
    /// The group to be.
    pub gid: Option<u32>,
    /// The permissions to be.
    pub mode: Option<u32>,
    /// Whether missing parents are made, and a folder that is there already is fine.
    pub force: bool,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeOperation {
    /// Tell what is there, without following a link.
    Stat,
    /// Change owner and mode.
    Change,
    /// Remove it, with everything in it.
    Remove,
    /// List a folder.
    List,
    /// Make a folder.
    MakeFolder,
    /// Read a file.
    Read,
    /// Write a file, all of it or nothing.
    Write,
}

impl VolumeCall {
    /// The header's value.
    #[must_use]
    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("numbers and texts are JSON");
        URL_SAFE_NO_PAD.encode(json)
    }

    /// The call of a header's value; `None` where it is none.
    #[must_use]
    pub fn decode(value: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_its_header_and_other_text_is_none() {
        let call = VolumeCall {
            operation: VolumeOperation::Write,
            path: "/ä\n%2f".to_owned(),
            depth: 1,
            uid: Some(7),
            gid: None,
            mode: Some(0o640),
            force: true,
        };
        assert_eq!(VolumeCall::decode(&call.encode()), Some(call));
        for text in ["", "e30", "!", "bnVsbA"] {
            assert_eq!(VolumeCall::decode(text), None, "{text}");
        }
    }
}
