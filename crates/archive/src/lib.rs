//! The strict subset of tar that layers and build contexts are in: read as hostile bytes, written in
//! one canonical form.
