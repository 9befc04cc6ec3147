//! The broker: the core of `mqtally-proto`, its codec, and a model of the store behind it.
//!
//! It works as the embedded broker's engine does: takes what waits, feeds the core, writes the changes as one
//! transaction, and lets the outputs go when that is synced. What comes meanwhile waits for the next round. `kill -9`
//! loses everything but what the disk kept.

use super::disk::{Disk, Store};
use super::net::{LinkId, Net, frame};
use super::tamper::{Crossing, Tamper, Toward};
use super::way::Piece;
use super::{Defect, Happening, Simulation, time};
use bytes::{Bytes, BytesMut};
use mqtally_history::event::BrokerEvent;
use mqtally_proto::broker::{Broker, Change, Config, ConnectionId, Output, Stored};
use mqtally_proto::packet::{DecodeError, Decoder, PACKET_SIZE_MAX, Packet, Version};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Fed to the core at once.
const BATCH_MAX: usize = 64;
/// When what nobody syncs is written to the disk all the same.
const WRITE_BACK: Duration = Duration::from_secs(5);

impl Store for Stored {
    type Transaction = Vec<Change>;

    fn apply(&mut self, transaction: &Vec<Change>) {
        for change in transaction {
            Stored::apply(self, change.clone());
        }
    }
}

/// What has reached the broker and was not fed to its core.
#[derive(Debug)]
enum Input {
    Opened(LinkId),
    Packet(LinkId, Packet),
    Malformed(LinkId, DecodeError),
    Closed(LinkId),
}

/// The broker's end of a link.
#[derive(Debug)]
struct Line {
    client: Arc<str>,
    /// Which connection of its client it is.
    number: u32,
    decoder: Decoder,
    buffer: BytesMut,
}

#[derive(Debug)]
pub(super) struct BrokerNode {
    config: Config,
    defect: Option<Defect>,
    /// Whether the power fails with whatever kills it.
    power_fails: bool,
    sync_max: Duration,
    /// Gone while the process is down.
    core: Option<Broker>,
    /// Which life of the process it is.
    life: u64,
    disk: Disk<Stored>,
    lines: BTreeMap<LinkId, Line>,
    inputs: VecDeque<Input>,
    /// What goes out when the transaction is synced.
    held: Option<Vec<Output>>,
    paused: bool,
    /// SIGTERM came; then how long the process stays down.
    stopping: Option<Duration>,
    timer_at: Option<Duration>,
}

impl BrokerNode {
    pub(super) fn new(config: Config, sync_max: Duration, simulation: &Simulation) -> Self {
        Self {
            core: Some(Broker::new(config.clone())),
            config,
            defect: simulation.defect,
            power_fails: simulation.power_fails,
            sync_max,
            life: 0,
            disk: Disk::default(),
            lines: BTreeMap::new(),
            inputs: VecDeque::new(),
            held: None,
            paused: false,
            stopping: None,
            timer_at: None,
        }
    }

    /// Whether it takes connections and packets.
    pub(super) fn is_ready(&self) -> bool {
        self.core.is_some() && self.stopping.is_none() && !self.paused
    }

    /// Something arrived on a link.
    pub(super) fn arrived(&mut self, link: LinkId, net: &mut Net, tamper: &mut dyn Tamper) {
        let Some(piece) = net.take(link, Toward::Broker) else { return };
        match piece {
            Piece::Open(number) => self.accept(link, number, net),
            Piece::Bytes(bytes) => self.read(link, &bytes, net, tamper),
            Piece::End { .. } => {
                if self.lines.remove(&link).is_some() {
                    self.inputs.push_back(Input::Closed(link));
                }
                net.finish(link, Toward::Client);
            }
        }
        self.work(net, tamper);
    }

    /// The transaction is synced.
    pub(super) fn synced(&mut self, life: u64, net: &mut Net, tamper: &mut dyn Tamper) {
        if life != self.life {
            return;
        }
        if self.paused {
            return net.after(Duration::from_millis(10), Happening::BrokerSynced(life));
        }
        self.disk.sync();
        if let Some(outputs) = self.held.take() {
            self.let_out(outputs, net, tamper);
        }
        self.work(net, tamper);
    }

    /// A timer of the core may have come due.
    pub(super) fn timer(&mut self, life: u64, net: &mut Net, tamper: &mut dyn Tamper) {
        if life == self.life {
            self.timer_at = None;
            self.work(net, tamper);
        }
    }

