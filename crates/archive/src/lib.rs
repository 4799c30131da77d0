//! The strict subset of tar that layers and build contexts are in: read as hostile bytes, written in
//! one canonical form.
//!
//! The headers are parsed here and not by a general library on purpose. Those are made to read what
//! is out there, so they cut numbers that do not fit, take one of two sizes that disagree, and go on
//! behind the end; every such leniency is a second opinion about where an entry begins. Here
//! whatever could be read in two ways is refused, with the entry's name.

mod block;
mod bounds;
mod decompress;
mod header;
mod path;
mod reader;
mod whiteout;
mod writer;

pub use bounds::{Bounds, Devices, Whiteouts};
pub use decompress::{DecompressError, Decompressed, decompress};
pub use header::{Header, Kind, MODE_BITS};
pub use path::{DEPTH_MAX, EntryPath, NAME_MAX, PATH_MAX, PathError};
pub use reader::{Entry, Problem, ReadError, Reader};
pub use whiteout::{OPAQUE, WHITEOUT_PREFIX, Whiteout};
pub use writer::{WriteError, Writer};
