//! Which message a broker may be ending connections for. Pure.
//!
//! MQTT 3.1.1 has no other way to refuse a message, and brokers that speak 5.0 use it, too. It proves nothing: a broker that is
//! ill looks the same. So the message is named, and whoever knows the broker decides.

/// Connections in a row that ended with the same message unanswered before it is suspected.
const ENDS_MIN: u32 = 4;

/// What the connections so far came to.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    seq: u64,
    ends: u32,
}

impl Suspect {
    /// The broker answered: it took what was first.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The broker ended a connection that it had accepted, and had answered nothing of what was in flight, of which `first` is the
    /// first. Says whether that message is suspected.
    pub(super) fn ended(&mut self, first: u64) -> bool {
        self.ends = if self.seq == first { self.ends.saturating_add(1) } else { 1 };
        self.seq = first;
        self.ends >= ENDS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_in_a_row_on_one_message_make_it_suspect() {
        let mut suspect = Suspect::default();
        let ends = |suspect: &mut Suspect, first| (0..4).map(|_| suspect.ended(first)).collect::<Vec<_>>();
        assert_eq!(ends(&mut suspect, 7), [false, false, false, true]);
        assert!(suspect.ended(7), "and it stays so");
        assert!(!suspect.ended(8), "the next one begins anew");
        assert_eq!(ends(&mut suspect, 8), [false, false, true, true]);
        suspect.clear();
        assert!(!suspect.ended(8));
    }
}
