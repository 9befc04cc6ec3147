//! An effect as data: SQL and its values, for an inbox in a database server.

use bytes::Bytes;
use std::sync::Arc;

/// One SQL statement with numbered parameters, `$1` and so on.
///
/// Texts and integers fit a parameter of any type that can be written that way: a text is read as the server reads a
/// literal, so `2026-01-31T00:00:00Z` fits a `timestamptz` and `{"a":1}` a `jsonb`. Names are looked up in the inbox's
/// schema first; qualify those of your tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// One statement, no transaction control. Equal texts are parsed once.
    pub sql: Arc<str>,
    /// Values of its parameters, in order.
    pub values: Vec<Value>,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A number.
    Integer(i64),
    /// A text, without U+0000.
    Text(String),
    /// Bytes; a parameter that is no `bytea` takes them as text where they are UTF-8.
    Bytes(Bytes),
}
