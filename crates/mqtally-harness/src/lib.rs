//! The test bench: run a scenario against real or embedded parts.
//!
//! Start here:
//!
//! - [`run`]: play a [`Plan`](run::Plan) on a broker and record what happens.
//! - [`process`]: the broker under test: start it, kill it, start it again.
//! - [`subject`]: somebody's own client program, run behind the proxy and judged.
//! - [`scenario`]: devices, subscribers, faults and needs from a file, and the advice that they call for.
//! - [`recorder`]: one clock, one order, one history; [`convert`]: what it keeps of a packet.
//! - [`proxy`]: what sits between clients and a broker and breaks things on purpose, by rules.
//! - [`durability`]: what a broker that we start keeps, measured before a run.
//! - [`nemesis`]: which faults strike in a run, and when; the search for the fewest that still break something.
//! - [`http`]: the little that answers scrapers, browsers, and programs that report.
//! - [`broker`]: a listener and a store around the broker core of `mqtally-proto`.
//!
//! What a run does to a broker is private (`workload`, one file a group); what it found out is in the history.

pub mod broker;
pub mod convert;
pub mod durability;
pub mod http;
pub mod nemesis;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod run;
pub mod scenario;
pub mod sim;
pub mod subject;
mod workload;
