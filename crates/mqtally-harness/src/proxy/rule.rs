//! One rule: what to do, when, to whom, how often.

use super::fault::Fault;
use super::moment::{Moment, Place};
use super::words::{Ms, Value, is_duration};
use super::{Direction, PacketKind, Peer, Seen};
use mqtally_proto::packet::Qos;
use mqtally_proto::topic::{matches, validate_filter};
use std::fmt;

/// What the proxy is to do.
///
/// It reads and prints as text:
///
/// ```text
/// FAULT [before|after|inside DIRECTION PACKET [K]] [for DURATION] [times N | always] [CONDITION…]
/// ```
///
/// `DIRECTION` is `c2s` or `s2c`, `PACKET` a packet type or `any`, `K` which one of those that match (1 unless given).
/// Conditions: `client=ID` (where `*` stands for any characters), `connection=N` (the client's N-th), and of the packet
/// `topic=FILTER`, `qos=N`, `id=N`.
///
/// | fault | what it does |
/// |---|---|
/// | `cut [fin\|rst]` | closes both sides, `before`, `after` or `inside` (`bytes=N` of it are delivered, 1 unless given) a packet |
/// | `abort-connect` | the same as `cut after c2s CONNECT` |
/// | `drop c2s\|s2c PACKET [K]` | takes a packet out of the stream, which no network does |
/// | `swap c2s\|s2c PACKET [K]` | delivers a packet behind its successor, which no network does |
/// | `storm N [within DURATION]` | connects N times with the client's CONNECT before that is delivered |
/// | `delay c2s\|s2c DURATION [jitter DURATION seed N]` | delivers later, in order |
/// | `throttle c2s\|s2c RATE` | delivers no faster than `1000B/s`, `64kB/s` |
/// | `split c2s\|s2c N` | writes at most N bytes at a time |
/// | `coalesce c2s\|s2c DURATION` | collects for so long, then writes at once |
/// | `stall c2s\|s2c\|both` | does not read the sender: its window fills |
/// | `black-hole c2s\|s2c\|both` | reads and swallows; neither side hears of the other's end |
/// | `refuse [fin\|rst\|unlisten]` | closes what it accepts, or does not listen |
///
/// The faults from `delay` on last: from a packet on or, without one, from when the rule was added; for a time or
/// until the rule is removed. The others strike at a packet, once unless `times` or `always` says otherwise.
///
/// ```
/// use mqtally_harness::proxy::{Direction, PacketKind, Rule, fault::Fault};
/// let rule: Rule = "cut after c2s PUBREL 3 client=line-7".parse()?;
/// let built = Rule::new(Fault::cut()).after(Direction::ToServer, PacketKind::PUBREL, 3).client("line-7");
/// assert_eq!(rule, built);
/// assert_eq!(rule.to_string(), "cut fin after c2s PUBREL 3 client=line-7");
/// # Ok::<(), mqtally_harness::proxy::RuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(super) fault: Fault,
    pub(super) moment: Option<Moment>,
    pub(super) lasting_ms: Option<u64>,
    pub(super) times: Option<Times>,
    pub(super) scope: Scope,
}

/// How often a rule strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// So often, at least once.
    Limited(u32),
    /// Each time.
    Always,
}

/// To whom a rule applies. What is absent is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Client id, in which `*` stands for any characters.
    pub client: Option<String>,
    /// Which connection of its client, from 1.
    pub connection: Option<u32>,
    /// Topic filter that the topic of a PUBLISH matches.
    pub topic: Option<String>,
    /// QoS of a PUBLISH.
    pub qos: Option<Qos>,
    /// Packet id.
    pub packet_id: Option<u16>,
}

impl Rule {
    /// A fault without conditions.
    pub fn new(fault: Fault) -> Self {
        Self { fault, moment: None, lasting_ms: None, times: None, scope: Scope::default() }
    }

    /// The rule that strikes before the `nth` packet of `kind`, which is not delivered.
    #[must_use]
    pub fn before(self, direction: Direction, kind: PacketKind, nth: u32) -> Self {
        self.at(Moment { place: Place::Before, direction, kind: Some(kind), nth })
    }

