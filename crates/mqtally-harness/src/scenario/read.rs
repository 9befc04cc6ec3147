//! From a file's text to a scenario that can be played, or to what is wrong and where.

use super::place::{Places, Spot, position};
use super::{Fault, Need, Scenario, Session, Span, Stream, Subscriber};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Qos;
use mqtally_proto::topic;
use serde::{Deserialize, Deserializer, de};
use toml::de::DeTable;

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

impl ScenarioError {
    fn at((line, column): (usize, usize), what: String) -> ScenarioError {
        ScenarioError { what, line, column, unknown: None, known: Vec::new() }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// The first thing that is wrong with it: its syntax, an unknown key, a value that makes no sense, a contradiction.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let wrong = |error: toml::de::Error| syntax(text, &error);
        let table = DeTable::parse(text).map_err(wrong)?;
        let places = Places::new(text, table.get_ref().clone());
        if let Some((what, place)) = places.misshapen() {
            return Err(ScenarioError::at(place, what));
        }
        let scenario = Scenario::deserialize(toml::Deserializer::from(table)).map_err(wrong)?;
        Checks { places, scenario: &scenario }.all()?;
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
    let place = position(text, error.span().map_or(0, |span| span.start));
    let (what, word, known) = match unknown(error.message()) {
        Some((true, word, known)) => (format!("unknown key '{word}'"), word, known),
        Some((false, word, known)) => (format!("'{word}' is none of the words for this"), word, known),
        None => return ScenarioError::at(place, plainly(error.message())),
    };
    let known = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    ScenarioError { unknown: Some(word.to_owned()), known, ..ScenarioError::at(place, what) }
}

/// Whether a word that nobody knows is a key, the word, which may itself have back-ticks, and those that are known.
fn unknown(message: &str) -> Option<(bool, &str, &str)> {
    let key = message.strip_prefix("unknown field `");
    let (word, known) =
        key.or_else(|| message.strip_prefix("unknown variant `"))?.rsplit_once("`, expected ")?;
    Some((key.is_some(), word, known))
}

/// The parser's words for types, as people say it.
fn plainly(message: &str) -> String {
    let words = [
        ("`", "'"),
        (" as i128", ""),
        ("expected f64", "expected a number"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number"),
        ("expected a sequence", "expected a list"),
        ("wanted string or table", "expected a word in quotes"),
        ("missing field", "missing key"),
    ];
    words.into_iter().fold(message.to_owned(), |message, (theirs, ours)| message.replace(theirs, ours))
}

/// What a well-formed file can still have wrong with it.
struct Checks<'a> {
    places: Places<'a>,
    scenario: &'a Scenario,
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
        for (item, text) in subscriber.filters.iter().enumerate() {
            self.filter(filters.item(item), text)?;
        }
        for stream in &self.scenario.streams {
            self.whole(filters, subscriber, stream)?;
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

    /// What a stream needs is needed of all its devices.
    fn whole(&self, spot: Spot, subscriber: &Subscriber, stream: &Stream) -> Result<(), ScenarioError> {
        let Some([with, without]) = subscriber.asks_for_some(stream) else { return Ok(()) };
        let what = format!(
            "of the devices of '{}' they match {with} and not {without}; ask for all by \"{}\", or make them two streams",
            stream.name,
            stream.filter()
        );
        Err(self.at(spot, what))
    }

    fn filter(&self, spot: Spot, text: &str) -> Result<(), ScenarioError> {
        let Some((filter, _)) = subscription(text) else {
            return Err(self.at(spot, format!("'{text}' ends with an @, but not with @0, @1 or @2")));
        };
        self.not_hidden(filter, spot)?;
        topic::validate_filter(filter)
            .map_err(|error| self.at(spot, format!("'{filter}' is no topic filter: {error}")))
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
        let many =
            format!("{clients} clients are more than {CLIENTS_MAX}; use fewer devices and subscribers");
        let largest = it.streams.iter().enumerate().max_by_key(|(_, stream)| stream.devices);
        let spot = match largest.filter(|(_, stream)| stream.devices as usize > it.subscribers.len()) {
            Some((place, _)) => Spot::of("streams", place, "devices"),
            None => Spot::top("subscribers"),
        };
        self.ensure(clients <= CLIENTS_MAX, spot, &many)?;
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
        ScenarioError::at(self.places.find(spot), what)
    }
}

#[cfg(test)]
mod tests;
