//! From a file's text to a scenario that can be played, or to what is wrong and where.

use super::{Fault, Need, Scenario, Session, Span, Stream, Subscriber};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Qos;
use mqtally_proto::topic;
use serde::{Deserialize, Deserializer, de};
use std::ops::Range;

/// More messages than this are a load test, not a scenario.
const MESSAGES_MAX: u64 = 1_000_000;
const DEVICES_MAX: u32 = 1_000;
const CLIENTS_MAX: u64 = 2_000;
/// Faults that strike in one scenario.
const STRIKES_MAX: u64 = 1_000;
/// A scenario is played in less than a day.
const RUN_S_MAX: f64 = 86_400.0;

/// What is wrong with a scenario file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ScenarioError {
    /// In a sentence without a full stop.
    pub what: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// The word that nobody knows, when that is what is wrong.
    pub unknown: Option<String>,
    /// Words that could stand there instead.
    pub known: Vec<String>,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// The first thing that is wrong with it: its syntax, an unknown key, a value that makes no sense, a contradiction.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let checks = Checks { text, scenario: &scenario };
        checks.all()?;
        Ok(scenario)
    }
}

/// A filter and the QoS behind its `@`.
pub(super) fn subscription(text: &str) -> Option<(&str, Qos)> {
    match text.rsplit_once('@') {
        Some((filter, "0")) => Some((filter, Qos::AtMostOnce)),
        Some((filter, "1")) => Some((filter, Qos::AtLeastOnce)),
        Some((filter, "2")) => Some((filter, Qos::ExactlyOnce)),
        Some(_) => None,
        None => Some((text, Qos::AtMostOnce)),
    }
}

pub(super) fn profile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Profile>, D::Error> {
    let names = [
        ("volatile", Profile::Volatile),
        ("graceful", Profile::Graceful),
        ("durable", Profile::Durable),
        ("power-safe", Profile::PowerSafe),
    ];
    let name = String::deserialize(deserializer)?;
    let known = names.iter().find(|(known, _)| *known == name).map(|(_, profile)| Some(*profile));
    known.ok_or_else(|| de::Error::unknown_variant(&name, &["volatile", "graceful", "durable", "power-safe"]))
}

/// What the parser says, with the words that it names in back-ticks taken apart.
fn syntax(text: &str, error: &toml::de::Error) -> ScenarioError {
    let message = error.message().to_owned();
    let mut words: Vec<String> = message.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let names_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let (unknown, known) = match names_unknown && !words.is_empty() {
        true => (Some(words.remove(0)), words),
        false => (None, Vec::new()),
    };
    let what = match (&unknown, message.starts_with("unknown field")) {
        (Some(word), true) => format!("unknown key '{word}'"),
        (Some(word), false) => format!("'{word}' is none of the words for this"),
        (None, _) => message,
    };
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    ScenarioError { what, line, column, unknown, known }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

/// What a well-formed file can still have wrong with it.
struct Checks<'a> {
    text: &'a str,
    scenario: &'a Scenario,
}

