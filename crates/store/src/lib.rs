//! The only SQL: migrations and queries.
