//! A client id and its connections: what its session is known to be, and both of its in-flight tables.

use super::message::Stream;
use super::paged::Paged;
use super::subscription::{End, Subscription};
use super::{ClientIx, ConnIx, GroupIx, Moment, NEVER, Place, StreamIx};
use crate::checker::excerpt::Line;
use crate::event::{Closing, ConnectionId, Role};
use crate::packet::{Connack, Connect, Filter, Version};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// Lines about a client's connections that an excerpt can show.
const CONTROL_LINES_MAX: usize = 16;
/// A delivery that waits for its answer for so long would be seen to be repeated.
pub(crate) const PATIENT_NS: u64 = 1_000_000_000;
/// Topics whose matching filters are remembered.
const ROUTES_MAX: usize = 4096;

/// Everything about one client id.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    pub(crate) version: Version,
    pub(crate) group: GroupIx,
    pub(crate) role: Role,
    /// Number of its lineage: grows with each break, unlike any other client's.
    pub(crate) lineage: u32,
    pub(crate) breaks: Vec<Break>,
    pub(crate) known: Known,
    /// An unanswered CONNECT may have begun a session of its own, which the next one would find.
    pub(crate) maybe_fresh: bool,
    /// Session expiry interval in force, seconds; `u32::MAX` never expires.
    pub(crate) expiry: u32,
    pub(crate) away: Option<Away>,
    /// When the broker certainly had the connection accepted last.
    pub(crate) served_ns: u64,
    /// The connection accepted last, until it is closed.
    pub(crate) current: Option<ConnIx>,
    /// The connection accepted last, closed or not.
    pub(crate) last_accepted: Option<ConnIx>,
    /// Its CONNECT sent last.
    pub(crate) last_connect: Option<ConnIx>,
    /// From CONNACK to the end of the connection, in order; the last may be open.
    pub(crate) online: Vec<(Place, Place)>,
    /// CONNACKs that said that the session is present.
    pub(crate) resumes: Vec<Place>,
    pub(crate) session_present: Vec<bool>,
    pub(crate) resumed: u64,
    pub(crate) subscriptions: Vec<Subscription>,
    routes: FxHashMap<Arc<str>, Arc<[usize]>>,
    /// What it received and has not finished, and for a while what it finished.
    pub(crate) inbound: FxHashMap<u16, Inbound>,
    /// What it sent and has no final acknowledgement for.
    pub(crate) outbound: FxHashMap<u16, Outbound>,
    /// Packet ids of QoS 2 exchanges that its process forgot, and the broker may not have: what is sent under one of them
    /// may be taken for a repetition.
    pub(crate) shadows: FxHashSet<u16>,
    pub(crate) copies: FxHashMap<StreamIx, Paged<Copies>>,
    /// By stream, the first sending of what this connection carried last.
    pub(crate) sent_up_to: FxHashMap<StreamIx, Place>,
    /// The first copy of a sentinel that came last, by stream and the QoS at which it came.
    pub(crate) sentinels: FxHashMap<(StreamIx, u8), Sentinel>,
    pub(crate) control: VecDeque<Line>,
    /// The least of the maximum packet sizes that its connections set.
    pub(crate) least_packet_max: u32,
    /// It gave a subscription an identifier.
    pub(crate) uses_identifiers: bool,
    /// The last fault that struck it alone.
    pub(crate) last_fault: Place,
    /// It did not acknowledge QoS 1 messages in the order in which they came.
    pub(crate) acks_out_of_order: bool,
    /// Deliveries that waited for its answer for a second or more.
    pub(crate) waited: u64,
    /// Of each stream, forgotten messages that this lineage accepted exactly once.
    pub(crate) accepted_once: FxHashMap<StreamIx, Accepted>,
}

/// Neighbouring messages that one lineage accepted once each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) lineage: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A point at which a client's lineage ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Break {
    pub(crate) place: Place,
    pub(crate) why: Why,
}

