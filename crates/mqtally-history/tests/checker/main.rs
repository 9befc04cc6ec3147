//! The checker against histories in a small literal form; `support` reads it.

mod application;
mod decisions;
mod delivery;
mod duplicate;
mod epochs;
mod expiry;
mod flow;
mod identifier;
mod integrity;
mod lawful;
mod liveness;
mod matrix;
mod model;
mod oddities;
mod order;
mod qos;
mod random;
mod report;
mod resumption;
mod retained;
mod session;
mod shared;
mod subject;
mod support;
mod unfinished;
mod will;
