//! When it happened: rates, latencies, connections and faults over the time of a run. A picture's data, no judgement.
//!
//! The memory of a timeline has a bound, whatever the length of the history: its buckets double their width when they
//! run out, and what is listed singly (connections, faults) is counted beyond a limit. Only messages that are under
//! way are remembered.
//!
//! ```
//! use mqtally_history::event::{Event, EventKind};
//! use mqtally_history::timeline::Timeline;
//!
//! let mut timeline = Timeline::default();
//! timeline.observe(&Event { at_ns: 5_000_000, kind: EventKind::Fault { kind: "cut".into(), client: None } });
//! assert_eq!((timeline.marks()[0].kind.as_ref(), timeline.marks()[0].at_ns), ("cut", 0));
//! ```

use crate::event::{BrokerEvent, Closing, ConnectionId, Event, EventKind};
use crate::marker::{Identity, MessageId};
use crate::packet::{Packet, Publish, Version};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Buckets of the whole run; with one more, two become one.
const BUCKETS_MAX: usize = 240;
/// Width of a bucket at the beginning.
const BUCKET_NS_MIN: u64 = 1_000_000;
/// Clients, connections of a client, faults and outages that are listed.
const LANES_MAX: usize = 500;
const STAYS_MAX: usize = 500;
const MARKS_MAX: usize = 5_000;
/// Messages under way that are timed.
const UNDER_WAY_MAX: usize = 1 << 20;

/// A history over time. Times are nanoseconds since its first event.
#[derive(Debug)]
pub struct Timeline {
    began_ns: Option<u64>,
    now_ns: u64,
    bucket_ns: u64,
    buckets: Vec<Bucket>,
    lanes: Vec<Lane>,
    lanes_left_out: u64,
    marks: Vec<Mark>,
    marks_left_out: u64,
    outages: Vec<Span>,
    parts: Vec<Part>,
    lane_of_client: FxHashMap<Arc<str>, u32>,
    connections: FxHashMap<ConnectionId, Open>,
    /// When a message that has not arrived anywhere was first sent.
    sent_ns: FxHashMap<MessageId, u64>,
    /// When a message that has no final acknowledgement was first sent, by client and packet id.
    unacknowledged_ns: FxHashMap<(u32, u16), u64>,
}

/// What happened in one stretch of time.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// PUBLISH packets sent.
    pub published: u64,
    /// PUBLISH packets received.
    pub delivered: u64,
    /// From the first byte sent to the final acknowledgement, by when that came.
    pub acknowledged: Latencies,
    /// From the first byte sent to the first copy received, by when that came.
    pub arrived: Latencies,
}

/// A client and its connections.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Client id.
    pub client: Arc<str>,
    /// Version it speaks.
    pub version: Version,
    /// Its connections in order, at most the first 500.
    pub stays: Vec<Stay>,
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// When the transport was opened.
    pub from_ns: u64,
    /// When it was gone; none when it outlived the history.
    pub to_ns: Option<u64>,
    /// Session present, once the broker has accepted it.
    pub session_present: Option<bool>,
    /// How it ended.
    pub closing: Option<Closing>,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at_ns: u64,
    /// Kind, such as `cut-subscriber`.
    pub kind: Arc<str>,
    /// The client it struck, when one.
    pub client: Option<Arc<str>>,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from_ns: u64,
    /// Its end; none when it outlived the history.
    pub to_ns: Option<u64>,
}

/// A part of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Group name.
    pub name: Arc<str>,
    /// Version its clients speak.
    pub version: Version,
    /// When it went on.
    pub span: Span,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            began_ns: None,
            now_ns: 0,
            bucket_ns: BUCKET_NS_MIN,
            buckets: Vec::new(),
            lanes: Vec::new(),
            lanes_left_out: 0,
            marks: Vec::new(),
            marks_left_out: 0,
            outages: Vec::new(),
            parts: Vec::new(),
            lane_of_client: FxHashMap::default(),
            connections: FxHashMap::default(),
            sent_ns: FxHashMap::default(),
            unacknowledged_ns: FxHashMap::default(),
        }
    }
}

impl Timeline {
    /// Takes in the next event.
    pub fn observe(&mut self, event: &Event) {
        let began_ns = *self.began_ns.get_or_insert(event.at_ns);
        self.now_ns = self.now_ns.max(event.at_ns.saturating_sub(began_ns));
        match &event.kind {
            EventKind::Opened { connection, client, version, .. } => {
                self.opened(*connection, client, *version);
            }
            EventKind::Sent(connection, packet) => self.sent(*connection, packet),
            EventKind::Received(connection, packet) => self.received(*connection, packet),
            EventKind::Closed(connection, closing) => self.closed(*connection, *closing),
            EventKind::Fault { kind, client } => self.mark(kind.clone(), client.clone()),
            EventKind::Broker(event) => self.broker(*event),
            EventKind::GroupStarted { group, version } => self.parts.push(Part {
                name: group.clone(),
                version: *version,
                span: Span { from_ns: self.now_ns, to_ns: None },
            }),
            EventKind::GroupEnded { .. } => self.part_over(),
            _ => {}
        }
    }