/// Why a lineage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The client asked for a clean start.
    CleanStart,
    /// Its session ended with its connection, as it had asked.
    Ended,
    /// Session present was 0 although the broker had to have the session.
    Lost,
    /// Session present was 0, as was to be expected or possible.
    Gone,
    /// The client forgot its state.
    Wiped,
}

/// What the history tells about a client's session at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The client never connected.
    Never,
    /// It exists.
    Exists,
    /// It ended with its connection.
    Ended,
    /// Nobody knows, and why.
    Doubtful(&'static str),
}

/// What the next CONNACK has to say about the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Present,
    /// There never was a session.
    AbsentNever,
    /// It ended with its clean connection.
    AbsentEnded,
    /// Its expiry interval is over for two seconds and more.
    AbsentExpired,
    /// Both are right.
    Either,
}

/// How long a client has been away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Away {
    /// The broker cannot have noticed before.
    pub(crate) earliest_ns: u64,
    /// It must have noticed by then; none where nobody knows.
    pub(crate) latest_ns: Option<u64>,
}

/// One network connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) client: ClientIx,
    pub(crate) version: Version,
    pub(crate) connect: Option<Connect>,
    pub(crate) connect_sent: Moment,
    pub(crate) known_before: Known,
    /// What `maybe_fresh` was before this CONNECT.
    pub(crate) maybe_fresh: bool,
    pub(crate) role: Role,
    pub(crate) accepted: Place,
    pub(crate) accepted_ns: u64,
    /// The CONNACK that accepted it.
    pub(crate) connack: Option<Box<Connack>>,
    /// The client's older connection that was open when this one asked to be accepted.
    pub(crate) took_over: Option<ConnIx>,
    pub(crate) refused: bool,
    pub(crate) closed: Option<Closing>,
    /// What we sent and the broker answers, and has not yet.
    pub(crate) unanswered: u32,
    /// When the oldest of these may have been sent.
    pub(crate) asked_ns: u64,
    /// The broker certainly had the connection then: something that was sent no earlier was answered.
    pub(crate) served_ns: u64,
    pub(crate) closed_at: Moment,
    /// The client's connection before this one.
    pub(crate) previous: Option<ConnIx>,
    pub(crate) last_sent: Moment,
    /// PINGREQs without PINGRESP.
    pub(crate) pings: VecDeque<Moment>,
    /// What was sent up to here has been read by the broker: it answered a PINGREQ that was sent behind.
    pub(crate) read_up_to: Place,
    /// The latest of our PUBRECs that it answered with PUBREL, by stream.
    pub(crate) released_up_to: FxHashMap<StreamIx, Place>,
    /// The latest QoS 1 delivery that was acknowledged.
    pub(crate) acked_up_to: Place,
    /// Reason of the DISCONNECT that was sent, and of the one that was received.
    pub(crate) said_goodbye: Option<u8>,
    pub(crate) told_goodbye: Option<u8>,
    pub(crate) last_heard_ns: u64,
    pub(crate) last_heard: Place,
    pub(crate) last_publish_ns: u64,
    /// When a delivery was last acknowledged on it.
    pub(crate) last_acked_ns: u64,
    /// The session was resumed.
    pub(crate) resumed: bool,
    /// A DISCONNECT set another session expiry interval.
    pub(crate) overrode_expiry: bool,
    pub(crate) subscribes: FxHashMap<u16, PendingSubscribe>,
    pub(crate) unsubscribes: FxHashMap<u16, Vec<Arc<str>>>,
}

/// A SUBSCRIBE without its SUBACK.
#[derive(Debug)]
pub(crate) struct PendingSubscribe {
    pub(crate) asked: Place,
    pub(crate) filters: Vec<(Arc<str>, u8)>,
}

