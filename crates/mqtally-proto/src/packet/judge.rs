//! What becomes of an unlawful packet: a strict reading stops at the first fault, a lenient one notes it and goes on.
//!
//! Both readings run the same code, so that they cannot drift apart; a [`Judge`] is all that differs.

use super::{ReasonCode, Version};

/// Why bytes are not a lawful packet; an endpoint answers with `reason` and closes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (reason code 0x{:02X})", reason.0)]
pub struct DecodeError {
    /// What a 5.0 endpoint answers (0x81 malformed, 0x82 protocol error, 0x95 too large, 0x84, 0x85, …).
    pub reason: ReasonCode,
    /// What is wrong and where, in words. Normative ids are those of 5.0 unless they say 3.1.1.
    pub detail: String,
}

impl DecodeError {
    pub(super) fn new(reason: ReasonCode, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ReasonCode::MALFORMED_PACKET, detail)
    }
}

/// Why a packet cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct EncodeError {
    /// What does not fit, in words.
    pub detail: String,
}

impl EncodeError {
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into() }
    }
}

impl From<DecodeError> for EncodeError {
    fn from(fault: DecodeError) -> Self {
        Self::new(fault.detail)
    }
}

/// Which end sent a packet, as far as the reader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
    Unknown,
}

/// Takes note of faults, in the light of the version and the direction.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) version: Version,
    pub(super) sender: Sender,
    lenient: bool,
    /// Whether a failure code is taken for a failure where it does not belong, too.
    pub(super) takes_any_failure: bool,
    irregularities: Vec<String>,
}

impl Judge {
    /// A judge who stops at the first fault.
    pub(super) fn strict(version: Version, sender: Sender) -> Self {
        Self { version, sender, lenient: false, takes_any_failure: false, irregularities: Vec::new() }
    }

    /// A judge who notes every fault and lets the reading go on.
    pub(super) fn lenient(version: Version) -> Self {
        Self { lenient: true, ..Self::strict(version, Sender::Unknown) }
    }

    /// A fault after which the packet can still be represented.
    #[cold]
    pub(super) fn fault(&mut self, reason: ReasonCode, detail: impl Into<String>) -> Result<(), DecodeError> {
        if !self.lenient {
            return Err(DecodeError::new(reason, detail));
        }
        self.irregularities.push(detail.into());
        Ok(())
    }

    /// A [fault](Self::fault) of form (0x81).
    #[cold]
    pub(super) fn malformed(&mut self, detail: impl Into<String>) -> Result<(), DecodeError> {
        self.fault(ReasonCode::MALFORMED_PACKET, detail)
    }

    /// A [fault](Self::fault) of content (0x82).
    #[cold]
    pub(super) fn protocol_error(&mut self, detail: impl Into<String>) -> Result<(), DecodeError> {
        self.fault(ReasonCode::PROTOCOL_ERROR, detail)
    }

    /// Everything noted so far, and lastly why the reading ended early, if it did.
    pub(super) fn into_irregularities(mut self, end: Option<DecodeError>) -> Vec<String> {
        self.irregularities.extend(end.map(|fault| fault.detail));
        self.irregularities
    }
}
