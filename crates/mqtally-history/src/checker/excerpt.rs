//! The lines of evidence.

use super::world::{Moment, Place};
use crate::marker::Identity;
use crate::packet::{Packet, Publish};
use std::fmt::{self, Write};

/// One line of an excerpt, and the event that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Which way a packet went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    /// From the client to the broker.
    Out,
    /// From the broker to the client.
    In,
    /// Not a packet.
    None,
}

/// `  1203.4 ms  sub-2  <  PUBLISH id=5 …`: `<` was received, `>` was sent.
pub(crate) fn line(now: Moment, client: &str, direction: Direction, text: impl fmt::Display) -> Line {
    let arrow = match direction {
        Direction::Out => '>',
        Direction::In => '<',
        Direction::None => '|',
    };
    let text = format!("{:>9.1} ms  {client}  {arrow}  {text}", now.at_ns as f64 / 1e6);
    Line { place: now.place, text }
}

/// A packet in one line.
pub(crate) fn packet(packet: &Packet) -> String {
    match packet {
        Packet::Connect(it) => format!(
            "CONNECT clean={} expiry={} receive-maximum={}",
            u8::from(it.clean_start),
            it.session_expiry,
            it.receive_maximum
        ),
        Packet::Connack(it) => {
            format!("CONNACK session-present={} reason=0x{:02x}", u8::from(it.session_present), it.reason)
        }
        Packet::Publish(it) => publish(it),
        Packet::Puback(id, reason) => ack("PUBACK", *id, *reason),
        Packet::Pubrec(id, reason) => ack("PUBREC", *id, *reason),
        Packet::Pubrel(id, reason) => ack("PUBREL", *id, *reason),
        Packet::Pubcomp(id, reason) => ack("PUBCOMP", *id, *reason),
        Packet::Subscribe(it) => {
            let filters = it.filters.iter().map(|filter| format!("{} qos={}", filter.filter, filter.qos));
            format!("SUBSCRIBE id={} {}", it.packet_id, filters.collect::<Vec<_>>().join(", "))
        }
        Packet::Suback(id, codes) => format!("SUBACK id={id} codes={codes:02x?}"),
        Packet::Unsubscribe(id, filters) => format!("UNSUBSCRIBE id={id} {}", filters.join(", ")),
        Packet::Unsuback(id, codes) => format!("UNSUBACK id={id} codes={codes:02x?}"),
        Packet::Pingreq => "PINGREQ".to_owned(),
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(reason, _) => format!("DISCONNECT reason=0x{reason:02x}"),
        Packet::Auth(reason) => format!("AUTH reason=0x{reason:02x}"),
    }
}

/// A PUBLISH in one line; its message is publisher/stream/sequence.
pub(crate) fn publish(it: &Publish) -> String {
    let mut text = format!("PUBLISH id={} qos={} dup={}", it.packet_id, it.qos, u8::from(it.dup));
    if it.retain {
        text.push_str(" retain=1");
    }
    let _ = write!(text, " topic={} message={}", it.topic, Named(&it.identity));
    text
}

/// An acknowledgement in one line.
pub(crate) fn ack(name: &str, id: u16, reason: u8) -> String {
    match reason {
        0 => format!("{name} id={id}"),
        _ => format!("{name} id={id} reason=0x{reason:02x}"),
    }
}

/// How an identity is shown.
struct Named<'a>(&'a Identity);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Identity::Ours(marker) => {
                let id = marker.message;
                write!(f, "{}/{}/{}", id.publisher, id.stream, id.sequence)
            }
            Identity::Foreign => f.write_str("of-another-run"),
            Identity::Corrupt => f.write_str("damaged"),
            Identity::Unmarked => f.write_str("unmarked"),
        }
    }
}

/// A time in seconds, as findings print it.
pub(crate) fn seconds(at_ns: u64) -> String {
    format!("{:.3} s", at_ns as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{self, Step};

    #[test]
    fn a_line_can_be_taken_apart_again() {
        let now = Moment { place: 7, at_ns: 1_203_400_000 };
        let check = |direction, expect| {
            let line = line(now, "sub 2", direction, "PUBLISH id=5  <  odd");
            let step =
                Step { at_ms: "1203.4", client: "sub 2", direction: expect, text: "PUBLISH id=5  <  odd" };
            assert_eq!(Step::read(&line.text), Some(step));
        };
        check(Direction::Out, report::Direction::ToBroker);
        check(Direction::In, report::Direction::ToClient);
        check(Direction::None, report::Direction::Nowhere);
        assert_eq!(Step::read("… 3 more"), None);
    }
}
