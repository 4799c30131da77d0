//! Extended headers of pax: `LENGTH KEY=VALUE\n`, again and again.

use std::collections::BTreeMap;

use super::Problem;

/// Keys of extended attributes: what Linux' tars call them.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What GNU tar says about sparse files begins with this.
const SPARSE: &[u8] = b"GNU.sparse.";

/// Attributes that are kept: those of users and a program's capabilities. The others mean something
/// only to the kernel and the policy that wrote them, and overlay file systems believe theirs.
const XATTRS_KEPT: [&[u8]; 2] = [b"user.", b"security.capability"];

/// Digits of a record's length: more than a header can have.
const LENGTH_DIGITS_MAX: usize = 8;

/// Longest name and value of an attribute in bytes (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX` of Linux).
const XATTR_NAME_MAX: usize = 255;
const XATTR_VALUE_MAX: usize = 65_536;

/// Most bytes of all attributes of an entry, so that our own form of it, with path and link in the
/// same header, is never longer than what is read: [`super::EXTENSION_BYTES_MAX`]. ext4 and XFS keep
/// less.
const XATTRS_BYTES_MAX: usize = (1 << 20) - (64 << 10);

/// Most bytes of a record besides name and value of an attribute.
const XATTR_RECORD_BYTES: usize = 32;

/// What one extended header says, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    xattr_bytes: usize,
}

impl Pax {
    /// Reads all records.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Problem> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(Problem::Pax)?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"path" => once(&mut self.path, value.to_vec()),
            b"linkpath" => once(&mut self.linkpath, value.to_vec()),
            b"size" => once(&mut self.size, number(value)?),
            b"uid" => once(&mut self.uid, number(value)?),
            b"gid" => once(&mut self.gid, number(value)?),
            b"mtime" => once(&mut self.mtime, time(value).ok_or(Problem::Pax)?),
            key if key.starts_with(SPARSE) => Err(Problem::Sparse),
            key => match key.strip_prefix(XATTR) {
                Some(name) => self.take_xattr(name, value),
                // Other notes (atime, the names of users, comments) change nothing here.
                None => Ok(()),
            },
        }
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Problem> {
        if !XATTRS_KEPT.iter().any(|kept| name.starts_with(kept)) {
            return Ok(());
        }
        let fits = name.len() <= XATTR_NAME_MAX && value.len() <= XATTR_VALUE_MAX;
        self.xattr_bytes += name.len() + value.len() + XATTR_RECORD_BYTES;
        let fits = fits && self.xattr_bytes <= XATTRS_BYTES_MAX;
        if !fits || name.contains(&0) || self.xattrs.contains_key(name) {
            return Err(Problem::Xattr);
        }
        self.xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }
}

/// Of a global header nothing is taken: what it says of entries would have to be held against each
/// of them. Notes such as the commit of `git archive` change nothing.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), Problem> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (key, _value, behind) = record(rest).ok_or(Problem::Pax)?;
        if key != b"comment" {
            return Err(Problem::GlobalPax);
        }
        rest = behind;
    }
    Ok(())
}

/// Key and value of the first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(LENGTH_DIGITS_MAX + 1).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(bytes.get(..space)?).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (text.get(..equals)?, text.get(equals + 1..)?);
    (!key.is_empty()).then_some((key, value, rest))
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Result<u64, Problem> {
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_digits);
    text.and_then(|text| text.parse().ok()).ok_or(Problem::Pax)
}

/// Seconds since the Unix epoch with a fraction, as whole seconds before it and nanoseconds.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(number(parts.next()?).ok()?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    match (is_negative, nanos) {
        (false, nanos) => Some((whole, nanos)),
        (true, 0) => Some((-whole, 0)),
        (true, nanos) => Some((-whole - 1, 1_000_000_000 - nanos)),
    }
}

/// Takes a value that may be said once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Problem> {
    if place.replace(value).is_some() { Err(Problem::Twice) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_to_the_last_byte() {
        let pax = Pax::parse(b"10 path=a\n12 size=123\n16 mtime=-1.250\n9 atime=\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a"[..]));
        assert_eq!((pax.size, pax.mtime), (Some(123), Some((-2, 750_000_000))));
        for broken in [
            &b"10 path=a"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"0 \n",
            b"4 =\n",
            b"path=a\n",
            b"+10 path=a\n",
            b"99999999999999999999 path=a\n",
            b"10 path=a\n\n",
            b"11 size=1x\n",
            b"10 size=\n",
            b"27 size=99999999999999999999\n",
            b"11 size=-1\n",
            b"15 mtime=1.2.3\n",
        ] {
            assert!(Pax::parse(broken).is_err(), "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        assert!(matches!(Pax::parse(b"10 path=a\n10 path=b\n"), Err(Problem::Twice)));
    }

    #[test]
    fn only_attributes_that_mean_the_same_everywhere_are_kept() {
        let mut records = Vec::new();
        for name in ["user.a", "security.capability", "trusted.overlay.opaque", "security.selinux"]
        {
            // All lengths have two digits.
            let length = 3 + XATTR.len() + name.len() + 3;
            records.extend(format!("{length} SCHILY.xattr.{name}=v\n").into_bytes());
        }
        let pax = Pax::parse(&records).unwrap();
        let names: Vec<_> = pax.xattrs.keys().map(|name| name.escape_ascii().to_string()).collect();
        assert_eq!(names, ["security.capability", "user.a"]);
        assert!(matches!(Pax::parse(b"22 GNU.sparse.major=1\n"), Err(Problem::Sparse)));
    }

    #[test]
    fn a_global_header_may_only_be_a_comment() {
        assert!(check_global(b"13 comment=x\n").is_ok());
        assert!(matches!(check_global(b"10 path=a\n"), Err(Problem::GlobalPax)));
        assert!(matches!(check_global(b"1"), Err(Problem::Pax)));
    }
}
