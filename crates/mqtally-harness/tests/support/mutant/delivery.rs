//! What the proxy does to single deliveries.

use super::{Link, Mutant, OWN_PACKET_ID, State};
use mqtally_history::marker::{Identity, Marker, Purpose};
use mqtally_proto::packet::{Ack, Packet, Property, Publish, Qos};

/// The message of a stream that is struck.
const VICTIM: u64 = 5;
/// The bit of DUP in the first byte of a PUBLISH.
const DUP: u8 = 0x08;

impl Link {
    pub(super) fn publish(&mut self, mut publish: Publish, state: &mut State) {
        if self.holds(&publish, state) {
            return;
        }
        match state.mutant {
            Mutant::RepeatRefused
                if self.is("declining") && self.number == 1 && publish.qos == Qos::AtLeastOnce =>
            {
                state.kept = Some(publish.clone());
            }
            Mutant::MoveQos2 if self.is("holder") && publish.qos == Qos::ExactlyOnce => {
                state.kept = Some(publish.clone());
            }
            Mutant::TwoMembers if self.is("member-a") && publish.qos == Qos::AtLeastOnce => {
                state.kept.get_or_insert_with(|| publish.clone());
            }
            Mutant::TwoMembers if self.is("member-b") && state.strikes == 0 => {
                if let Some(kept) = state.kept.clone() {
                    state.strikes += 1;
                    self.client(&Packet::Publish(Publish { packet_id: Some(OWN_PACKET_ID), ..kept }));
                }
            }
            Mutant::MatchDollar => self.deliver_aside(state),
            Mutant::SendAgain if self.is("patience-qos1") && state.strikes == 0 => {
                state.strikes += 1;
                self.client(&Packet::Publish(publish.clone()));
                publish.dup = true;
            }
            Mutant::UseAlias if self.is("numbering") && state.strikes == 0 => {
                state.strikes += 1;
                publish.properties.0.push(Property::TopicAlias(9));
            }
            _ => {}
        }
        if let Some(before) = self.held_back.take() {
            if before.topic == publish.topic {
                self.client(&Packet::Publish(publish));
                return self.client(&Packet::Publish(before));
            }
            self.held_back = Some(before);
        }
        let Identity::Ours(marker) = Identity::of(state.run, &publish.payload) else {
            return self.client(&Packet::Publish(publish));
        };
        if is_fresh(&publish, &marker) && state.torn.remove(&self.client) {
            state.strikes += 1;
            return self.broker(&Packet::Puback(Ack::success(publish.packet_id.unwrap_or_default())));
        }
        if state.mutant == Mutant::HandOnDup && state.seen_again.contains(&marker.message) && !publish.dup {
            state.strikes += 1;
            publish.dup = true;
        }
        if !self.is_victim(&publish, &marker, state.mutant) {
            return self.client(&Packet::Publish(publish));
        }
        state.strikes += 1;
        let packet_id = publish.packet_id.unwrap_or_default();
        match state.mutant {
            Mutant::DropQos1
            | Mutant::DropRetained
            | Mutant::DropWill
            | Mutant::LoseAskedAgain
            | Mutant::MissParent
            | Mutant::LoseShared
            | Mutant::ExpireMessageEarly => {
                return self.broker(&Packet::Puback(Ack::success(packet_id)));
            }
            // The client answers it as it answers any other, see `answer_own`.
            Mutant::WrongPubrel => self.renamed = Some(packet_id),
            Mutant::DropQos2 => {
                self.renamed = Some(packet_id);
                return self.broker(&Packet::Pubrec(Ack::success(packet_id)));
            }
            Mutant::MarkQos0 => {
                let at = self.to_client.len();
                self.client(&Packet::Publish(publish));
                // No encoder of ours would write this.
                self.to_client[at] |= DUP;
                return;
            }
            Mutant::DeliverQos1Twice | Mutant::DeliverQos2Twice => {
                self.client(&Packet::Publish(publish.clone()));
                publish.packet_id = Some(OWN_PACKET_ID);
            }
            Mutant::ClearDup => publish.dup = false,
            Mutant::NewPacketId => {
                self.renamed = Some(packet_id);
                publish.packet_id = Some(OWN_PACKET_ID + 1);
            }
            Mutant::Swap => {
                self.held_back = Some(publish);
                return;
            }
            Mutant::UpgradeQos => {
                publish.qos = Qos::AtLeastOnce;
                publish.packet_id = Some(OWN_PACKET_ID + 2);
            }
            Mutant::CorruptPayload => publish.payload = corrupted(&publish),
            Mutant::SwapUserProperties => publish.properties.0.reverse(),
            Mutant::Phantom => {
                self.client(&Packet::Publish(publish.clone()));
                publish = phantom(publish, marker);
            }
            Mutant::ClearRetain => publish.retain = false,
            Mutant::SetRetain => publish.retain = true,
            Mutant::RestoreExpiry => publish.properties.0 = vec![Property::MessageExpiryInterval(60)],
            Mutant::StripIdentifiers => publish.properties.0.clear(),
            Mutant::WrongTopic => publish.topic = format!("{}x", publish.topic).into(),
            other => unreachable!("{other:?} strikes no delivery"),
        }
        self.client(&Packet::Publish(publish));
    }

