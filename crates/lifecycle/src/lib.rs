//! The decisions, pure: what may happen to a sandbox in which state.
