//! What a layer says is gone: entries of the layers below it that it hides, by names as in the OCI
//! image specification ("Representing Changes").

use crate::{EntryPath, Header, Kind, PathError};

/// What the name of a whiteout begins with; the hidden name follows.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The name that says that everything in its folder is gone.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is gone from the layers below. What the same layer brings is not concerned, whether it
/// stands before or behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whiteout {
    /// That entry, with everything below it.
    Of(EntryPath),
    /// Everything in that folder; `None` is the root. The folder itself stays.
    Opaque(Option<EntryPath>),
}

impl Whiteout {
    /// The entry that says so in a layer.
    ///
    /// # Errors
    /// The name becomes too long.
    pub fn header(&self) -> Result<Header, PathError> {
        let path = match self {
            Self::Of(path) => {
                let name = [WHITEOUT_PREFIX, path.name()].concat();
                EntryPath::within(path.parent().as_ref(), &name)?
            }
            Self::Opaque(folder) => EntryPath::within(folder.as_ref(), OPAQUE)?,
        };
        Ok(Header::new(path, Kind::File { size: 0 }))
    }
}

/// How a name stands to whiteouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// It is none.
    Plain,
    /// It is one.
    Whiteout(Whiteout),
    /// It begins like one and says nothing.
    Malformed,
}

/// Looks at the name of an entry.
pub(crate) fn of(header: &Header) -> Name {
    let Some(hidden) = header.path.name().strip_prefix(WHITEOUT_PREFIX) else {
        return Name::Plain;
    };
    if header.kind != (Kind::File { size: 0 }) {
        return Name::Malformed;
    }
    let folder = header.path.parent();
    if header.path.name() == OPAQUE {
        return Name::Whiteout(Whiteout::Opaque(folder));
    }
    // A whiteout of a whiteout hides nothing; other such names are notes of one old file system.
    if hidden.starts_with(WHITEOUT_PREFIX) {
        return Name::Malformed;
    }
    match EntryPath::within(folder.as_ref(), hidden) {
        Ok(path) => Name::Whiteout(Whiteout::Of(path)),
        Err(_nameless) => Name::Malformed,
    }
}

impl Header {
    /// What it says is gone, where it is a whiteout: then it is no file.
    #[must_use]
    pub fn whiteout(&self) -> Option<Whiteout> {
        match of(self) {
            Name::Whiteout(whiteout) => Some(whiteout),
            Name::Plain | Name::Malformed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn a_whiteout_comes_back_from_its_entry() {
        for whiteout in [
            Whiteout::Of(path("a")),
            Whiteout::Of(path("a/b")),
            Whiteout::Opaque(None),
            Whiteout::Opaque(Some(path("a"))),
        ] {
            assert_eq!(whiteout.header().unwrap().whiteout(), Some(whiteout));
        }
        let longest = path(&"n".repeat(255));
        assert_eq!(Whiteout::Of(longest).header(), Err(PathError::NameTooLong));
    }

    #[test]
    fn names_that_only_begin_like_a_whiteout_are_malformed() {
        for name in [".wh.", "a/.wh..", ".wh...", ".wh..wh.plnk", ".wh..wh.x"] {
            assert_eq!(of(&Header::new(path(name), Kind::File { size: 0 })), Name::Malformed);
        }
        for kind in [Kind::Directory, Kind::File { size: 1 }, Kind::Fifo] {
            assert_eq!(of(&Header::new(path(".wh.a"), kind)), Name::Malformed);
        }
        assert_eq!(of(&Header::new(path("a.wh.b"), Kind::Fifo)), Name::Plain);
    }
}
