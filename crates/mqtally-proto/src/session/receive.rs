//! What each packet of an accepted connection does to the session.

use super::outbound::Answer;
use super::{Acknowledge, Event, ProtocolError, Session};
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
                self.outbound.remove_request(suback.packet_id);
                self.events.push_back(Event::Subscribed(suback));
                Ok(())
            }
            Packet::Unsuback(unsuback) => {
                self.outbound.remove_request(unsuback.packet_id);
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
        self.inbound.owe_puback(packet_id);
        self.events.push_back(Event::Message(publish));
        self.acknowledge_automatically(packet_id);
    }

    /// Method B: handed over at the first PUBLISH, which is the one whose packet id is not remembered [MQTT-4.3.3-2
    /// in 3.1.1, MQTT-4.3.3-10 in 5.0].
    fn receive_exactly_once(&mut self, packet_id: u16, publish: Publish) {
        let first = self.inbound.owe_pubrec(packet_id);
        self.events.push_back(if first { Event::Message(publish) } else { Event::Duplicate(publish) });
        self.acknowledge_automatically(packet_id);
    }

    fn acknowledge_automatically(&mut self, packet_id: u16) {
        if self.options.acknowledge == Acknowledge::Automatic {
            self.inbound.acknowledge(packet_id);
        }
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
        match self.outbound.puback(ack.packet_id) {
            Answer::Accepted => {
                self.finish(ack.packet_id, ack.reason);
                self.pump();
                Ok(())
            }
            Answer::Unknown | Answer::Repeated => Ok(()),
            Answer::Unfit => Err(ProtocolError::wrong_answer(ack.packet_id, "PUBACK")),
        }
    }

    fn receive_pubrec(&mut self, ack: &Ack) -> Result<(), ProtocolError> {
        let success = !ack.reason.is_error();
        match (self.outbound.pubrec(ack.packet_id, success), success) {
            (Answer::Unfit, _) => return Err(ProtocolError::wrong_answer(ack.packet_id, "PUBREC")),
            (Answer::Accepted, true) => {
                let token = self.outbound.token(ack.packet_id);
                self.events.extend(token.map(|token| Event::Received { token }));
                self.send(Packet::Pubrel(Ack::success(ack.packet_id)));
            }
            (Answer::Repeated, true) => self.send(Packet::Pubrel(Ack::success(ack.packet_id))),
            (Answer::Accepted | Answer::Repeated, false) => {
                self.finish(ack.packet_id, ack.reason);
                self.pump();
            }
            (Answer::Unknown, true) => self.send(Packet::Pubrel(self.unknown(ack.packet_id))),
            (Answer::Unknown, false) => {}
        }
        Ok(())
    }

    /// An unknown PUBREL is answered, never an error: our PUBCOMP may have been lost with its connection.
    fn receive_pubrel(&mut self, packet_id: u16) {
        if !self.inbound.release(packet_id) {
            self.send(Packet::Pubcomp(self.unknown(packet_id)));
        } else if self.options.acknowledge == Acknowledge::EveryStep {
            self.events.push_back(Event::Released { packet_id });
        } else {
            self.complete(packet_id);
        }
    }

    fn receive_pubcomp(&mut self, ack: &Ack) -> Result<(), ProtocolError> {
        match self.outbound.pubcomp(ack.packet_id) {
            Answer::Accepted => {
                self.finish(ack.packet_id, ack.reason);
                self.pump();
                Ok(())
            }
            Answer::Unknown | Answer::Repeated => Ok(()),
            Answer::Unfit => Err(ProtocolError::wrong_answer(ack.packet_id, "PUBCOMP")),
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
