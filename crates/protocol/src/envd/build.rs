//! What the node asks a guest daemon for while a template is built. Clients can never reach any of
//! it: the proxy answers 404.
//!
//! Errors are those of the HTTP API: `{"code": 400, "message": "…"}`, with 400 for what the build's
//! author can mend, 401 for a user who does not exist, 404 for a source that is not in the archive.

use serde::{Deserialize, Serialize};

/// `POST`: makes an image's file system one that sandboxes can be made from; may be repeated.
/// Answered with [`Provisioned`].
pub const PROVISION_PATH: &str = "/provision";

/// `POST ?name=NAME`: makes a user, with a group and a home, where there is none of that name.
/// Answered with [`Account`].
pub const USERS_PATH: &str = "/users";

/// `POST`: from now on changes of the file system count. Answered with 204.
pub const MARK_PATH: &str = "/layers/mark";

/// `GET`: what has changed since the mark, as a layer; 204 where nothing has. When it has gone out
/// whole, the mark is moved to the moment at which it was taken. 409 without a mark.
pub const CHANGES_PATH: &str = "/layers/changes";

/// `GET`: the whole file system, as a layer.
pub const ALL_PATH: &str = "/layers/all";

/// `POST`, with an archive as its body (tar, maybe gzipped): puts files in place as Docker's `COPY`
/// does. The query is an [`Unpack`]. Answered with [`Unpacked`].
pub const UNPACK_PATH: &str = "/unpack";

/// The content type of layers.
pub const LAYER_TYPE: &str = "application/x-tar";

/// A user of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// Answer to [`PROVISION_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioned {
    /// The default user.
    pub user: Account,
    /// Programs that every sandbox must have and this one lacks, by their paths: `/bin/sh`,
    /// `/bin/bash`. A build cannot go on before they are there.
    pub missing: Vec<String>,
    /// The distribution's own package manager, where one is known: `apt-get`, `apk`, …
    pub package_manager: Option<String>,
}

/// Query of [`UNPACK_PATH`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpack {
    /// Path in the archive: a file, or a folder whose content is meant; `.` is all of it. `*`, `?`,
    /// `[…]` and `**` stand for names as in a shell.
    pub source: String,
    /// Path inside; a trailing `/` means into that folder.
    pub destination: String,
    /// `USER`, `USER:GROUP` or numbers; none for [`Unpack::user`].
    pub owner: Option<String>,
    /// Permission bits of the files, where they are not the archive's; folders may be entered by
    /// whoever may read them.
    pub mode: Option<u32>,
    /// What a relative destination is relative to: absolute.
    pub workdir: String,
    /// The current user: `~` is their home.
    pub user: String,
}

/// Answer to [`UNPACK_PATH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// How many files, links and folders were put in place.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// The query of a request that makes a user.
#[must_use]
pub fn user_query(name: &str) -> String {
    format!("name={}", crate::percent::encode(name))
}

impl Unpack {
    /// It as a query.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mode = self.mode.map(|mode| format!("{mode:o}"));
        let parts = [
            ("source", Some(&self.source)),
            ("destination", Some(&self.destination)),
            ("workdir", Some(&self.workdir)),
            ("user", Some(&self.user)),
            ("owner", self.owner.as_ref()),
            ("mode", mode.as_ref()),
        ];
        let pairs = parts.into_iter().filter_map(|(name, value)| {
            value.map(|value| format!("{name}={}", crate::percent::encode(value)))
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Reads the query; `None` where it is not one that [`Unpack::to_query`] writes.
    #[must_use]
    pub fn from_query(query: &str) -> Option<Self> {
        let mut unpack = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=')?;
            let value = String::from_utf8(crate::percent::decode(value)?).ok()?;
            match name {
                "source" => unpack.source = value,
                "destination" => unpack.destination = value,
                "workdir" => unpack.workdir = value,
                "user" => unpack.user = value,
                "owner" => unpack.owner = Some(value),
                "mode" => unpack.mode = Some(u32::from_str_radix(&value, 8).ok()?),
                _unknown => return None,
            }
        }
        Some(unpack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpack_comes_back_from_its_query() {
        let whole = Unpack {
            source: "a b&c=d/é".into(),
            destination: "/x/%2e/".into(),
            owner: Some("user:group".into()),
            mode: Some(0o755),
            workdir: "/w+w".into(),
            user: "user".into(),
        };
        for unpack in [whole.clone(), Unpack { owner: None, mode: None, ..whole }] {
            assert_eq!(Unpack::from_query(&unpack.to_query()), Some(unpack));
        }
        for wrong in ["", "mode=9", "more=1", "source=%ff", "source"] {
            assert_eq!(Unpack::from_query(wrong), None, "{wrong}");
        }
    }
}
