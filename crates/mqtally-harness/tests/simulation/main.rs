//! Whole runs in virtual time: lawful ones, broken ones, and histories that were tampered with.

mod broken;
mod lawful;
mod mutated;
mod rules;

use std::ops::Range;

/// So many seeds, or as many as this variable of the environment asks for.
fn seeds(variable: &str, count: u64) -> Range<u64> {
    0..std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(count)
}