    /// One delivery of one stream to one client.
    fn is_victim(&self, publish: &Publish, marker: &Marker, mutant: Mutant) -> bool {
        let window_10 = |qos: u8| publish.topic.ends_with(&format!("window-10/{qos}"));
        let bulk = |to: &str, qos: u8| self.is(to) && window_10(qos) && marker.message.sequence == VICTIM;
        let redelivered = self.is("held-qos1-fin") && self.number == 2 && publish.dup;
        match mutant {
            Mutant::MarkQos0 => bulk("bulk-granted-0", 0),
            Mutant::DropQos1 | Mutant::DeliverQos1Twice | Mutant::Swap | Mutant::Phantom => {
                bulk("bulk-granted-1", 1)
            }
            Mutant::DropQos2 | Mutant::DeliverQos2Twice | Mutant::WrongPubrel => bulk("bulk-granted-2", 2),
            Mutant::LoseAskedAgain => {
                self.is("asking-again") && is_fresh(publish, marker) && self.unsubscribed
            }
            Mutant::MissParent => {
                self.is("matching") && is_fresh(publish, marker) && publish.topic.ends_with("/1/a")
            }
            Mutant::LoseShared => {
                self.is("member-a") && is_fresh(publish, marker) && marker.message.sequence < VICTIM
            }
            Mutant::ExpireMessageEarly => {
                self.is("expiry-away") && publish.qos == Qos::AtLeastOnce && !publish.properties.is_empty()
            }
            Mutant::UpgradeQos => bulk("bulk-granted-0", 1),
            Mutant::CorruptPayload => self.is("bulk-granted-2") && window_10(2) && publish.payload.len() > 40,
            Mutant::SwapUserProperties => self.is("bulk-granted-1") && publish.properties.0.len() > 4,
            Mutant::WrongTopic => self.is("bulk-exact") && marker.message.sequence == VICTIM,
            Mutant::ClearDup => redelivered,
            Mutant::DropRetained => self.is("retained-late-1") && publish.topic.ends_with("state/1"),
            Mutant::ClearRetain => self.is("retained-late-1") && publish.topic.ends_with("state/1"),
            Mutant::SetRetain => self.is("retained-live"),
            Mutant::DropWill => self.is("will-witness") && publish.topic.ends_with("will-fin"),
            Mutant::RestoreExpiry => self.is("expiry-away") && !publish.properties.is_empty(),
            Mutant::StripIdentifiers => self.is("numbering") && !publish.properties.is_empty(),
            Mutant::NewPacketId => redelivered && marker.message.sequence == 0,
            _ => false,
        }
    }
}

/// A first copy of the load at QoS 1.
fn is_fresh(publish: &Publish, marker: &Marker) -> bool {
    publish.qos == Qos::AtLeastOnce && !publish.dup && marker.purpose == Purpose::Load
}

fn corrupted(publish: &Publish) -> bytes::Bytes {
    let mut payload = publish.payload.to_vec();
    *payload.last_mut().expect("it has a body") ^= 0x40;
    payload.into()
}

/// The next message but a thousand of the same stream: no publisher gets that far.
fn phantom(mut publish: Publish, mut marker: Marker) -> Publish {
    marker.message.sequence += 1_000_000;
    marker.purpose = Purpose::Load;
    publish.payload = marker.encode().to_vec().into();
    publish.packet_id = Some(OWN_PACKET_ID + 3);
    publish
}
