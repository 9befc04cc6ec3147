//! One direction of a link: what has come, what waits, and when it may leave.

use super::fault::{Coalesce, Delay, Fault, Split, Throttle};
use super::framing::Framing;
use super::rules::{InForce, Struck};
use super::seen::Aliases;
use super::{BACKLOG_BYTES_MAX, Direction, Ending, Exit};
use bytes::{Bytes, BytesMut};
use mqtally_proto::Time;
use std::collections::VecDeque;

/// Bytes of one write at most.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// What is in force in one direction. Of two faults of one kind the rule that was added first counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Weather {
    pub(super) delay: Option<Delay>,
    pub(super) throttle: Option<Throttle>,
    pub(super) split: Option<Split>,
    pub(super) coalesce: Option<Coalesce>,
    pub(super) is_stalled: bool,
    pub(super) is_hole: bool,
}

impl Weather {
    pub(super) fn of<'a>(direction: Direction, in_force: impl Iterator<Item = &'a InForce>) -> Self {
        let mut weather = Self::default();
        for InForce { fault, .. } in in_force {
            match fault {
                Fault::Delay(it) if it.direction == direction => weather.delay = weather.delay.or(Some(*it)),
                Fault::Throttle(it) if it.direction == direction => {
                    weather.throttle = weather.throttle.or(Some(*it));
                }
                Fault::Split(it) if it.direction == direction => weather.split = weather.split.or(Some(*it)),
                Fault::Coalesce(it) if it.direction == direction => {
                    weather.coalesce = weather.coalesce.or(Some(*it));
                }
                Fault::Stall(it) => weather.is_stalled |= it.way.has(direction),
                Fault::BlackHole(it) => weather.is_hole |= it.way.has(direction),
                _ => {}
            }
        }
        weather
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What has been read and not been taken apart.
    pub(super) input: BytesMut,
    pub(super) framing: Framing,
    pub(super) aliases: Aliases,
    pub(super) weather: Weather,
    /// What becomes of the rest of a large packet.
    pub(super) tail: Option<Tail>,
    /// The sender's end was seen.
    pub(super) has_ended: bool,
    /// The black hole took something.
    pub(super) has_swallowed: bool,
    /// The receiver is gone: what comes is thrown away.
    pub(super) is_void: bool,
    /// Nothing more is to be delivered.
    pub(super) is_shut: bool,
    /// The end was polled, or will never be.
    pub(super) is_finished: bool,
    /// Whole packets that wait for the next one to pass.
    held: Vec<Bytes>,
    queue: VecDeque<(Time, Item)>,
    queued_bytes: usize,
    packets: u64,
    /// Nothing leaves before what was there first.
    last_due: Time,
    /// The end of what is being collected.
    collects_until: Time,
    /// The throttle's rest.
    rests_until: Time,
}

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    End(Exit),
}

/// What becomes of the rest of a large packet, and what comes after it.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) passes: bool,
    pub(super) then: Vec<Struck>,
}

impl Flow {
    /// Whether more may be read from the sender.
    pub(super) fn wants(&self) -> bool {
        !self.has_ended && !self.is_shut && !self.weather.is_stalled && self.queued_bytes < BACKLOG_BYTES_MAX
    }

    /// Whether it carries on what comes as it comes.
    pub(super) fn is_calm(&self) -> bool {
        let is_open = !self.has_ended && !self.is_shut && !self.is_void && !self.has_swallowed;
        is_open && self.weather == Weather::default()
    }

