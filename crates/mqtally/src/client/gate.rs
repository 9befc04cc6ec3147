//! What has to be on disk before it is on the wire.
//!
//! A QoS 2 packet id means one message to the server until PUBCOMP. A process that dies and has forgotten which
//! message that was gives the id to another one, which the server drops as a copy, or sends the message under another
//! id, which the server takes for a new one. So the id is recorded before PUBLISH, and PUBREC before PUBREL.

use mqtally_proto::packet::{Packet, Publish, Qos};
use mqtally_proto::session::Session;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Called with steps that have to be recorded. It runs inside the socket loop: it must not block.
pub type Gate = Arc<dyn Fn(Steps) + Send + Sync>;

/// Steps that have been taken and of which the server does not know yet.
#[derive(Debug)]
pub struct Steps {
    /// In their order; at least one.
    pub steps: Vec<Step>,
    /// Nothing is written until this is sent. When it is dropped instead, the connection is ended.
    pub recorded: oneshot::Sender<()>,
}

/// One step of a QoS 2 handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// As given to [`Client::publish`](super::Client::publish).
    pub token: u64,
    /// The packet id under which the server knows the message.
    pub packet_id: u16,
    /// Within which of the server's sessions: [`Session::begun`].
    pub begun: u64,
    /// Whether PUBREC has come, and PUBREL is next; otherwise PUBLISH is.
    pub released: bool,
}

impl Step {
    /// The step that `packet`, about to be written, stands for.
    pub(super) fn of(packet: &Packet, session: &Session) -> Option<Self> {
        let (packet_id, released) = match packet {
            Packet::Publish(Publish { qos: Qos::ExactlyOnce, packet_id: Some(id), .. }) => (*id, false),
            Packet::Pubrel(ack) => (ack.packet_id, true),
            _ => return None,
        };
        let token = session.token(packet_id)?;
        Some(Self { token, packet_id, begun: session.begun(), released })
    }
}
