//! What somebody asked for.

use super::{Draw, Kind, Strike};
use crate::proxy::RuleError;

/// The faults that a run is to play.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Faults {
    /// Everything, drawn from the seed.
    #[default]
    All,
    /// These and no others.
    Only(Vec<Choice>),
}

/// An entry of a list of faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// All that is drawn of a kind.
    Kind(&'static Kind),
    /// This strike.
    Strike(Strike),
}

/// Why an entry of a list makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// One word, and no kind of fault.
    #[error("unknown fault '{0}'")]
    Unknown(String),
    /// Several words, and no strike.
    #[error("'{text}' is no strike: {error}")]
    Strike {
        /// What was written.
        text: String,
        /// What is wrong with it.
        error: RuleError,
    },
}

impl Choice {
    fn read(text: &str) -> Result<Self, ChoiceError> {
        if let Some(kind) = Kind::from_name(text) {
            return Ok(Self::Kind(kind));
        }
        match text.parse() {
            Ok(strike) => Ok(Self::Strike(strike)),
            Err(_) if !text.contains(' ') => Err(ChoiceError::Unknown(text.to_owned())),
            Err(error) => Err(ChoiceError::Strike { text: text.to_owned(), error }),
        }
    }

    fn kind(&self) -> &'static Kind {
        match self {
            Self::Kind(kind) => kind,
            Self::Strike(strike) => strike.kind(),
        }
    }
}

impl Faults {
    /// The first entry that a [simulation](crate::sim) cannot play as it is written: it has no listening sockets, and its
    /// seed decides how much is sent.
    pub fn unsimulated(&self) -> Option<String> {
        let Self::Only(chosen) = self else { return None };
        chosen.iter().find_map(|choice| match choice {
            Choice::Kind(kind) => (kind.name == "windows").then(|| kind.name.to_owned()),
            Choice::Strike(strike) => (!strike.can_be_simulated()).then(|| strike.to_string()),
        })
    }

    /// Reads a list with commas between its entries: names of kinds, and strikes. `none` is the empty list.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn read(list: &str) -> Result<Self, ChoiceError> {
        if list.trim() == "none" {
            return Ok(Self::Only(Vec::new()));
        }
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(Choice::read).collect::<Result<_, _>>().map(Self::Only)
    }

    /// Exactly these strikes.
    pub fn exactly(strikes: Vec<Strike>) -> Self {
        Self::Only(strikes.into_iter().map(Choice::Strike).collect())
    }

    /// Whether anything of this kind is played.
    pub fn has(&self, kind: &Kind) -> bool {
        match self {
            Self::All => true,
            Self::Only(choices) => choices.iter().any(|choice| choice.kind() == kind),
        }
    }

    /// Whether any of it is drawn.
    pub fn has_drawn(&self) -> bool {
        match self {
            Self::All => true,
            Self::Only(choices) => choices.iter().any(|choice| matches!(choice, Choice::Kind(_))),
        }
    }

    /// Whether nothing is played.
    pub fn is_none(&self) -> bool {
        *self == Self::Only(Vec::new())
    }

    /// The strikes of this kind, in order.
    pub(crate) fn strikes(&self, kind: &'static Kind, draw: &mut Draw) -> Vec<Strike> {
        let Self::Only(choices) = self else { return (kind.draw)(draw) };
        let of = |choice: &Choice| match choice {
            Choice::Kind(_) => (kind.draw)(draw),
            Choice::Strike(strike) => vec![strike.clone()],
        };
        choices.iter().filter(|choice| choice.kind() == kind).flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::KINDS;
    use std::collections::BTreeSet;

    fn draw(seed: u64) -> Draw {
        let random = fastrand::Rng::with_seed(seed);
        Draw { random, has_qos_2: true, receive_maximum: Some(20), is_v5: true }
    }

    #[test]
    fn what_is_drawn_of_a_kind_is_of_that_kind_and_can_be_typed() {
        for kind in KINDS {
            let strikes = Faults::All.strikes(kind, &mut draw(7));
            assert!(!strikes.is_empty(), "{kind:?}");
            for strike in strikes {
                assert_eq!(strike.kind(), kind, "{strike}");
                assert_eq!(strike.to_string().parse().as_ref(), Ok(&strike), "{strike}");
                assert!(!strike.to_string().contains(','), "{strike}");
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_one_something_else() {
        let all = |seed| KINDS.map(|kind| Faults::All.strikes(kind, &mut draw(seed)));
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn every_phase_of_both_handshakes_is_cut_before_inside_and_after_on_both_sides() {
        for (kind, packets) in [("cut-publisher", 6), ("cut-subscriber", 6)] {
            let kind = Kind::from_name(kind).expect("a kind");
            let strikes = Faults::All.strikes(kind, &mut draw(7));
            let phase = |strike: &Strike| {
                let rule = strike.proxied();
                let moment = rule.moment().expect("a moment");
                (moment.to_string().split(' ').take(3).collect::<Vec<_>>().join(" "), rule.scope().qos)
            };
            let phases: BTreeSet<String> = strikes.iter().map(|it| format!("{:?}", phase(it))).collect();
            assert_eq!(phases.len(), packets * 3, "{phases:#?}");
            assert_eq!(strikes.len(), packets * 3 * 2);
        }
    }

    #[test]
    fn a_broker_without_qos_2_is_not_struck_where_it_has_nothing() {
        for kind in KINDS {
            let mut draw = draw(7);
            draw.has_qos_2 = false;
            for strike in Faults::All.strikes(kind, &mut draw) {
                let text = strike.to_string();
                assert!(
                    !["PUBREC", "PUBREL", "PUBCOMP", "qos=2"].iter().any(|it| text.contains(it)),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_list_has_names_and_strikes_in_it() {
        let faults = Faults::read("takeover, cut after s2c PUBREL 2 rst").expect("a list");
        let names = |faults: &Faults| -> Vec<_> {
            KINDS.iter().filter(|kind| faults.has(kind)).map(|kind| kind.name).collect()
        };
        assert_eq!(names(&faults), ["cut-subscriber", "takeover"]);
        assert!(Faults::read("none").expect("a list").is_none());
        assert_eq!(Faults::read("takover"), Err(ChoiceError::Unknown("takover".to_owned())));
        let error = Faults::read("cut after s2c PUBRELL").expect_err("no strike");
        assert_eq!(
            error.to_string(),
            "'cut after s2c PUBRELL' is no strike: unknown packet 'PUBRELL' at column 15"
        );
    }
}
