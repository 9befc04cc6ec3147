//! A report as bytes: one file a format. Somebody else writes them.

#[cfg(test)]
mod fixture;
pub(crate) mod json;
mod streams;
mod style;
mod table;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use style::Look;
