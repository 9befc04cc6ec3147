//! Whole runs in virtual time.

mod lawful;
