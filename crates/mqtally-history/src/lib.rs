//! What happened in a run, and which promises of MQTT were kept.
//!
//! - [`event`]: one thing that the recorder saw; [`packet`]: a packet as far as judging needs it.
//! - [`marker`]: how a message is told from every other, whatever the broker does to its packet ids.
//! - [`need`]: what an application needs of its messages, beyond what MQTT promises.
//! - [`journal`]: events to bytes and back, versioned, with a checksum on every record.
//! - [`promise`]: the catalogue of promises; [`profile`]: the durability that a broker declares.
//! - [`checker`]: `check(header, events) -> Report`, a pure function: the same history gives the same report.
//! - [`report`]: verdicts, obligations, findings, streams: what people and programs read.
//! - [`timeline`]: rates, latencies, connections and faults over time, for pictures.
//!
//! Reading a journal can fail. Judging cannot: what cannot be decided is unknown, with the reason.

pub mod checker;
pub mod event;
pub mod journal;
pub mod marker;
pub mod need;
pub mod packet;
pub mod profile;
pub mod promise;
pub mod report;
pub mod timeline;