    /// SIGKILL, or no power: everything is gone but what the disk kept; every client's connection ends.
    pub(super) fn kill(&mut self, down: Duration, net: &mut Net) {
        if self.core.is_none() {
            return;
        }
        net.trace.broker(if self.power_fails { BrokerEvent::PowerLost } else { BrokerEvent::Killed });
        if self.defect == Some(Defect::BrokerNeverSyncs) && !self.power_fails {
            // The machine goes on, and has what was written.
            while self.disk.sync().is_some() {}
        }
        self.disk.crash(&mut net.random);
        self.down(down, net);
    }

    /// SIGTERM: what was fed is finished, clients are told, and the process ends.
    pub(super) fn stop(&mut self, down: Duration, net: &mut Net, tamper: &mut dyn Tamper) {
        if self.core.is_none() || self.stopping.is_some() {
            return;
        }
        net.trace.broker(BrokerEvent::Terminated);
        self.stopping = Some(down);
        self.work(net, tamper);
    }

    /// SIGSTOP: nothing is taken and nothing let out until [`Self::resume`].
    pub(super) fn pause(&mut self, pause: Duration, net: &mut Net) {
        if self.is_ready() {
            self.paused = true;
            net.trace.broker(BrokerEvent::Paused);
            net.after(pause, Happening::BrokerResumes(self.life));
        }
    }

    /// SIGCONT.
    pub(super) fn resume(&mut self, life: u64, net: &mut Net, tamper: &mut dyn Tamper) {
        if life == self.life {
            self.paused = false;
            net.trace.broker(BrokerEvent::Resumed);
            self.work(net, tamper);
        }
    }

    /// The process is started again, on what the disk kept.
    pub(super) fn start(&mut self, net: &mut Net, tamper: &mut dyn Tamper) {
        let stored = self.disk.synced().clone();
        self.core = Some(Broker::restore(self.config.clone(), stored, time(net.now)));
        net.is_listening = true;
        net.trace.broker(BrokerEvent::Started);
        self.work(net, tamper);
    }

    fn down(&mut self, down: Duration, net: &mut Net) {
        self.life += 1;
        self.core = None;
        net.is_listening = false;
        self.inputs.clear();
        (self.held, self.stopping, self.timer_at, self.paused) = (None, None, None, false);
        for link in std::mem::take(&mut self.lines).into_keys() {
            net.reset(link, Toward::Client);
            net.ignore(link, Toward::Broker);
        }
        net.after(down, Happening::BrokerStarts);
    }

    fn accept(&mut self, link: LinkId, number: u32, net: &mut Net) {
        if !net.is_listening {
            return net.reset(link, Toward::Client);
        }
        let decoder = Decoder::server(PACKET_SIZE_MAX);
        let line = Line { client: net.name_of(link), number, decoder, buffer: BytesMut::new() };
        self.lines.insert(link, line);
        self.inputs.push_back(Input::Opened(link));
    }