    /// The rule that strikes after the `nth` packet of `kind`, which is delivered.
    #[must_use]
    pub fn after(self, direction: Direction, kind: PacketKind, nth: u32) -> Self {
        self.at(Moment { place: Place::After, direction, kind: Some(kind), nth })
    }

    /// The rule that strikes inside the `nth` packet of `kind`, of which `bytes` are delivered.
    #[must_use]
    pub fn inside(self, direction: Direction, kind: PacketKind, nth: u32, bytes: u32) -> Self {
        self.at(Moment { place: Place::Inside(bytes), direction, kind: Some(kind), nth })
    }

    /// The rule at this moment.
    #[must_use]
    pub fn at(self, moment: Moment) -> Self {
        Self { moment: Some(moment), ..self }
    }

    /// The rule for clients whose id matches this pattern.
    #[must_use]
    pub fn client(mut self, pattern: impl Into<String>) -> Self {
        self.scope.client = Some(pattern.into());
        self
    }

    /// The rule for the client's connection of this number, from 1.
    #[must_use]
    pub fn connection(mut self, connection: u32) -> Self {
        self.scope.connection = Some(connection);
        self
    }

    /// The rule in this scope.
    #[must_use]
    pub fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The rule whose fault lasts so long.
    #[must_use]
    pub fn lasting_ms(self, ms: u64) -> Self {
        Self { lasting_ms: Some(ms), ..self }
    }

    /// The rule that strikes so often.
    #[must_use]
    pub fn times(self, times: Times) -> Self {
        Self { times: Some(times), ..self }
    }

    /// What it does.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// When it does it.
    pub fn moment(&self) -> Option<&Moment> {
        self.moment.as_ref()
    }

    /// How long its fault lasts, in milliseconds; `None` until the rule is removed.
    pub fn duration_ms(&self) -> Option<u64> {
        self.lasting_ms
    }

