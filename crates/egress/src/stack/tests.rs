//! The stack from its other end: a second smoltcp as the guest, and raw packets.

mod floods;
mod guest;
mod hostile;
mod measure;
mod packets;
mod script;
mod streams;
