//! The client against guests that answer as a script says: well, wrongly, too much, or never.

#![expect(clippy::unwrap_used, reason = "everything here is a test or its helper")]

mod calls;
mod executions;
mod script;
