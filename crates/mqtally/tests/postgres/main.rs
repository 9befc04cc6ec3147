//! The laws of the inbox in PostgreSQL, against a real server.

#[path = "../inbox_support/mod.rs"]
mod inbox_support;
#[path = "../postgres_support/mod.rs"]
mod postgres_support;

mod handler;
mod laws;
mod members;
mod opening;
