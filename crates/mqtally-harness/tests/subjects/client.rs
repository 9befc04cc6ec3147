//! Clients that can be told to break one promise; told nothing they keep all of them, also across kill -9.

use crate::wire::Wire;
use mqtally_proto::packet::{
    Ack, Packet, Properties, Publish, Qos, ReasonCode, Subscribe, Subscription, Version,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

/// What a client breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Nothing: the control.
    None,
    /// C1.
    PublishAfterPubrel,
    /// C2.
    NewPacketId,
    /// C3.
    KeepsDeadSession,
    /// C4.
    AcknowledgesEarly,
    /// C5.
    AcknowledgesInReverse,
    /// C6.
    IgnoresReceiveMaximum,
    /// C7.
    DeliversAgainAtPubrel,
    /// C8.
    ClaimsEarly,
    /// Answers no PUBREL of an exchange that it does not know.
    LetsUnknownPubrelLie,
    /// Forgets what it was at when somebody takes its session over.
    ForgetsWhenTakenOver,
    /// Forgets what it was at when the broker says that it shuts down.
    ForgetsAtShutdown,
    /// Forgets what it was at when a connection ends on which it heard nothing.
    ForgetsWhenCutAtOnce,
    /// Forgets what it was at when its CONNECT gets no answer.
    ForgetsWhenIgnored,
    /// When it is started it forgets what was in flight, and takes the same packet ids.
    TakesIdsInUse,
}

impl Mutant {
    pub(crate) const ALL: [Self; 15] = [
        Self::None,
        Self::PublishAfterPubrel,
        Self::NewPacketId,
        Self::KeepsDeadSession,
        Self::AcknowledgesEarly,
        Self::AcknowledgesInReverse,
        Self::IgnoresReceiveMaximum,
        Self::DeliversAgainAtPubrel,
        Self::ClaimsEarly,
        Self::LetsUnknownPubrelLie,
        Self::ForgetsWhenTakenOver,
        Self::ForgetsAtShutdown,
        Self::ForgetsWhenCutAtOnce,
        Self::ForgetsWhenIgnored,
        Self::TakesIdsInUse,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    fn from_environment() -> Self {
        let name = env::var("KIT_MUTANT").unwrap_or_default();
        Self::ALL.into_iter().find(|mutant| mutant.name() == name).expect("a mutant")
    }
}

/// What a client is told when it is started.
pub(crate) struct Told {
    mutant: Mutant,
    version: Version,
    address: String,
    topic: String,
    directory: PathBuf,
    client_id: Option<String>,
}

impl Told {
    pub(crate) fn from_environment() -> Self {
        let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        Self {
            mutant: Mutant::from_environment(),
            version: if var("KIT_VERSION") == "5" { Version::V5_0 } else { Version::V3_1_1 },
            address: format!("{}:{}", var("MQTALLY_HOST"), var("MQTALLY_PORT")),
            topic: var("MQTALLY_TOPIC"),
            directory: var("MQTALLY_DIR").into(),
            client_id: env::var("MQTALLY_CLIENT_ID").ok(),
        }
    }