    /// Whether what comes does not get through.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_shut || self.is_void || self.weather.is_hole
    }

    /// A packet, or its beginning, is on its way; what is held passes behind a whole one.
    pub(super) fn push(&mut self, bytes: Bytes, is_whole: bool, now: Time) {
        if is_whole && self.tail.is_some() {
            // It was written by a tamper while a large packet streams through.
            return self.hold(bytes);
        }
        self.packets += 1;
        self.last_due = self.last_due.max(self.due(now));
        self.push_more(bytes);
        if is_whole {
            self.release();
        }
    }

    /// More of what was pushed last.
    pub(super) fn push_more(&mut self, bytes: Bytes) {
        if self.weather.is_hole {
            self.has_swallowed = true;
        }
        if !self.is_deaf() && !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            self.queue.push_back((self.last_due, Item::Bytes(bytes)));
        }
    }

    /// Keeps a whole packet back until the next one has passed.
    pub(super) fn hold(&mut self, bytes: Bytes) {
        self.held.push(bytes);
    }

    /// What was kept back passes now.
    pub(super) fn release(&mut self) {
        for bytes in std::mem::take(&mut self.held) {
            self.push_more(bytes);
        }
    }

    /// Nothing leaves before then.
    pub(super) fn rest_until(&mut self, time: Time) {
        self.last_due = self.last_due.max(time);
    }

    /// The sender ended, so that its receiver is to end too: behind what waits.
    pub(super) fn end(&mut self, ending: Ending, now: Time) {
        self.has_ended = true;
        let rest = self.input.split().freeze();
        self.push(rest, true, now);
        match (self.weather.is_hole, ending) {
            (true, _) => self.is_finished = self.queue.is_empty(),
            (false, Ending::Fin) => self.push_exit(Exit::HalfClose),
            (false, Ending::Rst) => self.push_exit(Exit::Cut(Ending::Rst)),
        }
    }

    /// The link is cut behind what waits.
    pub(super) fn cut(&mut self, ending: Ending) {
        self.push_exit(Exit::Cut(ending));
    }

    fn push_exit(&mut self, exit: Exit) {
        if !self.is_shut {
            self.is_shut = true;
            self.queue.push_back((self.last_due, Item::End(exit)));
        }
    }

    /// The receiver is gone.
    pub(super) fn lose_sink(&mut self) {
        self.is_void = true;
        self.queue.retain(|(_, item)| matches!(item, Item::End(Exit::Cut(_))));
        self.queued_bytes = 0;
        self.is_finished |= self.has_ended && self.queue.is_empty();
    }

    /// What may leave now: bytes into `out` or, when there are none, the end.
    pub(super) fn poll(&mut self, now: Time, out: &mut BytesMut) -> Option<Exit> {
        let mut room = if self.rests_until > now { 0 } else { self.piece() };
        while room > 0
            && let Some((due, item)) = self.queue.front_mut()
            && *due <= now
        {
            match item {
                Item::End(exit) if out.is_empty() => {
                    let exit = *exit;
                    self.queue.pop_front();
                    self.is_finished = true;
                    return Some(exit);
                }
                Item::End(_) => break,
                Item::Bytes(bytes) => {
                    let taken = bytes.split_to(bytes.len().min(room));
                    room -= taken.len();
                    self.queued_bytes -= taken.len();
                    out.extend_from_slice(&taken);
                    if bytes.is_empty() {
                        self.queue.pop_front();
                    }
                }
            }
        }
        if let Some(throttle) = self.weather.throttle {
            self.rests_until = self.rests_until.max(now.plus_ms(throttle.rest_ms(out.len())));
        }
        self.is_finished |= self.has_ended && self.queue.is_empty();
        None
    }

    /// When there is next something to poll.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.queue.front().map(|(due, _)| (*due).max(self.rests_until))
    }

    /// Bytes that may leave together.
    fn piece(&self) -> usize {
        let throttle = self.weather.throttle.map_or(usize::MAX, |throttle| throttle.piece());
        let split = self.weather.split.map_or(usize::MAX, |split| split.bytes as usize);
        WRITE_BYTES_MAX.min(throttle).min(split)
    }

    fn due(&mut self, now: Time) -> Time {
        let due = now.plus_ms(self.weather.delay.map_or(0, |delay| delay.ms_of(self.packets)));
        let Some(coalesce) = self.weather.coalesce else { return due };
        if self.collects_until <= due {
            self.collects_until = due.plus_ms(coalesce.ms);
        }
        self.collects_until
    }
}
