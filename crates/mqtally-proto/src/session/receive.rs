//! What each packet of an accepted connection does to the session.

use super::{Acknowledge, Event, ProtocolError, Session};
use crate::inflight::Pubrec;
use crate::packet::{Ack, Packet, Property, Publish, Qos, ReasonCode, Version};

impl Session {
    pub(super) fn receive(&mut self, packet: Packet) -> Result<(), ProtocolError> {
        match packet {
            Packet::Publish(publish) => self.receive_publish(publish),
            Packet::Puback(ack) => self.receive_puback(&ack),
            Packet::Pubrec(ack) => self.receive_pubrec(&ack),
            Packet::Pubrel(ack) => {
                self.receive_pubrel(ack.packet_id);
                Ok(())
            }
            Packet::Pubcomp(ack) => self.receive_pubcomp(&ack),
            Packet::Suback(suback) => {
                self.outbound.unreserve(suback.packet_id);
                self.events.push_back(Event::Subscribed(suback));
                Ok(())
            }
            Packet::Unsuback(unsuback) => {
                self.outbound.unreserve(unsuback.packet_id);
                self.events.push_back(Event::Unsubscribed(unsuback));
                Ok(())
            }
            Packet::Pingresp => Ok(()),
            Packet::Disconnect(disconnect) => {
                self.stop();
                self.events.push_back(Event::Disconnected(disconnect));
                Ok(())
            }
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Auth(_) => Err(ProtocolError::not_for_clients(&packet)),
        }
    }

    fn receive_publish(&mut self, mut publish: Publish) -> Result<(), ProtocolError> {
        self.resolve_topic(&mut publish)?;
        match (publish.qos, publish.packet_id) {
            (Qos::AtMostOnce, _) => self.events.push_back(Event::Message(publish)),
            (_, None | Some(0)) => {
                return Err(ProtocolError::new(
                    ReasonCode::PROTOCOL_ERROR,
                    "a PUBLISH came without its packet id",
                ));
            }
            (Qos::AtLeastOnce, Some(packet_id)) => self.receive_at_least_once(packet_id, publish),
            (Qos::ExactlyOnce, Some(packet_id)) => self.receive_exactly_once(packet_id, publish),
        }
        Ok(())
    }

    fn receive_at_least_once(&mut self, packet_id: u16, publish: Publish) {
        self.events.push_back(Event::Message(publish));
        if self.options.acknowledge == Acknowledge::Automatic {
            return self.send(Packet::Puback(Ack::success(packet_id)));
        }
        self.inbound.owe_puback(packet_id);
    }

    /// Method B: handed over at the first PUBLISH, which is the one whose packet id is not remembered [MQTT-4.3.3-2
    /// in 3.1.1, MQTT-4.3.3-10 in 5.0].
    fn receive_exactly_once(&mut self, packet_id: u16, publish: Publish) {
        let first = self.inbound.remember(packet_id, publish.dup);
        self.events.push_back(if first { Event::Message(publish) } else { Event::Duplicate(publish) });
        if self.options.acknowledge == Acknowledge::Automatic {
            return self.send(Packet::Pubrec(Ack::success(packet_id)));
        }
        self.inbound.owe_pubrec(packet_id, first);
        self.send_ready_acknowledgements();
    }

    /// [5.0:MQTT-3.3.2-8]: an alias is above 0, at most what we announced, and was defined on this connection.
    fn resolve_topic(&mut self, publish: &mut Publish) -> Result<(), ProtocolError> {
        let alias = publish.properties.0.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(*alias),
            _ => None,
        });
        let Some(alias) = alias else { return require_topic(publish) };
        let known = (1..=self.options.topic_alias_maximum).contains(&alias);
        let topic = known.then(|| self.inbound.resolve(alias, std::mem::take(&mut publish.topic))).flatten();
        publish.topic = topic.ok_or_else(|| {
            let detail =
                format!("the server used topic alias {alias}, which it has not defined or may not define");
            ProtocolError::new(ReasonCode::TOPIC_ALIAS_INVALID, detail)
        })?;
        Ok(())
    }

    fn receive_puback(&mut self, ack: &Ack) -> Result<(), ProtocolError> {
        let message = self.outbound.puback(ack.packet_id);
        if self.finish(message, ack.reason) { Ok(()) } else { self.require_unknown(ack, "PUBACK") }
    }

    fn receive_pubrec(&mut self, ack: &Ack) -> Result<(), ProtocolError> {
        if ack.reason.is_error() {
            let message = self.outbound.pubrec_error(ack.packet_id);
            return if self.finish(message, ack.reason) {
                Ok(())
            } else {
                self.require_unknown(ack, "PUBREC")
            };
        }
        match self.outbound.pubrec(ack.packet_id) {
            Pubrec::Released => self.received(ack.packet_id),
            Pubrec::Repeated => {}
            Pubrec::Unknown => {
                self.require_unknown(ack, "PUBREC")?;
                self.send(Packet::Pubrel(self.unknown(ack.packet_id)));
                return Ok(());
            }
        }
        self.send(Packet::Pubrel(Ack::success(ack.packet_id)));
        Ok(())
    }

    /// The server owns the message from here on.
    fn received(&mut self, packet_id: u16) {
        self.pubrecs += 1;
        if let Some(message) = self.outbound.item_mut(packet_id) {
            message.pubrec = self.pubrecs;
            self.events.push_back(Event::Received { token: message.token });
        }
    }

    /// An unknown PUBREL is answered, never an error: our PUBCOMP may have been lost with its connection.
    fn receive_pubrel(&mut self, packet_id: u16) {
        if self.options.acknowledge == Acknowledge::EveryStep && self.inbound.hold_release(packet_id) {
            return self.events.push_back(Event::Released { packet_id });
        }
        let known = self.inbound.release(packet_id);
        let answer = if known { Ack::success(packet_id) } else { self.unknown(packet_id) };
        self.send(Packet::Pubcomp(answer));
    }

    fn receive_pubcomp(&mut self, ack: &Ack) -> Result<(), ProtocolError> {
        let message = self.outbound.pubcomp(ack.packet_id);
        if self.finish(message, ack.reason) { Ok(()) } else { self.require_unknown(ack, "PUBCOMP") }
    }

    /// An answer to nothing is let pass; one that does not belong to the handshake of its packet id is not.
    fn require_unknown(&self, ack: &Ack, answer: &str) -> Result<(), ProtocolError> {
        match self.outbound.item(ack.packet_id) {
            None => Ok(()),
            Some(_) => Err(ProtocolError::wrong_answer(ack.packet_id, answer)),
        }
    }

    /// 3.1.1 has no way to say that a packet id is unknown.
    fn unknown(&self, packet_id: u16) -> Ack {
        match self.options.version {
            Version::V3_1_1 => Ack::success(packet_id),
            Version::V5_0 => Ack::with_reason(packet_id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
        }
    }
}

fn require_topic(publish: &Publish) -> Result<(), ProtocolError> {
    if publish.topic.is_empty() {
        return Err(ProtocolError::new(
            ReasonCode::PROTOCOL_ERROR,
            "a PUBLISH came with neither topic nor topic alias",
        ));
    }
    Ok(())
}