    fn connect(&self, otherwise: &str, clean_start: bool) -> Wire {
        let client_id = self.client_id.as_deref().unwrap_or(otherwise);
        Wire::connect(&self.address, self.version, client_id, clean_start)
    }
}

fn say(verb: &str, word: &str) {
    if env::var_os("KIT_MUTE").is_some() {
        return;
    }
    let line = format!("{{\"{verb}\": {word}}}\n");
    if env::var_os("KIT_POSTS").is_some() {
        return post(&line);
    }
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
}

/// Posts a line, and waits for the answer that it is taken.
fn post(line: &str) {
    let url = env::var("MQTALLY_REPORT_URL").expect("somewhere to report to");
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')).expect("a plain URL");
    let request =
        format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{line}", line.len());
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).expect("somebody reads");
    stream.read_to_string(&mut answer).expect("somebody answers");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

/// The number in the envelope.
fn number(payload: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(payload).ok()?.get("message_id")?.as_u64()
}

/// A subscriber that processes, then notes, then acknowledges.
pub(crate) struct Subscriber {
    told: Told,
    /// QoS 2: ids that are acknowledged and not released; in a file too.
    taken: BTreeSet<u16>,
    /// All that this process has ever taken, or been left.
    known: BTreeSet<u16>,
    /// C7: what packet ids carry, and whether they were released before.
    carried: BTreeMap<u16, (u64, bool)>,
    /// C4: acknowledged, and to be processed later.
    queue: VecDeque<(Instant, u64)>,
    /// C5: acknowledgements that wait for their successor.
    waiting: Vec<Packet>,
}

impl Subscriber {
    pub(crate) fn new(told: Told) -> Self {
        let taken = fs::read_to_string(told.directory.join("taken")).unwrap_or_default();
        let taken: BTreeSet<u16> = taken.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        Self {
            told,
            known: taken.clone(),
            taken,
            carried: BTreeMap::new(),
            queue: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) -> ! {
        loop {
            let mut wire = self.told.connect("kit-sub", false);
            self.waiting.clear();
            if !wire.session_present {
                self.taken.clear();
                self.note();
            }
            let _ = self.serve(&mut wire);
        }
    }

    fn serve(&mut self, wire: &mut Wire) -> io::Result<()> {
        if !wire.session_present {
            let filters = vec![Subscription::new(self.told.topic.as_str(), Qos::ExactlyOnce)];
            wire.send(&Packet::Subscribe(Subscribe {
                packet_id: 1,
                properties: Properties::default(),
                filters,
            }))?;
        }
        loop {
            let packet = wire.next()?;
            self.work();
            match packet {
                Some(packet) => self.take(wire, packet)?,
                None => {
                    for ack in std::mem::take(&mut self.waiting) {
                        wire.send(&ack)?;
                    }
                }
            }
        }
    }

    fn take(&mut self, wire: &mut Wire, packet: Packet) -> io::Result<()> {
        match packet {
            Packet::Publish(publish) => self.publish(wire, &publish),
            Packet::Disconnect(it) => {
                let is_taken_over = it.reason == ReasonCode::SESSION_TAKEN_OVER;
                if self.told.mutant == Mutant::ForgetsWhenTakenOver && is_taken_over {
                    self.taken.clear();
                    self.note();
                }
                Err(ErrorKind::ConnectionAborted.into())
            }
            Packet::Pubrel(ack)
                if self.told.mutant == Mutant::LetsUnknownPubrelLie
                    && !self.known.contains(&ack.packet_id) =>
            {
                Ok(())
            }
            Packet::Pubrel(ack) => {
                if let Some((number, again)) = self.carried.get_mut(&ack.packet_id)
                    && std::mem::replace(again, true)
                {
                    say("processed", &number.to_string());
                }
                self.taken.remove(&ack.packet_id);
                self.note();
                wire.send(&Packet::Pubcomp(Ack::success(ack.packet_id)))
            }
            _ => Ok(()),
        }
    }

    fn publish(&mut self, wire: &mut Wire, publish: &Publish) -> io::Result<()> {
        let number = number(&publish.payload);
        match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => {
                self.process(number);
                self.acknowledge(wire, Packet::Puback(Ack::success(id)))
            }
            (Qos::ExactlyOnce, Some(id)) => {
                if !self.taken.contains(&id) {
                    if self.told.mutant == Mutant::DeliversAgainAtPubrel {
                        self.carried.extend(number.map(|number| (id, (number, false))));
                    }
                    self.process(number);
                    self.taken.insert(id);
                    self.known.insert(id);
                    self.note();
                }
                wire.send(&Packet::Pubrec(Ack::success(id)))
            }
            _ => Ok(()),
        }
    }

