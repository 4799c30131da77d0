//! Extended attributes, as far as layers have them.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// What the names of attributes that are kept begin with; as the reader of layers takes them.
const KEPT: [&[u8]; 2] = [b"user.", b"security.capability"];

/// Most bytes of the names of one file's attributes, and of one value: the kernel's own limits
/// (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const BYTES_MAX: usize = 65_536;

/// Attributes by name.
pub(super) type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// The attributes of an open file; none where its file system has no such thing.
pub(super) fn read(file: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut found = Attributes::new();
    // Nearly all files have none, and asking for the length costs no memory.
    let length = match rustix::fs::flistxattr(file, &mut [0_u8; 0][..]) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(found),
        length => length?,
    };
    let mut list = vec![0; length.min(BYTES_MAX)];
    let length = rustix::fs::flistxattr(file, &mut list[..])?;
    list.truncate(length);
    for name in list.split(|byte| *byte == 0) {
        if !KEPT.iter().any(|kept| name.starts_with(kept)) {
            continue;
        }
        let mut value = vec![0; BYTES_MAX];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.insert(name.to_vec(), value);
            }
            // Gone meanwhile, or listed only.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}
