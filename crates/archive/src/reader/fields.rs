//! What the fields of a header say, with the extended headers before it.

use crate::MODE_BITS;
use crate::block::{self, Block, Format};

use super::{Extensions, Problem};

/// Furthest time from 1970 in seconds, some 35,000 years: arithmetic with it stays in its bounds.
const MTIME_MAX: i64 = 1 << 40;

/// The highest bits that a mode field may have: it holds the type too with some writers.
const MODE_FIELD_MAX: u64 = 0o177_777;

/// The path as the archive has it.
pub(super) fn raw_path(block: &Block, extensions: &Extensions) -> Result<Vec<u8>, Problem> {
    let long = extensions.path.as_ref();
    if let Some(long) = long.or(extensions.pax.as_ref().and_then(|pax| pax.path.as_ref())) {
        return Ok(long.clone());
    }
    let (name, prefix) = (block.text(block::NAME), block.text(block::PREFIX));
    let path = match block.format().ok_or(Problem::Format)? {
        Format::Posix if !prefix.is_empty() => [prefix, name].join(&b'/'),
        Format::Posix | Format::Gnu => name.to_vec(),
    };
    Ok(path)
}

/// The size. A header that cannot hold it has 0; any other difference would be two opinions about
/// where the next entry begins.
pub(super) fn size(block: &Block, pax: Option<u64>) -> Result<u64, Problem> {
    let size = block.unsigned(block::SIZE).ok_or(Problem::Number("size"))?;
    match pax {
        None => Ok(size),
        Some(long) if size == 0 || size == long => Ok(long),
        Some(_other) => Err(Problem::Twice),
    }
}

pub(super) fn mode(block: &Block) -> Result<u32, Problem> {
    let mode = block.unsigned(block::MODE).filter(|mode| *mode <= MODE_FIELD_MAX);
    let mode = mode.and_then(|mode| u32::try_from(mode).ok()).ok_or(Problem::Number("mode"))?;
    Ok(mode & MODE_BITS)
}

/// The number of a user or a group. The highest one means "do not change" to the kernel.
pub(super) fn owner(
    block: &Block,
    field: block::Field,
    pax: Option<u64>,
    name: &'static str,
) -> Result<u32, Problem> {
    let number = pax.or_else(|| block.unsigned(field));
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.filter(|number| *number != u32::MAX).ok_or(Problem::Number(name))
}

pub(super) fn mtime(block: &Block, pax: Option<(i64, u32)>) -> Result<(i64, u32), Problem> {
    let seconds = block.signed(block::MTIME).and_then(|seconds| i64::try_from(seconds).ok());
    let time = pax.or(seconds.map(|seconds| (seconds, 0)));
    let is_near = |time: &(i64, u32)| (-MTIME_MAX..=MTIME_MAX).contains(&time.0);
    time.filter(is_near).ok_or(Problem::Number("mtime"))
}

/// Takes what may be said once.
pub(super) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Problem> {
    if place.replace(value).is_some() { Err(Problem::Twice) } else { Ok(()) }
}

/// A path of a stranger for a message: cut, and without what terminals obey.
pub(super) fn shown(path: &[u8]) -> String {
    const SHOWN_MAX: usize = 256;
    match path.get(..SHOWN_MAX) {
        Some(beginning) if path.len() > SHOWN_MAX => format!("{}…", beginning.escape_ascii()),
        Some(_) | None => path.escape_ascii().to_string(),
    }
}
