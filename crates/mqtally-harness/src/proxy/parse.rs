//! Rules as text.

use super::fault::Fault;
use super::moment::{Moment, Place};
use super::rule::{Rule, Times};
use super::words::{Word, Words, positive};
use super::{Direction, Ending, PacketKind};
use mqtally_proto::packet::Qos;
use mqtally_proto::topic::validate_filter;
use std::fmt;
use std::str::FromStr;

const DIRECTIONS: [&str; 2] = ["c2s", "s2c"];
const CLAUSES: [&str; 14] = [
    "before",
    "after",
    "inside",
    "for",
    "times",
    "always",
    "fin",
    "rst",
    "client=",
    "topic=",
    "qos=",
    "id=",
    "connection=",
    "bytes=",
];

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// What is wrong, as a lower-case fragment.
    pub problem: String,
    /// The word that is meant; empty where one is missing.
    pub word: String,
    /// Where it begins, in characters from 1.
    pub column: usize,
    /// Words that could stand there; empty where it is no choice among few.
    pub known: Vec<&'static str>,
}

impl RuleError {
    pub(super) fn new(
        problem: impl Into<String>,
        word: impl Into<String>,
        column: usize,
        known: &[&'static str],
    ) -> Self {
        Self { problem: problem.into(), word: word.into(), column, known: known.to_vec() }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if !self.word.is_empty() {
            write!(f, " '{}'", self.word)?;
        }
        write!(f, " at column {}", self.column)
    }
}

impl std::error::Error for RuleError {}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut words = Words::new(text)?;
        let mut rule = match words.take("abort-connect") {
            true => Rule::new(Fault::cut()).after(Direction::ToServer, PacketKind::CONNECT, 1),
            false => Rule::new(Fault::parse(&mut words)?),
        };
        if rule.fault.names_its_packet() {
            rule.moment = Some(moment(Place::Before, &mut words)?);
        }
        while let Some(word) = words.next() {
            rule.clause(&word, &mut words)?;
        }
        rule.check().map_err(|problem| RuleError::new(problem, "", 1, &[]))?;
        Ok(rule)
    }
}

impl Rule {
    fn clause(&mut self, word: &Word, words: &mut Words) -> Result<(), RuleError> {
        if let Some((key, value)) = word.text.split_once('=') {
            return self.condition(word, key, value);
        }
        let is_first = match word.text.as_str() {
            "before" => set(&mut self.moment, moment(Place::Before, words)?),
            "after" => set(&mut self.moment, moment(Place::After, words)?),
            // How many bytes is said by a condition behind it.
            "inside" => set(&mut self.moment, moment(Place::Inside(1), words)?),
            "for" => set(&mut self.lasting_ms, words.duration_ms("how long")?),
            "times" => set(&mut self.times, Times::Limited(words.number("how often")?)),
            "always" => set(&mut self.times, Times::Always),
            "fin" => return self.ending(word, Ending::Fin),
            "rst" => return self.ending(word, Ending::Rst),
            _ => return Err(word.unknown("word", &CLAUSES)),
        };
        if is_first { Ok(()) } else { Err(word.error("said twice:")) }
    }

    fn ending(&mut self, word: &Word, ending: Ending) -> Result<(), RuleError> {
        if self.fault.end_by(ending) { Ok(()) } else { Err(word.error("only cut and refuse know")) }
    }

    fn condition(&mut self, word: &Word, key: &str, value: &str) -> Result<(), RuleError> {
        let number =
            |what: &str| positive(value).ok_or_else(|| word.error(format!("{what} is not a number from 1:")));
        let scope = &mut self.scope;
        let is_first = match key {
            "client" => set(&mut scope.client, value.to_owned()),
            "topic" => {
                validate_filter(value).map_err(|error| word.error(format!("the topic filter {error}:")))?;
                set(&mut scope.topic, value.to_owned())
            }
            "qos" => {
                let qos = value.parse().ok().and_then(Qos::from_u8);
                set(&mut scope.qos, qos.ok_or_else(|| word.unknown("QoS", &["qos=0", "qos=1", "qos=2"]))?)
            }
            "id" => {
                let id = u16::try_from(number("the packet id")?);
                set(&mut scope.packet_id, id.map_err(|_| word.error("no packet id is above 65535:"))?)
            }
            "connection" => set(&mut scope.connection, number("the connection")?),
            "bytes" => return self.part(word, number("the number of bytes")?),
            _ => return Err(word.unknown("condition", &CLAUSES[8..])),
        };
        if is_first { Ok(()) } else { Err(word.error("said twice:")) }
    }

    fn part(&mut self, word: &Word, bytes: u32) -> Result<(), RuleError> {
        match &mut self.moment {
            Some(Moment { place: place @ Place::Inside(_), .. }) => {
                *place = Place::Inside(bytes);
                Ok(())
            }
            _ => Err(word.error("it belongs behind 'inside':")),
        }
    }
}

/// Sets what is not set yet.
fn set<T>(place: &mut Option<T>, value: T) -> bool {
    let is_first = place.is_none();
    *place = Some(value);
    is_first
}

/// `c2s PUBREL 3`
fn moment(place: Place, words: &mut Words) -> Result<Moment, RuleError> {
    let direction = direction(words)?;
    let known = [&["any"], &PacketKind::NAMES[..]].concat();
    let word = words.expect("the packet", &known)?;
    let kind = match word.text.as_str() {
        "any" => None,
        name => Some(PacketKind::from_name(name).ok_or_else(|| word.unknown("packet", &known))?),
    };
    let is_number = words.peek().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let nth = if is_number { words.number("which packet")? } else { 1 };
    Ok(Moment { place, direction, kind, nth })
}

/// `c2s` or `s2c`
pub(super) fn direction(words: &mut Words) -> Result<Direction, RuleError> {
    let word = words.expect("the direction", &DIRECTIONS)?;
    match word.text.as_str() {
        "c2s" => Ok(Direction::ToServer),
        "s2c" => Ok(Direction::ToClient),
        _ => Err(word.unknown("direction", &DIRECTIONS)),
    }
}
