//! `mqtally sub` as a shell sees it: the real program, real sockets, the embedded broker as another process.

mod bench;
mod brokers;
mod handlers;
mod hook;
mod misuse;
mod payloads;
#[path = "../relay/mod.rs"]
mod relay;
mod republish;
mod signals;
mod stores;
mod transports;
mod watching;
