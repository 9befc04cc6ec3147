//! Message identity. A packet id never identifies a message; a marker inside the payload does.

/// Identity of a message that a run published.
///
/// `sequence` is dense for each publisher and stream, from 0, so that what is missing has a number. A stream is one
/// topic at one QoS of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The publishing process of this run; a restarted publisher is a new one.
    pub publisher: u32,
    /// The publisher's stream.
    pub stream: u16,
    /// Place in the stream.
    pub sequence: u64,
}

/// What a payload carries to be recognised: 32 bytes in front of a binary payload, or the same in hexadecimal as the
/// value of `"mqtally"` in a JSON envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marker {
    /// The run, so that what an earlier run left behind is foreign and not a phantom.
    pub run: u32,
    /// Which message.
    pub message: MessageId,
    /// How often it was submitted anew (not: re-sent in its session) before this copy.
    pub attempt: u16,
    /// QoS it was published at.
    pub qos: u8,
    /// What the message is for.
    pub purpose: Purpose,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Part of the workload.
    Load = 0,
    /// Ends a stream: what was completed before it and is missing when it arrives is lost.
    Sentinel = 1,
    /// Probes that a subscription is alive.
    Canary = 2,
}

/// What a received payload says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// It carries a whole marker of this run.
    Ours(Marker),
    /// It carries a whole marker of another run.
    Foreign,
    /// It begins as a marker does and is damaged.
    Corrupt,
    /// It carries no marker.
    Unmarked,
}