    /// From the first event to the last, nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        self.now_ns
    }

    /// The run in stretches of equal length ([`bucket_ns`](Self::bucket_ns)), at most 240.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Width of a bucket, nanoseconds.
    pub fn bucket_ns(&self) -> u64 {
        self.bucket_ns
    }

    /// Clients in the order of their first connection, at most 500.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Connections of clients that have no lane.
    pub fn lanes_left_out(&self) -> u64 {
        self.lanes_left_out
    }

    /// Faults injected on purpose, at most the first 5,000.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Faults that are not listed.
    pub fn marks_left_out(&self) -> u64 {
        self.marks_left_out
    }

    /// When the broker was away.
    pub fn outages(&self) -> &[Span] {
        &self.outages
    }

    /// Messages that were sent, at QoS 1 or 2 and with identities of ours, and are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        self.unacknowledged_ns.len()
    }

    /// Connections that are open, of clients that have a lane.
    pub fn connected(&self) -> usize {
        self.connections.len()
    }

    /// The parts of the run.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn opened(&mut self, connection: ConnectionId, client: &Arc<str>, version: Version) {
        let Some(lane) = self.lane(client, version) else { return self.lanes_left_out += 1 };
        let stays = &mut self.lanes[lane as usize].stays;
        let stay = Stay { from_ns: self.now_ns, to_ns: None, session_present: None, closing: None };
        let place = (stays.len() < STAYS_MAX).then(|| {
            stays.push(stay);
            stays.len() - 1
        });
        self.connections.insert(connection, Open { lane, place });
    }

    fn lane(&mut self, client: &Arc<str>, version: Version) -> Option<u32> {
        if let Some(lane) = self.lane_of_client.get(client) {
            return Some(*lane);
        }
        let lane = u32::try_from(self.lanes.len()).ok().filter(|_| self.lanes.len() < LANES_MAX)?;
        self.lanes.push(Lane { client: client.clone(), version, stays: Vec::new() });
        self.lane_of_client.insert(client.clone(), lane);
        Some(lane)
    }

    fn sent(&mut self, connection: ConnectionId, packet: &Packet) {
        let Packet::Publish(publish) = packet else { return };
        self.bucket().published += 1;
        if publish.dup || self.sent_ns.len() + self.unacknowledged_ns.len() >= UNDER_WAY_MAX {
            return;
        }
        if let Some(message) = ours(publish) {
            self.sent_ns.entry(message).or_insert(self.now_ns);
        }
        if let (1.., Some(open)) = (publish.qos, self.connections.get(&connection)) {
            self.unacknowledged_ns.insert((open.lane, publish.packet_id), self.now_ns);
        }
    }

    fn received(&mut self, connection: ConnectionId, packet: &Packet) {
        match packet {
            Packet::Publish(publish) => {
                let sent_ns = ours(publish).and_then(|message| self.sent_ns.remove(&message));
                let now_ns = self.now_ns;
                let bucket = self.bucket();
                bucket.delivered += 1;
                sent_ns.into_iter().for_each(|sent_ns| bucket.arrived.add_ns(now_ns - sent_ns));
            }
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) => self.acknowledged(connection, *id),
            Packet::Connack(connack) if connack.reason == 0 => {
                let present = connack.session_present;
                self.stay(connection, |stay| stay.session_present = Some(present));
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, connection: ConnectionId, packet_id: u16) {
        let Some(open) = self.connections.get(&connection) else { return };
        let Some(sent_ns) = self.unacknowledged_ns.remove(&(open.lane, packet_id)) else { return };
        let took_ns = self.now_ns - sent_ns;
        self.bucket().acknowledged.add_ns(took_ns);
    }

    fn closed(&mut self, connection: ConnectionId, closing: Closing) {
        let now_ns = self.now_ns;
        self.stay(connection, |stay| (stay.to_ns, stay.closing) = (Some(now_ns), Some(closing)));
        self.connections.remove(&connection);
    }

    fn stay(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Stay)) {
        let Some(Open { lane, place: Some(place) }) = self.connections.get(&connection) else { return };
        change(&mut self.lanes[*lane as usize].stays[*place]);
    }

    fn broker(&mut self, event: BrokerEvent) {
        let away = self.outages.last().is_some_and(|outage| outage.to_ns.is_none());
        match event {
            BrokerEvent::Started | BrokerEvent::Resumed => {
                if let Some(outage) = self.outages.last_mut().filter(|_| away) {
                    outage.to_ns = Some(self.now_ns);
                }
                return;
            }
            BrokerEvent::Terminated => self.mark("terminate-broker".into(), None),
            BrokerEvent::Killed => self.mark("kill-broker".into(), None),
            BrokerEvent::PowerLost => self.mark("power-loss".into(), None),
            BrokerEvent::Paused => self.mark("pause-broker".into(), None),
            BrokerEvent::Exited => {}
        }
        if !away && self.outages.len() < MARKS_MAX {
            self.outages.push(Span { from_ns: self.now_ns, to_ns: None });
        }
    }

    fn mark(&mut self, kind: Arc<str>, client: Option<Arc<str>>) {
        if self.marks.len() >= MARKS_MAX {
            return self.marks_left_out += 1;
        }
        self.marks.push(Mark { at_ns: self.now_ns, kind, client });
    }

    /// Its messages are over, too.
    fn part_over(&mut self) {
        let ended_ns = Some(self.now_ns);
        if let Some(part) = self.parts.last_mut() {
            part.span.to_ns = ended_ns;
        }
        self.sent_ns.clear();
        self.unacknowledged_ns.clear();
    }

    /// The bucket of now.
    fn bucket(&mut self) -> &mut Bucket {
        while self.place() >= BUCKETS_MAX {
            self.widen();
        }
        let place = self.place();
        if self.buckets.len() <= place {
            self.buckets.resize_with(place + 1, Bucket::default);
        }
        &mut self.buckets[place]
    }

    fn place(&self) -> usize {
        usize::try_from(self.now_ns / self.bucket_ns).unwrap_or(usize::MAX)
    }

    fn widen(&mut self) {
        self.bucket_ns *= 2;
        let halves = std::mem::take(&mut self.buckets);
        self.buckets =
            halves.chunks(2).map(|pair| pair.iter().fold(Bucket::default(), Bucket::with)).collect();
    }
}

