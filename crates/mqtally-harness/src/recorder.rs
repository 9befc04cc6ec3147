//! The recorder of a run: one clock, one append-only order, one file.
//!
//! Whatever happens goes through one lock into one journal. A packet that we send is recorded before it is written to
//! the socket, one that we receive after it was parsed; that is all that the order of events means.
//!
//! A recorder never swallows a write error: recording goes on in memory of the first one, and [`Recorder::finish`]
//! returns it.

use crate::convert::{self, Converter};
use crate::subject::Names;
use mqtally::connection::{self, Closed, Tap, Tapped};
use mqtally_history::event::{BrokerEvent, Closing, ConnectionId, Event, EventKind, Header, Role};
use mqtally_history::journal::{self, JournalError};
use mqtally_history::marker::{Identity, MessageId};
use mqtally_history::packet as seen;
use mqtally_history::profile::Profile;
use mqtally_proto::packet::{Observed, Packet, Version};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Name of the history's file in its directory.
pub const HISTORY_FILE: &str = "history.mqtally";
/// Bytes of an unlawful frame that are kept.
const UNLAWFUL_BYTES_MAX: usize = 256;

/// Records a run. Clones record into the same history.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    run: u32,
    profile: Profile,
    began: Instant,
    journal: Mutex<Journal>,
    arrivals: Mutex<Arrivals>,
    arrived: Notify,
    /// What the messages of a publisher under test are called.
    names: Names,
    /// How the current connection of a client ends, where it is not the client that ends it and not the broker either.
    endings: Mutex<FxHashMap<Arc<str>, Closing>>,
    /// Connections that are open.
    open: watch::Sender<usize>,
    published: AtomicU64,
    delivered: AtomicU64,
}

/// Which message has reached which client.
type Arrival = (Arc<str>, MessageId);

#[derive(Default)]
struct Arrivals {
    seen: FxHashSet<Arrival>,
    /// Somebody waits for these.
    awaited: FxHashSet<Arrival>,
}

/// Sees each event in its order; see [`Recorder::watch`].
type Watch = Box<dyn FnMut(&Event) + Send>;

/// What the one lock guards: the order of events.
struct Journal {
    /// Gone when the history is finished.
    writer: Option<journal::Writer<BufWriter<File>>>,
    failed: Option<JournalError>,
    connections: u32,
    watch: Option<Watch>,
}