    /// To whom.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A name for lists of faults, such as `cut-before` or `aborted-connect`.
    pub fn kind(&self) -> &'static str {
        match (&self.fault, &self.moment) {
            (Fault::Cut(_), Some(moment)) => match (moment.place, moment.kind) {
                (Place::After, Some(PacketKind::CONNECT)) => "aborted-connect",
                (Place::Before, _) => "cut-before",
                (Place::After, _) => "cut-after",
                (Place::Inside(_), _) => "cut-inside",
            },
            (fault, _) => fault.name(),
        }
    }

    /// Whether a network or a peer could do this. What follows from a rule that is not lawful proves nothing about a
    /// promise: it is worth a warning.
    pub fn is_lawful(&self) -> bool {
        !matches!(self.fault, Fault::Drop(_) | Fault::Swap(_))
    }

    /// What makes no sense about it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let lasts = self.fault.lasts();
        let place = self.moment.as_ref().map(|moment| moment.place);
        if !lasts && place.is_none() && !matches!(self.fault, Fault::Storm(_)) {
            return Err("a cut needs its packet: before, after or inside");
        }
        if matches!(self.fault, Fault::Storm(_)) && place.is_some() {
            return Err("a storm comes with a CONNECT and needs no other packet");
        }
        if matches!(place, Some(Place::Inside(_))) && !matches!(self.fault, Fault::Cut(_)) {
            return Err("only a cut can be inside a packet");
        }
        if self.fault.names_its_packet() && place != Some(Place::Before) {
            return Err("drop and swap are neither after nor inside their packet");
        }
        if !self.has_numbers_in_range() {
            return Err(
                "a number or duration is out of range: counts begin at 1, and a day is the longest time",
            );
        }
        if !lasts && self.lasting_ms.is_some() {
            return Err("this fault is over at once: 'for' says nothing");
        }
        self.check_scope(place.is_some() || matches!(self.fault, Fault::Storm(_)))
    }

    /// What cannot be said in words cannot be built either.
    fn has_numbers_in_range(&self) -> bool {
        let Self { fault, moment, lasting_ms, times, scope } = self;
        fault.has_numbers_in_range()
            && moment.as_ref().is_none_or(|moment| moment.nth > 0 && moment.place != Place::Inside(0))
            && lasting_ms.is_none_or(is_duration)
            && *times != Some(Times::Limited(0))
            && scope.connection != Some(0)
            && scope.packet_id != Some(0)
    }

    fn check_scope(&self, has_moment: bool) -> Result<(), &'static str> {
        let Scope { client, connection, topic, qos, packet_id } = &self.scope;
        let of_publish = topic.is_some() || qos.is_some();
        let kind = self.moment.as_ref().and_then(|moment| moment.kind);
        let refuses = matches!(self.fault, Fault::Refuse(_));
        if topic.as_ref().is_some_and(|topic| validate_filter(topic).is_err()) {
            return Err("topic= is no topic filter");
        }
        if of_publish && kind != Some(PacketKind::PUBLISH) {
            return Err("only PUBLISH has topic= and qos=");
        }
        if packet_id.is_some() && !has_moment {
            return Err("without a packet there is no id=");
        }
        if !has_moment && self.times.is_some() && !self.can_be_counted_without_packet() {
            return Err("without a packet there is nothing to count");
        }
        if refuses && !has_moment && (client.is_some() || connection.is_some()) {
            return Err("who connects is not known yet; write 'cut before c2s CONNECT client=…'");
        }
        Ok(())
    }

    fn can_be_counted_without_packet(&self) -> bool {
        matches!(&self.fault, Fault::Refuse(refuse) if refuse.is_counted())
    }

    /// How often it may strike; `None` without a limit.
    pub(super) fn times_max(&self) -> Option<u32> {
        match self.times {
            Some(Times::Limited(times)) => Some(times),
            Some(Times::Always) => None,
            None => (self.moment.is_some() || matches!(self.fault, Fault::Storm(_))).then_some(1),
        }
    }

    /// The packet that it waits for.
    pub(super) fn awaited(&self) -> Option<Moment> {
        match &self.fault {
            Fault::Storm(_) => Some(super::fault::Storm::MOMENT),
            _ => self.moment,
        }
    }
}

impl Scope {
    /// Whether this link is in it.
    pub fn has_peer(&self, peer: &Peer) -> bool {
        let client = |pattern: &String| peer.client.as_ref().is_some_and(|client| is_like(pattern, client));
        self.client.as_ref().is_none_or(client)
            && self.connection.is_none_or(|number| peer.connection == Some(number))
    }

    /// Whether this packet is in it.
    pub fn has_packet(&self, seen: &Seen) -> bool {
        let topic = |filter: &String| seen.topic.as_ref().is_some_and(|topic| matches(filter, topic));
        self.packet_id.is_none_or(|id| seen.packet_id == Some(id))
            && self.qos.is_none_or(|qos| seen.qos == Some(qos))
            && self.topic.as_ref().is_none_or(topic)
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any characters.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    true
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        match &self.moment {
            Some(moment) if self.fault.names_its_packet() => {
                f.write_str(" ")?;
                moment.write_packet(f)?;
            }
            Some(moment) => write!(f, " {moment}")?,
            None => {}
        }
        if let Some(ms) = self.lasting_ms {
            write!(f, " for {}", Ms(ms))?;
        }
        match self.times {
            Some(Times::Limited(times)) => write!(f, " times {times}")?,
            Some(Times::Always) => f.write_str(" always")?,
            None => {}
        }
        write!(f, "{}", self.scope)
    }
}

/// Each condition with a space before it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, connection, topic, qos, packet_id } = self;
        client.iter().try_for_each(|client| write!(f, " client={}", Value(client)))?;
        connection.iter().try_for_each(|number| write!(f, " connection={number}"))?;
        topic.iter().try_for_each(|topic| write!(f, " topic={}", Value(topic)))?;
        qos.iter().try_for_each(|qos| write!(f, " qos={}", qos.as_u8()))?;
        packet_id.iter().try_for_each(|id| write!(f, " id={id}"))
    }
}