/// What a packet id received from the broker stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inbound {
    pub(crate) subject: Subject,
    pub(crate) qos: u8,
    pub(crate) phase: Phase,
    /// Where the exchange began.
    pub(crate) began: Moment,
    /// The last PUBLISH or PUBREL of it, and where.
    pub(crate) last: Moment,
    pub(crate) connection: ConnIx,
    pub(crate) expires: bool,
    /// Several filters of the session match, or a shared one.
    pub(crate) overlapped: bool,
    /// The last acknowledgement that was sent for it; 0 where none was.
    pub(crate) acked: Place,
    /// PUBREC was sent more than once.
    pub(crate) answered_again: bool,
}

/// What is known of the broker's and our acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// PUBLISH received, nothing sent.
    Publish,
    /// PUBACK or PUBREC sent; the broker may not have read it.
    Acked,
    /// PUBREL received, PUBCOMP not sent.
    Release,
    /// PUBCOMP sent; the broker may not have read it.
    Complete,
}

/// What a PUBLISH carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A message of this run.
    Ours(StreamIx, u64),
    /// Something else, told by its payload.
    Other(u32),
}

/// What a packet id sent to the broker stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outbound {
    /// None for what carries no marker of this run.
    pub(crate) message: Option<(StreamIx, u64)>,
    pub(crate) qos: u8,
    pub(crate) released: bool,
}

/// The copies of a message at a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Copies {
    /// Its first copy; 0 where none came.
    pub(crate) first: Place,
    /// When, in units of 100 µs.
    pub(crate) first_tick: u32,
    /// Its last copy.
    pub(crate) last: Place,
    /// The lineage that `accepted` counts in.
    pub(crate) lineage: u32,
    /// Packet id of the last copy.
    pub(crate) packet_id: u16,
    /// Packet id of the first copy.
    pub(crate) first_packet_id: u16,
    /// Live copies that a receiver following the protocol accepts, in this lineage.
    pub(crate) accepted: u8,
    /// Of the live copies of this lineage, those that were no repetition under the packet id of an earlier one.
    pub(crate) exchanges: u8,
    /// Live copies that a receiver may take for a new message, in all lineages: no exchange with them was open, or they came
    /// without DUP.
    pub(crate) handed_over: u8,
    /// Packets that carried it.
    pub(crate) packets: u8,
    pub(crate) max_qos: u8,
    /// A live copy came.
    pub(crate) live: bool,
    /// A retained copy came, for a new subscription.
    pub(crate) retained: bool,
}

/// A sentinel at a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sentinel {
    pub(crate) sequence: u64,
    pub(crate) at: Place,
    /// Lineage of the session when it came.
    pub(crate) lineage: u32,
}

impl Connection {
    /// Something is sent that the broker has to answer.
    pub(crate) fn asks(&mut self, now_ns: u64) {
        if self.unanswered == 0 {
            self.asked_ns = now_ns;
        }
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// An answer came, which shows what was so when its question was sent: it may have been long on its way.
    pub(crate) fn is_answered(&mut self) {
        if self.unanswered > 0 {
            self.unanswered -= 1;
            self.served_ns = self.asked_ns;
        }
    }

    /// The keep-alive in force, seconds; 0 is off.
    pub(crate) fn keep_alive(&self) -> u16 {
        let server = self.connack.as_ref().and_then(|connack| connack.server_keep_alive);
        server.unwrap_or(self.connect.as_ref().map_or(0, |connect| connect.keep_alive))
    }
}

impl Client {
    pub(crate) fn new(name: &Arc<str>, version: Version, group: GroupIx, lineage: u32) -> Self {
        Self {
            name: Arc::clone(name),
            version,
            group,
            role: Role::Own,
            lineage,
            breaks: Vec::new(),
            known: Known::Never,
            maybe_fresh: false,
            expiry: 0,
            away: None,
            served_ns: 0,
            current: None,
            last_accepted: None,
            last_connect: None,
            online: Vec::new(),
            resumes: Vec::new(),
            session_present: Vec::new(),
            resumed: 0,
            subscriptions: Vec::new(),
            routes: FxHashMap::default(),
            inbound: FxHashMap::default(),
            outbound: FxHashMap::default(),
            shadows: FxHashSet::default(),
            copies: FxHashMap::default(),
            sent_up_to: FxHashMap::default(),
            sentinels: FxHashMap::default(),
            control: VecDeque::new(),
            least_packet_max: u32::MAX,
            uses_identifiers: false,
            last_fault: 0,
            acks_out_of_order: false,
            waited: 0,
            accepted_once: FxHashMap::default(),
        }
    }

