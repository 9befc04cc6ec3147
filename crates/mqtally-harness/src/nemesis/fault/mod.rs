//! The kinds of fault, one file each: what it does to whom, and how much of it a run draws.

pub(super) mod aborted_connect;
pub(super) mod connect_storm;
pub(super) mod cut_publisher;
pub(super) mod cut_subscriber;
pub(super) mod half_open;
pub(super) mod kill_broker;
pub(super) mod kill_client;
pub(super) mod kill_process;
pub(super) mod pause_broker;
pub(super) mod segmentation;
pub(super) mod slow_consumer;
pub(super) mod takeover;
pub(super) mod terminate_broker;
pub(super) mod windows;

/// Client ids of a stage's publisher and of its subscriber, as a rule's condition.
const CLIENTS: [&str; 2] = ["*-publisher", "*-subscriber"];