    /// Takes whole packets off what has arrived.
    fn read(&mut self, link: LinkId, bytes: &Bytes, net: &mut Net, tamper: &mut dyn Tamper) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        line.buffer.extend_from_slice(bytes);
        loop {
            match line.decoder.decode(&mut line.buffer) {
                Ok(None) => return,
                Ok(Some(packet)) => {
                    let version = line.decoder.version().unwrap_or(Version::V3_1_1);
                    let passed = tamper.pass(&line.crossing(version, Toward::Broker, net.now), packet);
                    let onward = passed.onward.into_iter();
                    self.inputs.extend(onward.map(|packet| Input::Packet(link, packet)));
                    net.send(link, Toward::Client, &frames(&passed.back, version));
                }
                Err(error) => return self.inputs.push_back(Input::Malformed(link, error)),
            }
        }
    }

    /// One round: feed, commit, let out; nothing while the round before is not through.
    fn work(&mut self, net: &mut Net, tamper: &mut dyn Tamper) {
        while self.held.is_none() && !self.paused {
            let Some(core) = &mut self.core else { return };
            let now = time(net.now);
            let due = core.poll_timeout().is_some_and(|at| at <= now);
            let stops = self.stopping.is_some() && self.inputs.is_empty();
            if self.inputs.is_empty() && !due && !stops {
                break;
            }
            let inputs = self.inputs.len().min(BATCH_MAX);
            self.inputs.drain(..inputs).for_each(|input| feed(core, now, input));
            core.handle_timeout(now);
            if stops {
                core.handle_shutdown(now);
            }
            let changes: Vec<Change> = core.changes().collect();
            let outputs: Vec<Output> = core.outputs().collect();
            self.commit(changes, outputs, net, tamper);
            if stops {
                return self.end_in_order(net, tamper);
            }
        }
        self.set_timer(net);
    }

    fn commit(&mut self, changes: Vec<Change>, outputs: Vec<Output>, net: &mut Net, tamper: &mut dyn Tamper) {
        if changes.is_empty() {
            return self.let_out(outputs, net, tamper);
        }
        self.disk.write(changes);
        if self.defect == Some(Defect::BrokerNeverSyncs) {
            self.let_out(outputs, net, tamper);
            return net.after(WRITE_BACK, Happening::BrokerSynced(self.life));
        }
        if self.defect == Some(Defect::BrokerAcknowledgesBeforeSync) {
            self.let_out(outputs, net, tamper);
            self.held = Some(Vec::new());
        } else {
            self.held = Some(outputs);
        }
        let delay = net.below(self.sync_max);
        net.after(delay, Happening::BrokerSynced(self.life));
    }

    /// The last transaction is synced and its outputs are out before the process ends.
    fn end_in_order(&mut self, net: &mut Net, tamper: &mut dyn Tamper) {
        while self.disk.sync().is_some() {}
        if let Some(outputs) = self.held.take() {
            self.let_out(outputs, net, tamper);
        }
        for link in std::mem::take(&mut self.lines).into_keys() {
            net.finish(link, Toward::Client);
        }
        let down = self.stopping.take().unwrap_or_default();
        self.down(down, net);
    }

    fn let_out(&mut self, outputs: Vec<Output>, net: &mut Net, tamper: &mut dyn Tamper) {
        for output in outputs {
            match output {
                Output::Send(connection, packet) => self.send(connection, packet, net, tamper),
                Output::Close(connection) => {
                    let link = link_of(connection);
                    if self.lines.remove(&link).is_some() {
                        net.finish(link, Toward::Client);
                        net.ignore(link, Toward::Broker);
                    }
                }
                // The simulated broker admits everybody.
                Output::Authenticate(..) => {}
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, packet: Packet, net: &mut Net, tamper: &mut dyn Tamper) {
        let link = link_of(connection);
        let Some(line) = self.lines.get(&link) else { return };
        let version = line.decoder.version().unwrap_or(Version::V3_1_1);
        let passed = tamper.pass(&line.crossing(version, Toward::Client, net.now), packet);
        self.inputs.extend(passed.back.into_iter().map(|packet| Input::Packet(link, packet)));
        net.send(link, Toward::Client, &frames(&passed.onward, version));
    }

    fn set_timer(&mut self, net: &mut Net) {
        if self.paused {
            return;
        }
        let Some(at) = self.core.as_ref().and_then(Broker::poll_timeout) else { return };
        let at = net.now + Duration::from_millis(at.ms_since(time(net.now)).max(1));
        if self.timer_at.is_none_or(|planned| at < planned) {
            self.timer_at = Some(at);
            net.agenda.plan(at, Happening::BrokerTimer(self.life));
        }
    }
}

impl Line {
    fn crossing(&self, version: Version, toward: Toward, at: Duration) -> Crossing<'_> {
        Crossing { client: &self.client, version, connection: self.number, toward, at }
    }
}

fn feed(core: &mut Broker, now: mqtally_proto::Time, input: Input) {
    match input {
        Input::Opened(link) => core.handle_opened(now, connection_of(link)),
        Input::Packet(link, packet) => core.handle_packet(now, connection_of(link), packet),
        Input::Malformed(link, error) => core.handle_malformed(now, connection_of(link), &error),
        Input::Closed(link) => core.handle_closed(now, connection_of(link)),
    }
}

fn frames(packets: &[Packet], version: Version) -> Vec<Bytes> {
    packets.iter().filter_map(|packet| frame(packet, version)).collect()
}

fn connection_of(link: LinkId) -> ConnectionId {
    ConnectionId(link.0 as u64)
}

fn link_of(connection: ConnectionId) -> LinkId {
    LinkId(usize::try_from(connection.0).unwrap_or(usize::MAX))
}