    /// Its copies of a message.
    pub(crate) fn copies_of(&self, stream: StreamIx, sequence: u64) -> Copies {
        self.copies.get(&stream).and_then(|copies| copies.at(sequence)).copied().unwrap_or_default()
    }

    /// The sequence of the latest sentinel of a stream that came in the present lineage, at whatever QoS; 0 without one.
    pub(crate) fn last_sentinel(&self, stream: StreamIx) -> u64 {
        let sentinels = (0..=2).filter_map(|qos| self.sentinels.get(&(stream, qos)));
        sentinels.filter(|it| it.lineage == self.lineage).map(|it| it.sequence).max().unwrap_or(0)
    }

    /// Begins a new lineage: in-flight tables are forgotten, and its filters end in this way.
    pub(crate) fn break_lineage(&mut self, lineage: u32, why: Why, now: Place) {
        self.lineage = lineage;
        self.breaks.push(Break { place: now, why });
        self.inbound.clear();
        match why {
            Why::Wiped => self.shadows.extend(unreleased(&self.outbound)),
            _ => self.shadows.clear(),
        }
        self.outbound.clear();
        self.sent_up_to.clear();
        for subscription in &mut self.subscriptions {
            match why {
                Why::CleanStart => subscription.doubt(now),
                Why::Ended => subscription.close(End::Discarded, now),
                Why::Lost | Why::Gone | Why::Wiped => subscription.close(End::Doubtful, now),
            }
        }
    }

    /// An accepted clean start discards every filter of before.
    pub(crate) fn discard_subscriptions(&mut self, connect_sent: Place, now: Place) {
        for subscription in &mut self.subscriptions {
            if subscription.grants.last().is_none_or(|grant| grant.asked < connect_sent) {
                subscription.close(End::Discarded, now);
            }
        }
    }

    /// What was owed at the broker's end may be forgotten there.
    pub(crate) fn forgive(&mut self, now: Place) {
        self.subscriptions.iter_mut().for_each(|it| it.fell_back = now);
        for entry in self.inbound.values_mut() {
            entry.phase = match entry.phase {
                Phase::Publish | Phase::Acked => Phase::Acked,
                Phase::Release | Phase::Complete => Phase::Complete,
            };
        }
        if self.known != Known::Never {
            self.known = Known::Doubtful("the broker failed in a way that its profile does not cover");
        }
    }

    /// What CONNACK has to say to a CONNECT without clean start, sent at `asked` and answered at `now`.
    pub(crate) fn expected(&self, known: Known, asked_ns: u64, now_ns: u64) -> Expected {
        match known {
            Known::Never => Expected::AbsentNever,
            Known::Ended => Expected::AbsentEnded,
            Known::Doubtful(_) => Expected::Either,
            Known::Exists => self.expected_of_existing(asked_ns, now_ns),
        }
    }

    fn expected_of_existing(&self, asked_ns: u64, now_ns: u64) -> Expected {
        const SECOND_NS: u64 = 1_000_000_000;
        // A takeover: the broker may have given the old connection up since it last showed that it had it.
        let away = self.away.unwrap_or(Away { earliest_ns: self.served_ns, latest_ns: None });
        if self.expiry == u32::MAX {
            return Expected::Present;
        }
        let expiry_ns = u64::from(self.expiry) * SECOND_NS;
        let longest = now_ns.saturating_sub(away.earliest_ns);
        let shortest = away.latest_ns.map_or(0, |latest| asked_ns.saturating_sub(latest));
        if longest + SECOND_NS < expiry_ns {
            Expected::Present
        } else if shortest > expiry_ns + 2 * SECOND_NS {
            Expected::AbsentExpired
        } else {
            Expected::Either
        }
    }