impl Bucket {
    fn with(mut self, other: &Bucket) -> Bucket {
        self.published += other.published;
        self.delivered += other.delivered;
        self.acknowledged.merge(&other.acknowledged);
        self.arrived.merge(&other.arrived);
        self
    }
}

/// An open connection: its client's lane, and its place there when it is listed.
#[derive(Debug)]
struct Open {
    lane: u32,
    place: Option<usize>,
}

fn ours(publish: &Publish) -> Option<MessageId> {
    match &publish.identity {
        Identity::Ours(marker) => Some(marker.message),
        _ => None,
    }
}

/// Latencies in bins that grow by a quarter of an octave: a quantile is right to 19 %, which a picture cannot show.
#[derive(Debug, Clone)]
pub struct Latencies {
    bins: [u32; BINS],
}

const BINS_PER_OCTAVE: u32 = 4;
/// To 2³² µs, which is over an hour.
const BINS: usize = 32 * BINS_PER_OCTAVE as usize;

impl Default for Latencies {
    fn default() -> Self {
        Self { bins: [0; BINS] }
    }
}

impl Latencies {
    /// The latency, microseconds, below which the share `quantile` (0 to 1) of all lies; none where there are none.
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let all: u64 = self.bins.iter().copied().map(u64::from).sum();
        // The first is the lowest of any quantile.
        let wanted = ((all as f64 * quantile).ceil() as u64).max(1);
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += u64::from(*count);
            below >= wanted
        })?;
        Some(upper_us(bin))
    }

    fn add_ns(&mut self, ns: u64) {
        let bin = &mut self.bins[bin_of_us(ns / 1_000)];
        *bin = bin.saturating_add(1);
    }

    /// Takes in what another has.
    pub fn merge(&mut self, other: &Latencies) {
        for (bin, more) in self.bins.iter_mut().zip(other.bins) {
            *bin = bin.saturating_add(more);
        }
    }
}

fn bin_of_us(us: u64) -> usize {
    let us = us.clamp(1, u64::from(u32::MAX)) as f64;
    ((us.log2() * f64::from(BINS_PER_OCTAVE)) as usize).min(BINS - 1)
}

