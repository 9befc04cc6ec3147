//! The checker against histories in a small literal form; `support` reads it.

mod application;
mod delivery;
mod duplicate;
mod expiry;
mod flow;
mod identifier;
mod integrity;
mod lawful;
mod liveness;
mod model;
mod order;
mod qos;
mod random;
mod report;
mod resumption;
mod retained;
mod session;
mod shared;
mod support;
mod unfinished;
mod will;
