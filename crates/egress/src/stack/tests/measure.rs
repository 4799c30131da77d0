//! Figures, printed and not judged: `cargo test --release -p courier-egress measure -- --ignored --nocapture`.
