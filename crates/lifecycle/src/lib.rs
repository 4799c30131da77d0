//! Decisions, pure: what may happen to a sandbox in which state, and what follows.
//!
//! Nothing here does I/O, reads a clock, awaits or logs: the caller brings events and carries out
//! the actions.

pub mod sandbox;
