//! What happened, as a recorder of real clients would have written it.

use mqtally_history::event::{BrokerEvent, ConnectionId, Event, EventKind};
use mqtally_history::marker::{Identity, MessageId, Purpose};
use mqtally_history::packet as seen;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) run: u32,
    pub(super) now: Duration,
    pub(super) events: Vec<Event>,
    connections: u32,
    /// Sentinels that reached a client.
    sentinels: BTreeSet<(Arc<str>, MessageId)>,
}

impl Trace {
    pub(super) fn new(run: u32) -> Self {
        Self { run, ..Self::default() }
    }

    pub(super) fn record(&mut self, kind: EventKind) {
        let at_ns = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        self.events.push(Event { at_ns, kind });
    }

    pub(super) fn broker(&mut self, event: BrokerEvent) {
        self.record(EventKind::Broker(event));
    }

    pub(super) fn fault(&mut self, kind: &str, client: Option<&Arc<str>>) {
        self.record(EventKind::Fault { kind: kind.into(), client: client.cloned() });
    }

    pub(super) fn connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    pub(super) fn received(&mut self, client: &Arc<str>, connection: ConnectionId, packet: seen::Packet) {
        if let seen::Packet::Publish(publish) = &packet
            && let Identity::Ours(marker) = publish.identity
            && marker.purpose == Purpose::Sentinel
        {
            self.sentinels.insert((client.clone(), marker.message));
        }
        self.record(EventKind::Received(connection, packet));
    }

    pub(super) fn has_arrived(&self, client: &Arc<str>, sentinel: MessageId) -> bool {
        self.sentinels.contains(&(client.clone(), sentinel))
    }
}
