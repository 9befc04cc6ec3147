//! The thread that owns the broker's state: apply a batch, commit it, and only then answer.

use super::Served;
use super::inbox::{Inbox, Input};
use super::peers::Peers;
use super::store::{Store, StoreError};
use super::users::Gate;
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, ConnectionId, Output};
use mqtally_proto::packet::{Packet, Publish};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The broker's state machine and everything that it acts on.
pub(super) struct Engine {
    pub(super) broker: Broker,
    /// `None`: volatile.
    pub(super) store: Option<Store>,
    pub(super) clock: Clock,
    pub(super) inbox: Arc<Inbox>,
    /// `None`: everybody is let in.
    pub(super) gate: Option<Gate>,
    pub(super) peers: Peers,
    /// Lent to the batch that is being answered.
    pub(super) outputs: Vec<Output>,
    pub(super) served: Served,
}

/// How long changes may wait that nobody waits for.
///
/// A client's last word (PUBACK, PUBCOMP) changes what is stored and is answered by nothing, so nobody can tell
/// whether it is on the disk: it rides in the next commit that releases something, or in one of its own after this
/// time. Lost in a crash it costs a redelivery that QoS 1 allows, or a PUBREL that the client answers again.
const COMMIT_WAIT: Duration = Duration::from_millis(50);

impl Engine {
    /// Runs until [`Input::Shutdown`] or the store fails. On failure nothing of the failed batch has been sent.
    pub(super) fn run(mut self) -> Result<Served, StoreError> {
        let mut batch = Vec::new();
        let mut running = true;
        while running {
            self.inbox.take(self.timeout(), &mut batch);
            let now = self.clock.now();
            for input in batch.drain(..) {
                running &= !matches!(input, Input::Shutdown);
                self.feed(now, input);
            }
            if self.broker.poll_timeout().is_some_and(|deadline| deadline <= now) {
                self.broker.handle_timeout(now);
            }
            self.outputs.extend(self.broker.outputs());
            self.commit(now, running)?;
            self.release();
        }
        self.store.map_or(Ok(()), Store::close)?;
        Ok(self.served)
    }

    fn timeout(&self) -> Option<Duration> {
        let commit_at = self.store.as_ref().and_then(Store::waiting_since).map(latest_commit);
        let deadline = self.broker.poll_timeout().into_iter().chain(commit_at).min()?;
        Some(Duration::from_millis(deadline.ms_since(self.clock.now())))
    }

    fn feed(&mut self, now: Time, input: Input) {
        match input {
            Input::Opened(id, link) => {
                self.served.connections += 1;
                self.peers.open(id, link);
                self.broker.handle_opened(now, id);
            }
            Input::Packets(id, packets, _) => self.feed_packets(now, id, packets),
            Input::Malformed(id, version, fault) => {
                if self.peers.learn_version(id, version) {
                    self.broker.handle_malformed(now, id, &fault);
                }
            }
            Input::Closed(id) => {
                if self.peers.forget(id) {
                    self.broker.handle_closed(now, id);
                }
            }
            Input::Authenticated(id, accepted) => {
                if self.peers.contains(id) {
                    self.broker.handle_authenticated(now, id, accepted);
                }
            }
            Input::Shutdown => self.broker.handle_shutdown(now),
        }
    }

    fn feed_packets(&mut self, now: Time, id: ConnectionId, packets: Vec<Packet>) {
        let version = match packets.first() {
            Some(Packet::Connect(connect)) => Some(connect.version),
            _ => None,
        };
        if !self.peers.learn_version(id, version) {
            return;
        }
        self.peers.mark_taken(id);
        self.served.packets_in += packets.len() as u64;
        for packet in packets {
            self.broker.handle_packet(now, id, compact(packet));
        }
    }

    fn commit(&mut self, now: Time, running: bool) -> Result<(), StoreError> {
        let changes = self.broker.changes();
        let Some(store) = &mut self.store else {
            changes.for_each(drop);
            return Ok(());
        };
        changes.for_each(|change| store.apply(now, change));
        let overdue = store.waiting_since().is_some_and(|since| latest_commit(since) <= now);
        if overdue || !running || !self.outputs.is_empty() {
            self.served.commits += u64::from(store.commit(now)?);
        }
        Ok(())
    }

    fn release(&mut self) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Send(id, packet) => self.peers.send(id, &packet, &mut self.served),
                Output::Close(id) => self.peers.close(id),
                Output::Authenticate(id, name, password) => {
                    if let Some(gate) = &self.gate {
                        gate.check(id, name, password);
                    }
                }
            }
        }
        self.peers.flush();
    }
}

fn latest_commit(waiting_since: Time) -> Time {
    waiting_since.plus_ms(millis(COMMIT_WAIT))
}

/// Milliseconds since the Unix epoch that never go backward: the wall clock at the start, or what the store saw last
/// if that is later, and the monotonic clock from there.
pub(super) struct Clock {
    start: Instant,
    start_time: Time,
}

impl Clock {
    /// A clock that starts now and not before `earliest`.
    pub(super) fn start(earliest: Time) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_time: earliest.max(Time::from_ms(millis(wall))) }
    }

    pub(super) fn now(&self) -> Time {
        self.start_time.plus_ms(millis(self.start.elapsed()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A retained message outlives the read that it came in; a slice would keep all of that read in memory.
fn compact(packet: Packet) -> Packet {
    match packet {
        Packet::Publish(publish) if publish.retain => Packet::Publish(Publish {
            topic: ByteString::from(&*publish.topic),
            payload: Bytes::copy_from_slice(&publish.payload),
            ..publish
        }),
        other => other,
    }
}