/// The end of a bin, microseconds.
fn upper_us(bin: usize) -> u64 {
    2f64.powf((bin + 1) as f64 / f64::from(BINS_PER_OCTAVE)).floor() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Role;
    use crate::marker::{Marker, Purpose};
    use crate::packet::{Connack, Connect};

    const CONNECTION: ConnectionId = ConnectionId(1);

    fn timeline(events: impl IntoIterator<Item = (u64, EventKind)>) -> Timeline {
        let mut timeline = Timeline::default();
        for (at_ms, kind) in events {
            timeline.observe(&Event { at_ns: at_ms * 1_000_000, kind });
        }
        timeline
    }

    fn opened() -> EventKind {
        EventKind::Opened {
            connection: CONNECTION,
            client: "c".into(),
            version: Version::V5_0,
            role: Role::Own,
        }
    }

    fn publish(sequence: u64) -> Packet {
        let message = MessageId { publisher: 1, stream: 1, sequence };
        Packet::Publish(Publish {
            dup: false,
            qos: 1,
            retain: false,
            packet_id: 1,
            topic: "a".into(),
            identity: Identity::Ours(Marker { run: 1, message, attempt: 0, qos: 1, purpose: Purpose::Load }),
            packet_len: 40,
            payload_len: 32,
            payload_crc: 0,
            properties: None,
            message_expiry: None,
            subscription_ids: Vec::new(),
            topic_alias: None,
        })
    }

    #[test]
    fn latencies_count_where_they_end() {
        let timeline = timeline([
            (100, opened()),
            (101, EventKind::Sent(CONNECTION, publish(0))),
            (103, EventKind::Received(CONNECTION, publish(0))),
            (109, EventKind::Received(CONNECTION, Packet::Puback(1, 0))),
        ]);
        let [sent, arrived, acknowledged] = [1, 3, 9].map(|ms| &timeline.buckets()[ms]);
        assert_eq!((sent.published, arrived.delivered), (1, 1));
        assert!((2_000..2_400).contains(&arrived.arrived.quantile_us(0.5).expect("measured")));
        assert!((8_000..9_600).contains(&acknowledged.acknowledged.quantile_us(1.0).expect("measured")));
        assert_eq!(sent.arrived.quantile_us(0.5), None);
    }

    #[test]
    fn a_lane_tells_each_connection_its_session_and_its_end() {
        let connack = |session_present| {
            EventKind::Received(
                CONNECTION,
                Packet::Connack(Connack { session_present, ..Connack::default() }),
            )
        };
        let timeline = timeline([
            (0, opened()),
            (1, EventKind::Sent(CONNECTION, Packet::Connect(Connect::default()))),
            (2, connack(false)),
            (5, EventKind::Closed(CONNECTION, Closing::Rst)),
            (7, opened()),
            (8, connack(true)),
        ]);
        let [lane] = timeline.lanes() else { panic!("one client") };
        let stay = |from_ms: u64, to_ms: Option<u64>, present, closing| Stay {
            from_ns: from_ms * 1_000_000,
            to_ns: to_ms.map(|ms| ms * 1_000_000),
            session_present: Some(present),
            closing,
        };
        assert_eq!(lane.stays, [stay(0, Some(5), false, Some(Closing::Rst)), stay(7, None, true, None)]);
    }

    #[test]
    fn an_outage_lasts_from_the_kill_to_the_start() {
        let timeline = timeline([
            (0, EventKind::Broker(BrokerEvent::Started)),
            (10, EventKind::Broker(BrokerEvent::Killed)),
            (11, EventKind::Broker(BrokerEvent::Exited)),
            (30, EventKind::Broker(BrokerEvent::Started)),
        ]);
        assert_eq!(timeline.outages(), [Span { from_ns: 10_000_000, to_ns: Some(30_000_000) }]);
        assert_eq!(&*timeline.marks()[0].kind, "kill-broker");
    }

    #[test]
    fn a_long_run_has_wider_buckets_and_loses_none_of_its_messages() {
        let sent = |at: u64| (at * 1_000, EventKind::Sent(CONNECTION, publish(at)));
        let timeline = timeline((0..10_000).map(sent));
        assert!(timeline.buckets().len() <= BUCKETS_MAX);
        assert_eq!(timeline.buckets().iter().map(|bucket| bucket.published).sum::<u64>(), 10_000);
        assert!(timeline.bucket_ns() * timeline.buckets().len() as u64 > timeline.elapsed_ns());
    }

    #[test]
    fn what_is_listed_singly_has_a_limit_and_the_rest_is_counted() {
        let opened = |client: u32| EventKind::Opened {
            connection: ConnectionId(client),
            client: client.to_string().into(),
            version: Version::V5_0,
            role: Role::Own,
        };
        let fault = || EventKind::Fault { kind: "cut".into(), client: None };
        let clients = (0..LANES_MAX as u32 + 3).map(|client| (0, opened(client)));
        let timeline = timeline(clients.chain((0..MARKS_MAX + 2).map(|_| (1, fault()))));
        assert_eq!((timeline.lanes().len(), timeline.lanes_left_out()), (LANES_MAX, 3));
        assert_eq!((timeline.marks().len(), timeline.marks_left_out()), (MARKS_MAX, 2));
    }

    #[test]
    fn every_latency_lies_within_its_bin() {
        for us in [1, 2, 3, 999, 1_000, 123_456, u64::from(u32::MAX), u64::MAX] {
            let bin = bin_of_us(us);
            let us = us.min(u64::from(u32::MAX));
            assert!(us <= upper_us(bin) && (bin == 0 || us + 1 >= upper_us(bin - 1)), "{us}");
        }
    }
}