impl Recorder {
    /// Begins the history [`HISTORY_FILE`] in `directory`; replaces an earlier one.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(directory: &Path, header: &Header) -> Result<Self, JournalError> {
        let file = BufWriter::with_capacity(1 << 18, File::create(directory.join(HISTORY_FILE))?);
        let writer = journal::Writer::new(file, header)?;
        Ok(Self(Arc::new(Shared {
            run: header.run,
            profile: header.profile,
            began: Instant::now(),
            journal: Mutex::new(Journal { writer: Some(writer), failed: None, connections: 0, watch: None }),
            arrivals: Mutex::default(),
            arrived: Notify::new(),
            names: Names::new(header.run),
            endings: Mutex::default(),
            open: watch::Sender::new(0),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        })))
    }

    /// Has each event from now on seen by `watch`, in the order of the history. It runs while the event is recorded: it must
    /// be quick, and not record anything itself.
    pub fn watch(&self, watch: impl FnMut(&Event) + Send + 'static) {
        self.lock().watch = Some(Box::new(watch));
    }

    /// Records something that is no packet.
    pub fn record(&self, kind: EventKind) {
        self.lock().write(self.0.began, kind);
    }

    /// Records something that was done to the broker, or that it did.
    pub fn broker(&self, event: BrokerEvent) {
        self.record(EventKind::Broker(event));
    }

    /// Records a fault injected on purpose.
    pub fn fault(&self, kind: &str, client: Option<&str>) {
        self.record(EventKind::Fault { kind: kind.into(), client: client.map(Arc::from) });
    }

    /// We are about to end the connection of `client` from outside: its end is recorded as this one, whatever the client
    /// sees of it.
    pub fn ends_as(&self, client: &str, closing: Closing) {
        lock(&self.0.endings).insert(client.into(), closing);
    }

    /// The tap for the connections of `client`: give it to whoever opens them.
    pub fn tap(&self, client: &Arc<str>, version: Version) -> Tap {
        let (recorder, client) = (self.clone(), client.clone());
        let wires = Mutex::new(FxHashMap::<u64, Wire>::default());
        Arc::new(move |number, tapped| {
            let mut wires = lock(&wires);
            match tapped {
                Tapped::Opened(_) => {
                    drop(wires.insert(number, recorder.wire(client.clone(), version, Role::Own)));
                }
                Tapped::Sending(packet, bytes) => {
                    wires.get_mut(&number).into_iter().for_each(|wire| wire.sent(packet, bytes.len()));
                }
                Tapped::Received(observed) => {
                    wires.get_mut(&number).into_iter().for_each(|wire| wire.received(observed));
                }
                Tapped::Closed(closed) => {
                    wires.remove(&number).into_iter().for_each(|wire| wire.closed(closed));
                }
            }
        })
    }

    /// Messages sent and deliveries received so far.
    pub fn progress(&self) -> (u64, u64) {
        (self.0.published.load(Ordering::Relaxed), self.0.delivered.load(Ordering::Relaxed))
    }

    /// Whether this message has reached this client.
    pub fn has_arrived(&self, client: &Arc<str>, message: MessageId) -> bool {
        lock(&self.0.arrivals).seen.contains(&(client.clone(), message))
    }

    /// Waits until every message of `owed` has reached its client.
    ///
    /// # Errors
    /// What is missing, when nothing at all was delivered to anybody for `patience`.
    pub async fn await_arrivals(
        &self,
        mut owed: Vec<Arrival>,
        patience: Duration,
    ) -> Result<(), Vec<Arrival>> {
        loop {
            let arrival = self.0.arrived.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let before = self.0.delivered.load(Ordering::Relaxed);
            lock(&self.0.arrivals).keep_missing(&mut owed);
            if owed.is_empty() {
                return Ok(());
            }
            let silent = timeout(patience, arrival).await.is_err();
            if silent && self.0.delivered.load(Ordering::Relaxed) == before {
                return Err(owed);
            }
        }
    }

    /// Forgets which messages have arrived, so that the memory of a long run stays bounded.
    pub fn forget_arrivals(&self) {
        *lock(&self.0.arrivals) = Arrivals::default();
    }

    /// Waits until every connection has ended, at most for `patience`; whether it has.
    pub async fn until_all_closed(&self, patience: Duration) -> bool {
        let mut open = self.0.open.subscribe();
        timeout(patience, open.wait_for(|open| *open == 0)).await.is_ok()
    }

    /// Ends the history and writes what is still buffered. What happens later is not recorded.
    ///
    /// # Errors
    /// The first write error of the whole history: after it, events are missing.
    pub fn finish(&self) -> Result<(), JournalError> {
        let mut journal = self.lock();
        let finished = journal.writer.take().map_or(Ok(()), |writer| writer.finish().map(drop));
        journal.failed.take().map_or(finished, Err)
    }

    /// Whether a write has failed, so that going on is useless.
    pub fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    /// What the broker is held to.
    pub(crate) fn profile(&self) -> Profile {
        self.0.profile
    }

    /// What messages are called that carry no marker, and what programs under test call those that do.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    /// A connection begins.
    pub(crate) fn wire(&self, client: Arc<str>, version: Version, role: Role) -> Wire {
        let mut journal = self.lock();
        journal.connections += 1;
        let connection = ConnectionId(journal.connections);
        let opened = EventKind::Opened {
            connection,
            client: client.clone(),
            version: convert::version(version),
            role,
        };
        journal.write(self.0.began, opened);
        self.0.open.send_modify(|open| *open += 1);
        let converter = || Converter::new(self.0.run, version);
        let (recorder, sent, received) = (self.clone(), converter(), converter());
        // A socket that is dropped with unread input resets the connection.
        Wire { recorder, connection, client, sent, received, how: Closing::Rst }
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        lock(&self.0.journal)
    }

    fn count_delivery(&self, client: &Arc<str>, identity: Identity) {
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
        let Identity::Ours(marker) = identity else { return };
        if lock(&self.0.arrivals).insert((client.clone(), marker.message)) {
            self.0.arrived.notify_waiters();
        }
    }
}

impl Arrivals {
    /// Whether somebody waits for it.
    fn insert(&mut self, arrival: Arrival) -> bool {
        let awaited = self.awaited.remove(&arrival);
        self.seen.insert(arrival);
        awaited
    }

