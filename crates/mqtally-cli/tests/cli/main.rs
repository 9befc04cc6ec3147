//! The program from outside: what it prints and what it ends with.

mod brokers;
mod examples;
mod help;
mod judging;
mod misuse;
mod program;
mod proxying;
mod publishing;
mod reconciling;
mod refusing;
#[path = "../relay/mod.rs"]
mod relay;
mod scenarios;
mod simulating;
mod subjects;
mod transports;
mod watching;
