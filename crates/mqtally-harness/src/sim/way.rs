//! One leg of a link, in one direction: from an end to the proxy, or from the proxy to an end.

use bytes::Bytes;
use fastrand::Rng;
use std::collections::VecDeque;
use std::time::Duration;

/// What arrives at the end of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Somebody wants to talk, on its connection of this number: the first thing that is seen of it.
    Open(u32),
    Bytes(Bytes),
    /// The other end is done, in order or not.
    End {
        reset: bool,
    },
}

/// Ordered, and lossless as long as nobody breaks it.
#[derive(Debug, Default)]
pub(super) struct Way {
    pieces: VecDeque<Piece>,
    /// So many of them are there, and wait to be taken.
    arrived: usize,
    /// Nothing that is written later arrives before.
    clear_at: Duration,
    /// Nothing more can be written.
    has_ended: bool,
    /// What is written is never seen again.
    is_hole: bool,
}

impl Way {
    /// Writes something that arrives no earlier than `earliest`; when it does, if ever.
    pub(super) fn post(&mut self, piece: Piece, earliest: Duration) -> Option<Duration> {
        if self.has_ended || self.is_hole {
            return None;
        }
        self.has_ended = matches!(piece, Piece::End { .. });
        self.pieces.push_back(piece);
        self.clear_at = self.clear_at.max(earliest);
        Some(self.clear_at)
    }

    /// The next piece is there.
    pub(super) fn arrive(&mut self) {
        self.arrived = self.pieces.len().min(self.arrived + 1);
    }

    pub(super) fn take(&mut self) -> Option<Piece> {
        self.arrived = self.arrived.checked_sub(1)?;
        self.pieces.pop_front()
    }

    /// Nothing arrives any more, and nobody is told.
    pub(super) fn swallow(&mut self) {
        self.pieces.truncate(self.arrived);
        self.is_hole = true;
    }

    /// A tail of what is on its way is lost, most often in the middle of a packet.
    pub(super) fn lose_tail(&mut self, random: &mut Rng) {
        let kept = random.usize(self.arrived..=self.pieces.len());
        self.pieces.truncate(kept);
        if random.bool()
            && kept > self.arrived
            && let Some(Piece::Bytes(last)) = self.pieces.back_mut()
        {
            last.truncate(random.usize(1..=last.len()));
        }
    }

    /// Whether what is written now arrives.
    pub(super) fn is_sound(&self) -> bool {
        !self.has_ended && !self.is_hole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Piece {
        Piece::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_tail_that_is_lost_begins_behind_what_has_arrived() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut way = Way::default();
            for piece in ["one", "two", "three"] {
                way.post(bytes(piece), Duration::ZERO);
            }
            way.arrive();
            way.lose_tail(&mut Rng::with_seed(seed));
            assert_eq!(way.take(), Some(bytes("one")));
            lost += usize::from(way.pieces != [bytes("two"), bytes("three")]);
        }
        assert!((1..50).contains(&lost), "{lost} of 50 lost something");
    }

    #[test]
    fn nothing_is_written_behind_an_end_or_into_a_hole() {
        let mut ended = Way::default();
        ended.post(Piece::End { reset: false }, Duration::ZERO);
        assert_eq!(ended.post(bytes("too late"), Duration::ZERO), None);
        let mut hole = Way::default();
        hole.swallow();
        assert_eq!(hole.post(bytes("for nobody"), Duration::ZERO), None);
    }
}
