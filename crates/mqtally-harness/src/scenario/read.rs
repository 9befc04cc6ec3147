//! From a file's text to a scenario that can be played, or to what is wrong and where.

use super::{Fault, Need, Scenario, Session, Span, Stream, Subscriber};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Qos;
use mqtally_proto::topic;
use serde::{Deserialize, Deserializer, de};

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
        (None, _) => plainly(&message),
    };
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    ScenarioError { what, line, column, unknown, known }
}

/// The parser's words for types, as people say it.
fn plainly(message: &str) -> String {
    let words = [("expected f64", "expected a number"), ("expected u32", "expected a whole number")];
    let words = words.into_iter().chain([("expected u64", "expected a whole number")]);
    let words = words.chain([("expected u8", "expected a whole number"), ("missing field", "missing key")]);
    words.fold(message.replace('`', "'"), |message, (theirs, ours)| message.replace(theirs, ours))
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

/// A key of the file: of the whole, or of an entry of one of its lists.
#[derive(Clone, Copy)]
struct Spot {
    entry: Option<(&'static str, usize)>,
    key: &'static str,
}

impl Spot {
    const fn top(key: &'static str) -> Spot {
        Spot { entry: None, key }
    }

    const fn of(list: &'static str, place: usize, key: &'static str) -> Spot {
        Spot { entry: Some((list, place)), key }
    }

    /// The same entry's other key.
    const fn key(self, key: &'static str) -> Spot {
        Spot { key, ..self }
    }
}

impl Checks<'_> {
    fn all(&self) -> Result<(), ScenarioError> {
        let it = self.scenario;
        self.name(Spot::top("name"), &it.name)?;
        let duration = Spot::top("duration");
        self.ensure(it.duration.as_ms() > 0, duration, "a scenario has to last for some time")?;
        let speed = (0.01..=10_000.0).contains(&it.speed);
        self.ensure(speed, Spot::top("speed"), "the speed is from 0.01 to 10000")?;
        self.ensure(
            !it.streams.is_empty(),
            Spot::top("streams"),
            "a scenario without streams sends nothing",
        )?;
        let run_s = it.duration.as_secs_f64() / it.speed;
        let long = format!(
            "at this speed it would take {:.0} hours, and a day is the most; raise the speed to {:.0}",
            run_s / 3_600.0,
            (it.duration.as_secs_f64() / RUN_S_MAX).ceil()
        );
        self.ensure(run_s <= RUN_S_MAX, duration, &long)?;
        for (place, stream) in it.streams.iter().enumerate() {
            self.stream(place, stream)?;
        }
        for (place, subscriber) in it.subscribers.iter().enumerate() {
            self.subscriber(place, subscriber)?;
        }
        for (place, fault) in it.faults.iter().enumerate() {
            self.fault(place, fault)?;
        }
        self.sizes()
    }

    fn stream(&self, place: usize, stream: &Stream) -> Result<(), ScenarioError> {
        let spot = Spot::of("streams", place, "name");
        self.name(spot, &stream.name)?;
        let twice = self.scenario.streams[..place].iter().any(|other| other.name == stream.name);
        self.ensure(!twice, spot, "another stream has this name")?;
        let topic = spot.key("topic");
        if let Err(error) = topic::validate_name(&stream.topic_of(1)) {
            return Err(self.at(topic, format!("'{}' is no topic: {error}", stream.topic)));
        }
        let shared = stream.devices > 1 && !stream.topic.contains("{device}");
        self.ensure(!shared, topic, "several devices need {device} in their topic")?;
        self.not_hidden(&stream.topic, topic)?;
        self.ensure(stream.qos <= 2, spot.key("qos"), "QoS is 0, 1 or 2")?;
        let devices = (1..=DEVICES_MAX).contains(&stream.devices);
        self.ensure(devices, spot.key("devices"), "there are 1 to 1000 devices of a kind")?;
        let every = stream.every.as_ms() > 0;
        self.ensure(every, spot.key("every"), "'every' has to be longer than nothing")?;
        let late = stream.from >= self.scenario.duration;
        self.ensure(!late, spot.key("from"), "its first message would come after the end of the scenario")?;
        self.count(spot.key("count"), stream)?;
        self.payload(spot, stream)?;
        self.expiry(spot.key("expiry"), stream.expiry)?;
        let contradicts = stream.has(Need::MayLose) && stream.has(Need::MustArrive);
        self.ensure(!contradicts, spot.key("needs"), "it cannot be that it may be lost and must arrive")
    }

    fn count(&self, spot: Spot, stream: &Stream) -> Result<(), ScenarioError> {
        let Some(count) = stream.count else { return Ok(()) };
        self.ensure(count > 0, spot, "a stream of no messages needs nothing")?;
        let last_ms =
            u64::from(count - 1).saturating_mul(stream.every.as_ms()).saturating_add(stream.from.as_ms());
        let (every, duration) = (stream.every, self.scenario.duration);
        let what = format!("{count} messages every {every} do not fit into the duration of {duration}");
        self.ensure(last_ms < duration.as_ms(), spot, &what)
    }

    /// What looks like JSON has to be, and what moves something has to say by how much.
    fn payload(&self, spot: Spot, stream: &Stream) -> Result<(), ScenarioError> {
        let [one, other] = [(1, 1), (2, 2)].map(|(device, number)| {
            serde_json::from_str::<serde_json::Value>(&stream.payload_of(device, number))
        });
        let is_object = matches!(&one, Ok(payload) if payload.is_object());
        let fine = is_object || !stream.payload.trim_start().starts_with('{');
        self.ensure(fine, spot.key("payload"), "it begins like a JSON object and is none")?;
        let Some(member) = &stream.step else { return Ok(()) };
        let step = |payload: Result<serde_json::Value, _>| payload.ok()?.get(member)?.as_i64();
        let (one, other) = (step(one), step(other));
        let what =
            format!("its payload has no whole number '{member}' that is the same in every message and not 0");
        self.ensure(one == other && one.is_some_and(|step| step != 0), spot.key("step"), &what)
    }

    /// MQTT counts expiry in whole seconds.
    fn expiry(&self, spot: Spot, expiry: Option<Span>) -> Result<(), ScenarioError> {
        let Some(expiry) = expiry else { return Ok(()) };
        let seconds = expiry.as_secs_f64() / self.scenario.speed;
        let what = format!(
            "at this speed an expiry of {expiry} is {:.0} ms, and MQTT counts whole seconds; lower the speed to {}",
            seconds * 1e3,
            expiry.as_secs_f64().max(0.01)
        );
        self.ensure(seconds >= 1.0, spot, &what)
    }

    /// What begins with a $ belongs to the broker, or is shared.
    fn not_hidden(&self, text: &str, spot: Spot) -> Result<(), ScenarioError> {
        let what =
            "topics and filters of a scenario stand below a root of its own, so that none begins with a $";
        self.ensure(!text.starts_with('$'), spot, what)
    }

    fn subscriber(&self, place: usize, subscriber: &Subscriber) -> Result<(), ScenarioError> {
        let spot = Spot::of("subscribers", place, "name");
        self.name(spot, &subscriber.name)?;
        let twice = self.scenario.subscribers[..place].iter().any(|other| other.name == subscriber.name)
            || self.scenario.streams.iter().any(|stream| stream.name == subscriber.name);
        self.ensure(!twice, spot, "a stream or another subscriber has this name, too")?;
        let filters = spot.key("filters");
        self.ensure(
            !subscriber.filters.is_empty(),
            filters,
            "a subscriber without filters receives nothing",
        )?;
        for text in &subscriber.filters {
            let Some((filter, _)) = subscription(text) else {
                return Err(self.at(filters, format!("'{text}' ends with an @, but not with @0, @1 or @2")));
            };
            self.not_hidden(filter, filters)?;
            topic::validate_filter(filter)
                .map_err(|error| self.at(filters, format!("'{filter}' is no topic filter: {error}")))?;
        }
        let vain = subscriber.session == Session::Clean && subscriber.expiry.is_some();
        let expiry = spot.key("expiry");
        self.ensure(
            !vain,
            expiry,
            "a clean session ends with its connection, so that its 'expiry' means nothing",
        )?;
        self.expiry(expiry, subscriber.expiry)
    }

    fn fault(&self, place: usize, fault: &Fault) -> Result<(), ScenarioError> {
        let spot = Spot::of("faults", place, "kind");
        match (&fault.of, fault.kind.strikes_broker()) {
            (Some(_), true) => {
                self.ensure(
                    false,
                    spot.key("of"),
                    "this fault strikes the broker, so that 'of' means nothing",
                )?;
            }
            (None, false) => {
                let what = format!("a fault of the kind {} needs 'of'", fault.kind.word());
                self.ensure(false, spot, &what)?;
            }
            (Some(of), false) => self.known(spot.key("of"), of)?,
            (None, true) => {}
        }
        let ends = fault.at + fault.lasts < self.scenario.duration;
        self.ensure(ends, spot.key("at"), "a fault has to be over before the scenario is")?;
        let again = spot.key("again-every");
        let overlaps = fault.again_every.is_some_and(|every| every <= fault.lasts || every.as_ms() == 0);
        self.ensure(!overlaps, again, "'again-every' has to be longer than 'lasts'")?;
        let strikes = self.scenario.strikes(fault);
        let often = format!(
            "it would strike {strikes} times, and {STRIKES_MAX} are the most; lengthen 'again-every'"
        );
        self.ensure(strikes <= STRIKES_MAX, again, &often)
    }

    fn known(&self, spot: Spot, of: &str) -> Result<(), ScenarioError> {
        let streams = self.scenario.streams.iter().map(|stream| &stream.name);
        let names = streams.chain(self.scenario.subscribers.iter().map(|subscriber| &subscriber.name));
        let known: Vec<String> = names.cloned().collect();
        if known.iter().any(|name| name == of) {
            return Ok(());
        }
        let error = self.at(spot, format!("there is no stream or subscriber '{of}'"));
        Err(ScenarioError { unknown: Some(of.to_owned()), known, ..error })
    }

    fn sizes(&self) -> Result<(), ScenarioError> {
        let (it, messages) = (self.scenario, self.scenario.messages());
        let clients = it.streams.iter().map(|stream| u64::from(stream.devices)).sum::<u64>()
            + it.subscribers.len() as u64;
        let many = format!("{clients} clients are more than {CLIENTS_MAX}; use fewer devices");
        self.ensure(clients <= CLIENTS_MAX, Spot::of("streams", 0, "devices"), &many)?;
        let what = format!(
            "{messages} messages are more than {MESSAGES_MAX}; shorten the duration or lengthen 'every'"
        );
        self.ensure(messages <= MESSAGES_MAX, Spot::top("duration"), &what)
    }

    fn name(&self, spot: Spot, name: &str) -> Result<(), ScenarioError> {
        let fine = !name.is_empty()
            && name.len() <= 40
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        self.ensure(fine, spot, "a name has 1 to 40 letters, digits and hyphens")
    }

    fn ensure(&self, fine: bool, spot: Spot, what: &str) -> Result<(), ScenarioError> {
        if fine { Ok(()) } else { Err(self.at(spot, what.to_owned())) }
    }

    fn at(&self, spot: Spot, what: String) -> ScenarioError {
        let (line, column) = position(self.text, offset(self.text, spot));
        ScenarioError { what, line, column, unknown: None, known: Vec::new() }
    }
}

/// Where a key's value stands; the head of its entry where it was left out, the beginning where there is none.
fn offset(text: &str, spot: Spot) -> usize {
    let mut lines = text.split_inclusive('\n').scan(0, |end, line| {
        let begin = *end;
        *end += line.len();
        Some((begin, line))
    });
    let mut head = 0;
    if let Some((list, place)) = spot.entry {
        let title = format!("[[{list}]]");
        let entry = lines.by_ref().filter(|(_, line)| line.trim_start().starts_with(&title)).nth(place);
        let Some((begin, _)) = entry else { return 0 };
        head = begin;
    }
    let within = lines.take_while(|(_, line)| !line.trim_start().starts_with('['));
    let value = |(begin, line): (usize, &str)| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == spot.key).then(|| begin + line.len() - value.trim_start().len())
    };
    within.into_iter().find_map(value).unwrap_or(head)
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
        check("qos = 1", "qos = 3", "QoS is 0, 1 or 2", 7);
        check("pump/{device}/alarm", "pump/+/alarm", "is no topic", 6);
        check("every = \"1s\"", "every = \"0s\"", "longer than nothing", 8);
        check("every = \"1s\"", "every = \"1s\"\ncount = 11", "do not fit", 9);
        check("every = \"1s\"", "every = \"1s\"\nneeds = [\"may-lose\", \"must-arrive\"]", "it cannot be", 9);
        check("every = \"1s\"", "every = \"1s\"\nneeds = [\"must-arive\"]", "'must-arive' is none", 9);
        check("pump/+/alarm@1", "pump/#/alarm@1", "is no topic filter", 11);
        check("pump/+/alarm@1", "pump/+/alarm@3", "not with @0, @1 or @2", 11);
        check("kind = \"cut\"", "kind = \"kill-broker\"", "strikes the broker", 14);
        check("of = \"room\"", "of = \"rom\"", "no stream or subscriber 'rom'", 14);
        check("lasts = \"1s\"", "lasts = \"9s\"", "over before the scenario is", 15);
        check("name = \"room\"", "name = \"alarm\"", "has this name, too", 10);
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
        assert!(Scenario::parse("").expect_err("empty").what.contains("missing key"));
    }
}
