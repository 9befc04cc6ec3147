//! What is known, put into words.

use super::delivery::{Delivery, Known};
use super::{ClientIx, GroupIx, Moment, Place, World};
use crate::checker::excerpt::{self, Direction, Line};
use crate::checker::ledger::Scope;

const AFTER_RESTART: &str = ", after an end of the broker that its profile covers";

impl World {
    /// Where something about a delivery counts: its session and stream.
    pub(crate) fn scope(&self, delivery: &Delivery<'_>) -> Scope {
        let stream = delivery.known.map_or(u32::MAX, |known| known.stream);
        Scope {
            group: self.client(delivery.client).group,
            version: delivery.version,
            cause: u64::from(delivery.client) << 32 | u64::from(stream),
        }
    }

    /// Where something about a client counts.
    pub(crate) fn client_scope(&self, client: ClientIx) -> Scope {
        let it = self.client(client);
        Scope { group: it.group, version: it.version, cause: u64::from(client) << 32 }
    }

    /// `QoS 2 message 17 of alerts/fire`.
    pub(crate) fn message_name(&self, known: &Known<'_>) -> String {
        let topic = &self.stream(known.stream).topic;
        format!("QoS {} message {} of {topic}", known.marker.qos, known.marker.message.sequence)
    }

    /// What to add about a violation that a restart of the broker may explain, though the profile covers it.
    pub(crate) fn after_restart(&self, since: Place) -> &'static str {
        if self.restarted_since(since) { AFTER_RESTART } else { "" }
    }

    /// The same about one that was there at `until`.
    pub(crate) fn after_restart_by(&self, group: GroupIx, since: Place, until: Place) -> &'static str {
        if self.restarted_between(group, since, until) { AFTER_RESTART } else { "" }
    }

    /// The delivery itself.
    pub(crate) fn delivery_line(&self, delivery: &Delivery<'_>) -> Line {
        let name = &self.client(delivery.client).name;
        excerpt::line(delivery.now, name, Direction::In, excerpt::publish(delivery.publish))
    }

    /// The first copy, what happened to the connection since, and this copy.
    pub(crate) fn copies_lines(&self, delivery: &Delivery<'_>, known: &Known<'_>) -> Vec<Line> {
        let first = known.copies.first_moment();
        let mut lines = self.control_lines(delivery.client, first.place);
        lines.push(self.first_copy_line(delivery.client, known, known.copies.first_packet_id, first));
        lines.push(self.delivery_line(delivery));
        lines
    }

    /// What the client's connections went through since `from`.
    pub(crate) fn control_lines(&self, client: ClientIx, from: Place) -> Vec<Line> {
        self.client(client).control.iter().filter(|line| line.place > from).cloned().collect()
    }

    /// The overtaking message's first copy, and the one that it overtook.
    pub(crate) fn out_of_order_lines(
        &self,
        delivery: &Delivery<'_>,
        known: &Known<'_>,
        after: u64,
    ) -> Vec<Line> {
        let copies = self.client(delivery.client).copies_of(known.stream, after);
        let stream = self.stream(known.stream);
        let id = stream.id(after);
        let text = format!(
            "PUBLISH id={} topic={} message={}/{}/{}",
            copies.first_packet_id, stream.topic, id.publisher, id.stream, id.sequence
        );
        let name = &self.client(delivery.client).name;
        vec![excerpt::line(copies.first_moment(), name, Direction::In, text), self.delivery_line(delivery)]
    }

    fn first_copy_line(&self, client: ClientIx, known: &Known<'_>, packet_id: u16, at: Moment) -> Line {
        let id = known.marker.message;
        let topic = &self.stream(known.stream).topic;
        let text = format!(
            "PUBLISH id={packet_id} topic={topic} message={}/{}/{}",
            id.publisher, id.stream, id.sequence
        );
        excerpt::line(at, &self.client(client).name, Direction::In, text)
    }
}