    fn keep_missing(&mut self, owed: &mut Vec<Arrival>) {
        owed.retain(|arrival| !self.seen.contains(arrival));
        self.awaited.extend(owed.iter().cloned());
    }
}

impl Journal {
    fn write(&mut self, began: Instant, kind: EventKind) {
        let at_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let Some(writer) = &mut self.writer else { return };
        let event = Event { at_ns, kind };
        if let Err(error) = writer.append(&event) {
            self.failed.get_or_insert(error);
        }
        if let Some(watch) = &mut self.watch {
            watch(&event);
        }
    }
}

/// One connection. Its end is recorded when it is dropped: a client that is given up in the middle closes its sockets
/// without a word to its tap, and a history in which they stay open would accuse the broker of what we did.
pub(crate) struct Wire {
    recorder: Recorder,
    connection: ConnectionId,
    client: Arc<str>,
    sent: Converter,
    received: Converter,
    how: Closing,
}

impl Wire {
    pub(crate) fn sent(&mut self, packet: &Packet, len: usize) {
        let packet = self.sent.convert(packet, len);
        self.sent_as(packet);
    }

    /// A program under test sent something that is not as it has to be.
    pub(crate) fn sent_unlawful(&self, irregularities: &[String]) {
        self.recorder.record(EventKind::Unlawful {
            connection: self.connection,
            problem: irregularities.join("; "),
            bytes: Vec::new(),
        });
    }

    /// The same of a program under test, whose messages may carry no marker and are given a name; it is returned.
    pub(crate) fn sent_by_subject(&mut self, packet: &Packet, len: usize) -> Option<MessageId> {
        let mut converted = self.sent.convert(packet, len);
        let mut name = None;
        if let (seen::Packet::Publish(publish), Packet::Publish(it)) = (&mut converted, packet) {
            let early = self.recorder.0.names.name(publish, &it.payload, self.connection);
            if let Some(message) = early {
                self.recorder.record(EventKind::Claimed { client: self.client.clone(), message });
            }
            if let Identity::Ours(marker) = publish.identity {
                name = Some(marker.message);
            }
        }
        self.sent_as(converted);
        name
    }

    fn sent_as(&self, packet: seen::Packet) {
        if matches!(packet, seen::Packet::Publish(_)) {
            self.recorder.0.published.fetch_add(1, Ordering::Relaxed);
        }
        self.recorder.record(EventKind::Sent(self.connection, packet));
    }

    fn received(&mut self, observed: &Observed) {
        if !observed.irregularities.is_empty() {
            self.recorder.record(EventKind::Unlawful {
                connection: self.connection,
                problem: observed.irregularities.join("; "),
                bytes: observed.raw[..observed.raw.len().min(UNLAWFUL_BYTES_MAX)].to_vec(),
            });
        }
        if let Some(packet) = &observed.packet {
            self.received_packet(packet, observed.raw.len());
        }
    }

    pub(crate) fn received_packet(&mut self, packet: &Packet, len: usize) {
        let mut packet = self.received.convert(packet, len);
        if let seen::Packet::Publish(publish) = &mut packet {
            self.recorder.0.names.recognise(publish);
        }
        let delivered = match &packet {
            seen::Packet::Publish(publish) => Some(publish.identity),
            _ => None,
        };
        self.recorder.record(EventKind::Received(self.connection, packet));
        // Only after it is recorded: whoever waits for it acts on it.
        if let Some(identity) = delivered {
            self.recorder.count_delivery(&self.client, identity);
        }
    }

    /// Its connection ended.
    pub(crate) fn ended(mut self, how: Closing) {
        self.how = how;
    }

    fn closed(mut self, closed: &Closed) {
        self.how = match closed {
            Closed::ByUs(connection::Closing::Fin) => Closing::Fin,
            Closed::ByUs(connection::Closing::Rst) => Closing::Rst,
            Closed::ByPeer => Closing::ByBroker,
            Closed::Broken(_) => Closing::Broken,
        };
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let how = lock(&self.recorder.0.endings).remove(&self.client).unwrap_or(self.how);
        self.recorder.record(EventKind::Closed(self.connection, how));
        self.recorder.0.open.send_modify(|open| *open -= 1);
    }
}

/// A panic elsewhere does not make what was recorded wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
