//! The HTTP proxy: every request is judged by itself, then goes out as the very thing that was
//! judged.

mod guard;
mod turn;