    /// Whether an exchange that it received is open: the broker may be waiting for its end.
    pub(crate) fn is_busy(&self) -> bool {
        self.inbound.values().any(|it| match it.phase {
            Phase::Publish | Phase::Release => true,
            Phase::Acked => it.qos == 2,
            Phase::Complete => false,
        })
    }

    /// Whether it had an accepted connection at `place`.
    pub(crate) fn was_online(&self, place: Place) -> bool {
        let after = self.online.partition_point(|(from, _)| *from <= place);
        after > 0 && place < self.online[after - 1].1
    }

    /// The filters that match a topic, whatever their state, by place in `subscriptions`.
    pub(crate) fn routes(&mut self, topic: &Arc<str>) -> Arc<[usize]> {
        if let Some(found) = self.routes.get(topic) {
            return Arc::clone(found);
        }
        let matching = self.subscriptions.iter().enumerate().filter(|(_, it)| it.matches(topic));
        let found: Arc<[usize]> = matching.map(|(at, _)| at).collect();
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(Arc::clone(topic), Arc::clone(&found));
        found
    }

    /// A SUBSCRIBE names a filter.
    pub(crate) fn subscribe(&mut self, filter: &Filter, identifier: Option<u32>, now: Moment) {
        self.uses_identifiers |= identifier.is_some();
        let open = self.subscriptions.iter_mut().find(|it| it.filter == filter.filter && it.until == NEVER);
        match open {
            Some(subscription) => subscription.ask_again(filter, identifier, now),
            None => {
                self.subscriptions.push(Subscription::asked(filter, identifier, now));
                self.routes.clear();
            }
        }
    }

    /// Forgets its copies of a stream's messages below `end`, but for where each was accepted once.
    pub(crate) fn retire(&mut self, stream: StreamIx, it: &Stream, end: u64) {
        let Some(copies) = self.copies.get_mut(&stream) else { return };
        let lineage = self.lineage;
        let once = |sequence: u64| {
            let accepted = copies.at(sequence).is_some_and(|copies| copies.accepted_in(lineage) == 1);
            accepted && it.messages.at(sequence).is_some_and(|message| message.submissions == 1)
        };
        if it.qos == 2 && (it.retired..end).all(once) {
            let here = Accepted { lineage, from: it.retired, to: end };
            let known = self.accepted_once.entry(stream).or_insert(here);
            let joined = known.lineage == lineage && known.to == it.retired;
            *known = if joined { Accepted { to: end, ..*known } } else { here };
        }
        copies.forget_below(end);
    }

    /// A connection ends: counts the deliveries that have waited for an answer on it.
    pub(crate) fn note_waiting(&mut self, at: ConnIx, now: Moment) {
        let waiting = self.inbound.values().filter(|it| {
            let open = matches!(it.phase, Phase::Publish | Phase::Release);
            open && it.connection == at && now.at_ns.saturating_sub(it.last.at_ns) >= PATIENT_NS
        });
        self.waited += waiting.count() as u64;
    }

    /// Remembers a line about its connections.
    pub(crate) fn note(&mut self, line: Line) {
        if self.control.len() == CONTROL_LINES_MAX {
            self.control.pop_front();
        }
        self.control.push_back(line);
    }
}

fn unreleased(outbound: &FxHashMap<u16, Outbound>) -> impl Iterator<Item = u16> {
    outbound.iter().filter(|(_, it)| it.qos == 2 && !it.released).map(|(id, _)| *id)
}