    fn process(&mut self, number: Option<u64>) {
        let Some(number) = number else { return };
        match self.told.mutant {
            Mutant::AcknowledgesEarly => {
                self.queue.push_back((Instant::now() + Duration::from_millis(100), number));
            }
            _ => say("processed", &number.to_string()),
        }
    }

    /// C4: what is due is processed now.
    fn work(&mut self) {
        while let Some((_, number)) = self.queue.pop_front_if(|(due, _)| *due <= Instant::now()) {
            say("processed", &number.to_string());
        }
    }

    fn acknowledge(&mut self, wire: &mut Wire, ack: Packet) -> io::Result<()> {
        if self.told.mutant != Mutant::AcknowledgesInReverse {
            return wire.send(&ack);
        }
        self.waiting.insert(0, ack);
        if self.waiting.len() == 2 {
            for ack in std::mem::take(&mut self.waiting) {
                wire.send(&ack)?;
            }
        }
        Ok(())
    }

    fn note(&self) {
        let ids: Vec<String> = self.taken.iter().map(u16::to_string).collect();
        replace(&self.told.directory.join("taken"), &ids.join(" "));
    }
}

/// A publisher with an outbox in a file.
pub(crate) struct Publisher {
    told: Told,
    /// In the order of sending.
    in_flight: Vec<Entry>,
    next: u64,
    last_id: u16,
    /// Where stores may be taken away: it has found no outbox, and not connected yet.
    is_new: bool,
    /// Something came on the last connection behind its CONNACK.
    heard: bool,
    /// Answers that this client takes its time with.
    late: Vec<Packet>,
}

fn qos_of(number: u64) -> Qos {
    if number.is_multiple_of(2) { Qos::ExactlyOnce } else { Qos::AtLeastOnce }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u16,
    number: u64,
    qos: Qos,
    released: bool,
}

const OUTBOX: &str = "outbox";
const WINDOW: usize = 4;
const PACE: Duration = Duration::from_millis(10);

impl Publisher {
    pub(crate) fn new(told: Told) -> Self {
        let text = fs::read_to_string(told.directory.join(OUTBOX)).unwrap_or_default();
        let mut words = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        // Without an outbox its messages are new ones.
        let is_new = text.is_empty() && told.client_id.is_some();
        let number = || u64::from(std::process::id()) << 20;
        let (next, last_id) = (words.next().unwrap_or_else(number), words.next().unwrap_or(0) as u16);
        let words: Vec<u64> = words.collect();
        let entry = |it: &[u64]| Entry {
            id: it[0] as u16,
            number: it[1],
            qos: if it[2] == 1 { Qos::AtLeastOnce } else { Qos::ExactlyOnce },
            released: it[3] == 1,
        };
        let mut in_flight: Vec<Entry> = words.chunks_exact(4).map(entry).collect();
        let (mut next, mut last_id) = (next, last_id);
        if told.mutant == Mutant::TakesIdsInUse
            && let Some(first) = in_flight.first()
        {
            last_id = first.id - 1;
            // Each id at the QoS that it had.
            next += u64::from(qos_of(next + 1) != first.qos);
            in_flight.clear();
        }
        Self { told, in_flight, next, last_id, is_new, heard: false, late: Vec::new() }
    }

    pub(crate) fn run(mut self) -> ! {
        loop {
            // What an earlier life had in flight nobody knows any more.
            let mut wire = self.told.connect("kit-pub", std::mem::take(&mut self.is_new));
            if self.told.mutant == Mutant::ForgetsWhenIgnored && wire.was_ignored {
                self.forget();
            }
            let _ = self.serve(&mut wire);
            if self.told.mutant == Mutant::ForgetsWhenCutAtOnce && !self.heard {
                self.forget();
            }
        }
    }

    fn serve(&mut self, wire: &mut Wire) -> io::Result<()> {
        self.heard = false;
        self.late.clear();
        self.resume(wire)?;
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() && self.in_flight.len() < self.window(wire) {
                self.publish_next(wire)?;
                due = Instant::now() + PACE;
            }
            let late = std::mem::take(&mut self.late);
            let packet = wire.next()?;
            for packet in late {
                wire.send(&packet)?;
            }
            if let Some(packet) = packet {
                self.heard = true;
                self.take(wire, &packet)?;
            }
        }
    }