impl Checks<'_> {
    fn all(&self) -> Result<(), ScenarioError> {
        let it = self.scenario;
        self.name("name", &it.name)?;
        self.ensure(it.duration.as_ms() > 0, "duration", "a scenario has to last for some time")?;
        self.ensure((0.01..=10_000.0).contains(&it.speed), "speed", "the speed is from 0.01 to 10000")?;
        self.ensure(!it.streams.is_empty(), "name", "a scenario without [[streams]] sends nothing")?;
        let run_s = it.duration.as_secs_f64() / it.speed;
        let long = format!(
            "at this speed it would take {:.0} hours, and a day is the most; raise the speed to {:.0}",
            run_s / 3_600.0,
            (it.duration.as_secs_f64() / RUN_S_MAX).ceil()
        );
        self.ensure(run_s <= RUN_S_MAX, "duration", &long)?;
        for (place, stream) in it.streams.iter().enumerate() {
            self.stream(place, stream)?;
        }
        for (place, subscriber) in it.subscribers.iter().enumerate() {
            self.subscriber(place, subscriber)?;
        }
        for fault in &it.faults {
            self.fault(fault)?;
        }
        self.sizes()
    }

    fn stream(&self, place: usize, stream: &Stream) -> Result<(), ScenarioError> {
        self.name("name", &stream.name)?;
        let twice = self.scenario.streams[..place].iter().any(|other| other.name == stream.name);
        self.ensure(!twice, &stream.name, "two streams have this name")?;
        if let Err(error) = topic::validate_name(&stream.topic_of(1)) {
            return Err(self.at(&stream.topic, format!("'{}' is no topic: {error}", stream.topic)));
        }
        let shared = stream.devices > 1 && !stream.topic.contains("{device}");
        self.ensure(!shared, &stream.topic, "several devices need {device} in their topic")?;
        self.not_hidden(&stream.topic, &stream.topic)?;
        self.ensure(stream.qos <= 2, &stream.name, "QoS is 0, 1 or 2")?;
        self.ensure(
            (1..=DEVICES_MAX).contains(&stream.devices),
            &stream.name,
            "there are 1 to 1000 devices of a kind",
        )?;
        self.ensure(stream.every.as_ms() > 0, &stream.name, "'every' has to be longer than nothing")?;
        let late = stream.from >= self.scenario.duration;
        self.ensure(!late, &stream.name, "its first message would come after the end of the scenario")?;
        self.count(stream)?;
        self.payload(stream)?;
        self.expiry(&stream.name, stream.expiry)?;
        let contradicts = stream.has(Need::MayLose) && stream.has(Need::MustArrive);
        self.ensure(!contradicts, &stream.name, "it cannot be that it may be lost and must arrive")
    }

    fn count(&self, stream: &Stream) -> Result<(), ScenarioError> {
        let Some(count) = stream.count else { return Ok(()) };
        self.ensure(count > 0, &stream.name, "a stream of no messages needs nothing")?;
        let last_ms =
            u64::from(count - 1).saturating_mul(stream.every.as_ms()).saturating_add(stream.from.as_ms());
        match last_ms < self.scenario.duration.as_ms() {
            true => Ok(()),
            false => Err(self.at(
                &stream.name,
                format!(
                    "{count} messages every {} do not fit into the duration of {}",
                    stream.every, self.scenario.duration
                ),
            )),
        }
    }

    /// What looks like JSON has to be, and what moves something has to say by how much.
    fn payload(&self, stream: &Stream) -> Result<(), ScenarioError> {
        let [one, other] = [(1, 1), (2, 2)].map(|(device, number)| {
            serde_json::from_str::<serde_json::Value>(&stream.payload_of(device, number))
        });
        let is_object = matches!(&one, Ok(payload) if payload.is_object());
        let fine = is_object || !stream.payload.trim_start().starts_with('{');
        self.ensure(fine, &stream.name, "its payload begins like a JSON object and is none")?;
        let Some(member) = &stream.step else { return Ok(()) };
        let step = |payload: Result<serde_json::Value, _>| payload.ok()?.get(member)?.as_i64();
        let (one, other) = (step(one), step(other));
        let what =
            format!("its payload has no whole number '{member}' that is the same in every message and not 0");
        self.ensure(one == other && one.is_some_and(|step| step != 0), member, &what)
    }

    /// MQTT counts expiry in whole seconds.
    fn expiry(&self, place: &str, expiry: Option<Span>) -> Result<(), ScenarioError> {
        let Some(expiry) = expiry else { return Ok(()) };
        let seconds = expiry.as_secs_f64() / self.scenario.speed;
        let what = format!(
            "at this speed an expiry of {expiry} is {:.0} ms, and MQTT counts whole seconds; lower the speed to {}",
            seconds * 1e3,
            expiry.as_secs_f64().max(0.01)
        );
        self.ensure(seconds >= 1.0, place, &what)
    }

    /// What begins with a $ belongs to the broker, or is shared.
    fn not_hidden(&self, text: &str, place: &str) -> Result<(), ScenarioError> {
        self.ensure(
            !text.starts_with('$'),
            place,
            "topics and filters of a scenario stand below a root of its own, so that none begins with a $",
        )
    }

    fn subscriber(&self, place: usize, subscriber: &Subscriber) -> Result<(), ScenarioError> {
        self.name("name", &subscriber.name)?;
        let twice = self.scenario.subscribers[..place].iter().any(|other| other.name == subscriber.name)
            || self.scenario.streams.iter().any(|stream| stream.name == subscriber.name);
        self.ensure(!twice, &subscriber.name, "a stream or another subscriber has this name, too")?;
        self.ensure(
            !subscriber.filters.is_empty(),
            &subscriber.name,
            "a subscriber without filters receives nothing",
        )?;
        for text in &subscriber.filters {
            let Some((filter, _)) = subscription(text) else {
                return Err(self.at(text, format!("'{text}' ends with an @, but not with @0, @1 or @2")));
            };
            self.not_hidden(filter, text)?;
            topic::validate_filter(filter)
                .map_err(|error| self.at(text, format!("'{filter}' is no topic filter: {error}")))?;
        }
        self.expiry(&subscriber.name, subscriber.expiry)?;
        let vain = subscriber.session == Session::Clean && subscriber.expiry.is_some();
        self.ensure(
            !vain,
            &subscriber.name,
            "a clean session ends with its connection, so that its 'expiry' means nothing",
        )
    }

    fn fault(&self, fault: &Fault) -> Result<(), ScenarioError> {
        let place = fault.of.as_deref().unwrap_or("[[faults]]");
        match (&fault.of, fault.kind.strikes_broker()) {
            (Some(_), true) => {
                return Err(
                    self.at(place, "this fault strikes the broker, so that 'of' means nothing".to_owned())
                );
            }
            (None, false) => {
                return Err(self.at(place, format!("a fault of the kind {} needs 'of'", fault.kind.word())));
            }
            (Some(of), false) => self.known(of)?,
            (None, true) => {}
        }
        let ends = fault.at + fault.lasts;
        self.ensure(ends < self.scenario.duration, place, "a fault has to be over before the scenario is")?;
        let overlaps = fault.again_every.is_some_and(|every| every <= fault.lasts || every.as_ms() == 0);
        self.ensure(!overlaps, place, "'again-every' has to be longer than 'lasts'")?;
        let strikes = self.scenario.strikes(fault);
        let often = format!(
            "it would strike {strikes} times, and {STRIKES_MAX} are the most; lengthen 'again-every'"
        );
        self.ensure(strikes <= STRIKES_MAX, place, &often)
    }

    fn known(&self, of: &str) -> Result<(), ScenarioError> {
        let streams = self.scenario.streams.iter().map(|stream| &stream.name);
        let names = streams.chain(self.scenario.subscribers.iter().map(|subscriber| &subscriber.name));
        let known: Vec<String> = names.cloned().collect();
        if known.iter().any(|name| name == of) {
            return Ok(());
        }
        let error = self.at(of, format!("there is no stream or subscriber '{of}'"));
        Err(ScenarioError { unknown: Some(of.to_owned()), known, ..error })
    }

    fn sizes(&self) -> Result<(), ScenarioError> {
        let (it, messages) = (self.scenario, self.scenario.messages());
        let clients = it.streams.iter().map(|stream| u64::from(stream.devices)).sum::<u64>()
            + it.subscribers.len() as u64;
        let few = clients <= CLIENTS_MAX;
        self.ensure(
            few,
            "name",
            &format!("{clients} clients are more than {CLIENTS_MAX}; use fewer devices"),
        )?;
        let small = messages <= MESSAGES_MAX;
        let what = format!(
            "{messages} messages are more than {MESSAGES_MAX}; shorten the duration or lengthen 'every'"
        );
        self.ensure(small, "duration", &what)
    }

    fn name(&self, key: &str, name: &str) -> Result<(), ScenarioError> {
        let fine = !name.is_empty()
            && name.len() <= 40
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let place = if name.is_empty() { key } else { name };
        self.ensure(fine, place, "a name has 1 to 40 letters, digits and hyphens")
    }

    fn ensure(&self, fine: bool, place: &str, what: &str) -> Result<(), ScenarioError> {
        if fine { Ok(()) } else { Err(self.at(place, what.to_owned())) }
    }

    /// Points at the first place where `word` stands: as a value in quotes, or as a key.
    fn at(&self, word: &str, what: String) -> ScenarioError {
        let quoted = self.text.find(&format!("\"{word}\"")).map(|at| at + 1);
        let found: Option<Range<usize>> =
            quoted.or_else(|| self.text.find(word)).map(|at| at..at + word.len());
        let (line, column) = position(self.text, found.map_or(0, |range| range.start));
        ScenarioError { what, line, column, unknown: None, known: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "pump"
duration = "10s"
[[streams]]
name = "alarm"
topic = "pump/{device}/alarm"
qos = 1
every = "1s"
[[subscribers]]
name = "room"
filters = ["pump/+/alarm@1"]
[[faults]]
kind = "cut"
of = "room"
at = "2s"
lasts = "1s"
"#;

    #[test]
    fn what_is_left_out_has_a_meaning() {
        let scenario = Scenario::parse(GOOD).expect("a scenario");
        assert_eq!((scenario.speed, scenario.streams[0].devices, scenario.messages()), (1.0, 1, 10));
        assert_eq!(scenario.subscribers[0].asks_for(&scenario.streams[0]), Some(Qos::AtLeastOnce));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |from: &str, to: &str, expect: &str, line: usize| {
            assert!(GOOD.contains(from), "{from}");
            let error = Scenario::parse(&GOOD.replacen(from, to, 1)).expect_err(to);
            assert!(error.what.contains(expect), "{to}: {error:?}");
            assert_eq!(error.line, line, "{to}: {error:?}");
            assert!(error.column > 0);
        };
        check("duration =", "duration :", "", 3);
        check("duration", "duraton", "unknown key 'duraton'", 3);
        check("\"10s\"", "\"soon\"", "'soon' is no time", 3);
        check("\"10s\"", "\"0s\"", "has to last", 3);
        check("qos = 1", "qos = 3", "QoS is 0, 1 or 2", 5);
        check("pump/{device}/alarm", "pump/+/alarm", "is no topic", 6);
        check("every = \"1s\"", "every = \"0s\"", "longer than nothing", 5);
        check("every = \"1s\"", "every = \"1s\"\ncount = 11", "do not fit", 5);
        check("every = \"1s\"", "every = \"1s\"\nneeds = [\"may-lose\", \"must-arrive\"]", "it cannot be", 5);
        check("every = \"1s\"", "every = \"1s\"\nneeds = [\"must-arive\"]", "'must-arive' is none", 9);
        check("pump/+/alarm@1", "pump/#/alarm@1", "is no topic filter", 11);
        check("pump/+/alarm@1", "pump/+/alarm@3", "not with @0, @1 or @2", 11);
        check("kind = \"cut\"", "kind = \"kill-broker\"", "strikes the broker", 10);
        check("of = \"room\"", "of = \"rom\"", "no stream or subscriber 'rom'", 14);
        check("lasts = \"1s\"", "lasts = \"9s\"", "over before the scenario is", 10);
        check("name = \"room\"", "name = \"alarm\"", "has this name, too", 5);
        check("every = \"1s\"", "every = \"1ms\"\ndevices = 1000", "1000000", 3);
    }

    #[test]
    fn an_unknown_word_comes_with_the_words_that_are_known() {
        let error = Scenario::parse(&GOOD.replace("lasts", "last")).expect_err("a typo");
        assert_eq!(error.unknown.as_deref(), Some("last"));
        assert!(error.known.iter().any(|word| word == "lasts"), "{error:?}");
    }

    #[test]
    fn a_file_that_is_no_toml_and_an_empty_one_are_refused() {
        assert!(Scenario::parse("\u{0}").is_err());
        assert!(Scenario::parse("").expect_err("empty").what.contains("missing field"));
    }
}
