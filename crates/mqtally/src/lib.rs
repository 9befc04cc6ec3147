//! Reliable MQTT endpoints.
pub mod connection;
pub mod endpoint;