    fn forget(&mut self) {
        self.in_flight.clear();
        self.note();
    }

    fn window(&self, wire: &Wire) -> usize {
        match self.told.mutant {
            Mutant::IgnoresReceiveMaximum => 4 * WINDOW,
            _ => WINDOW.min(wire.receive_maximum),
        }
    }

    fn resume(&mut self, wire: &mut Wire) -> io::Result<()> {
        let keeps = wire.session_present || self.told.mutant == Mutant::KeepsDeadSession;
        for at in 0..self.in_flight.len() {
            if !keeps || self.told.mutant == Mutant::NewPacketId && !self.in_flight[at].released {
                self.in_flight[at].id = self.fresh_id();
                self.in_flight[at].released = false;
            }
            let entry = self.in_flight[at];
            let again = keeps && self.told.mutant != Mutant::NewPacketId;
            match entry.released && self.told.mutant != Mutant::PublishAfterPubrel {
                true => wire.send(&Packet::Pubrel(Ack::success(entry.id)))?,
                false => wire.send(&self.packet(entry, again))?,
            }
        }
        self.note();
        Ok(())
    }

    fn publish_next(&mut self, wire: &mut Wire) -> io::Result<()> {
        self.next += 1;
        let qos = qos_of(self.next);
        let entry = Entry { id: self.fresh_id(), number: self.next, qos, released: false };
        self.in_flight.push(entry);
        self.note();
        if self.told.mutant == Mutant::ClaimsEarly {
            say("published", &entry.number.to_string());
        }
        wire.send(&self.packet(entry, false))
    }

    fn packet(&self, entry: Entry, dup: bool) -> Packet {
        Packet::Publish(Publish {
            dup,
            qos: entry.qos,
            topic: self.told.topic.as_str().into(),
            packet_id: Some(entry.id),
            payload: format!("{{\"message_id\": {}}}", entry.number).into(),
            ..Publish::default()
        })
    }

    fn take(&mut self, wire: &mut Wire, packet: &Packet) -> io::Result<()> {
        match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                if let Some(at) = self.in_flight.iter().position(|entry| entry.id == ack.packet_id) {
                    let entry = self.in_flight.remove(at);
                    self.note();
                    if self.told.mutant != Mutant::ClaimsEarly {
                        say("published", &entry.number.to_string());
                    }
                }
                Ok(())
            }
            Packet::Pubrec(ack) => {
                if let Some(entry) = self.in_flight.iter_mut().find(|entry| entry.id == ack.packet_id) {
                    entry.released = true;
                    self.note();
                }
                let release = Packet::Pubrel(Ack::success(ack.packet_id));
                if self.told.mutant == Mutant::TakesIdsInUse {
                    self.late.push(release);
                    return Ok(());
                }
                wire.send(&release)
            }
            Packet::Disconnect(it) => {
                let is_shutdown = it.reason == ReasonCode::SERVER_SHUTTING_DOWN;
                if self.told.mutant == Mutant::ForgetsAtShutdown && is_shutdown {
                    self.forget();
                }
                Err(ErrorKind::ConnectionAborted.into())
            }
            _ => Ok(()),
        }
    }

    fn fresh_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }

    fn note(&self) {
        let mut text = format!("{} {}\n", self.next, self.last_id);
        for entry in &self.in_flight {
            let (qos, released) = (entry.qos as u8, u8::from(entry.released));
            text.push_str(&format!("{} {} {qos} {released}\n", entry.id, entry.number));
        }
        replace(&self.told.directory.join(OUTBOX), &text);
    }
}

/// The old content or the new, whatever happens.
fn replace(path: &Path, content: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, content).expect("the directory can be written");
    fs::rename(fresh, path).expect("the directory can be written");
}
