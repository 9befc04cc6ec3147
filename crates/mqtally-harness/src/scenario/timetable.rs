//! What happens when, in the scenario's time.

use super::{Fault, Scenario, Span, Stream};

/// A fault begins or is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn<'a> {
    /// It strikes.
    Begins(&'a Fault),
    /// It is over.
    Ends(&'a Fault),
}

impl Scenario {
    /// How often `fault` strikes.
    pub fn strikes(&self, fault: &Fault) -> u64 {
        let rest_ms = self.duration.as_ms().saturating_sub(fault.at.as_ms());
        match fault.again_every {
            Some(every) if every.as_ms() > 0 => rest_ms.div_ceil(every.as_ms()).max(1),
            _ => 1,
        }
    }

    /// When `fault` strikes, in the scenario's time.
    pub fn moments(&self, fault: &Fault) -> impl Iterator<Item = Span> {
        let every_ms = fault.again_every.map_or(0, Span::as_ms);
        let (first_ms, strikes) = (fault.at.as_ms(), self.strikes(fault));
        (0..strikes).map(move |strike| Span::from_ms(first_ms + strike * every_ms))
    }

    /// Every fault's beginnings and ends, in order. Each is over before the scenario is, or when the scenario is.
    pub fn turns(&self) -> Vec<(Span, Turn<'_>)> {
        let mut turns = Vec::new();
        for fault in &self.faults {
            for at in self.moments(fault) {
                turns.push((at, Turn::Begins(fault)));
                turns.push(((at + fault.lasts).min(self.duration), Turn::Ends(fault)));
            }
        }
        // A stable order: of what happens at one time, what stands first in the file comes first.
        turns.sort_by_key(|(at, _)| *at);
        turns
    }

    /// How much later than on the dot all messages of a device of `stream` can be sent.
    pub(crate) fn slack(&self, stream: &Stream) -> Span {
        let last_ms = u64::from(self.count_of(stream).saturating_sub(1)).saturating_mul(stream.every.as_ms());
        let end_ms = stream.from.as_ms().saturating_add(last_ms);
        Span::from_ms(self.duration.as_ms().saturating_sub(end_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::built_in;

    #[test]
    fn faults_begin_and_end_in_turn_within_the_scenario() {
        for scenario in ["factory", "smart-home"].map(|name| built_in(name).expect(name)) {
            let turns = scenario.turns();
            assert!(turns.is_sorted_by_key(|(at, _)| *at));
            assert!(turns.iter().all(|(at, _)| *at <= scenario.duration));
            for fault in &scenario.faults {
                let of = |wanted: Turn<'_>| turns.iter().filter(|(_, turn)| *turn == wanted).count() as u64;
                let strikes = scenario.strikes(fault);
                assert_eq!((of(Turn::Begins(fault)), of(Turn::Ends(fault))), (strikes, strikes));
                assert_eq!(scenario.moments(fault).count() as u64, strikes);
            }
        }
    }

    #[test]
    fn a_fault_that_strikes_again_does_so_until_the_end() {
        let scenario = built_in("factory").expect("a scenario");
        let seconds = |place: usize| -> Vec<u64> {
            scenario.moments(&scenario.faults[place]).map(|at| at.as_ms() / 1_000).collect()
        };
        assert_eq!(seconds(0), [5, 25, 45]);
        assert_eq!(seconds(1), [9, 24, 39, 54]);
        assert_eq!(seconds(3), [34]);
    }
}
