//! Typed client of the guest daemon: commands, files, one-shot executions.
