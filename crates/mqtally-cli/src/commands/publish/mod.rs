//! `mqtally pub`: publish, and end when every message has reached its final acknowledgement.

mod payload;
mod progress;
mod send;
mod source;

use super::Global;
use super::subscribe::words;
use crate::broker_url::{TlsArgs, endpoint_with};
use crate::exit::{self, ExitStatus, Failure};
use crate::output::{Output, Target};
use crate::report::{Look, receipts};
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use mqtally::publisher::{Builder, Message, Publisher, StartError};
use mqtally_proto::packet::{Properties, Property, Qos, Version};
use mqtally_proto::{Time, topic};
use payload::{Payload, Wrapping};
use progress::Progress;
use source::Source;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the broker keeps the session of a publisher that keeps nothing itself, seconds.
const SHORT_SESSION: u32 = 300;

/// Publish messages reliably: keep them until the broker has acknowledged them
///
/// Each message has an id from the start. With --store it is on disk before anything else happens, and what is not
/// acknowledged when the program ends is sent by the next start with the same file: messages may be given while the
/// broker is away. Without --store they wait in memory and end with the program.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally pub -t alerts/door -q 2 -m open
  mqtally pub -t alerts/door -m open --store outbox.db   keep it until the broker has it
  sensor | mqtally pub -t sensors/temperature --lines --envelope --sender gate-3 --store outbox.db
  mqtally pub --drain --store outbox.db                  send what is left, nothing new

Exit status: 0 every message reached its final acknowledgement, 1 not all did; 64 usage, 74 store
or file, 130 interrupted.")]
pub(crate) struct Args {
    /// Topic to publish to
    #[arg(short, long, value_name = "TOPIC", required_unless_present = "drain")]
    topic: Option<String>,
    /// Quality of service: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "1")]
    #[arg(value_parser = RangedU64ValueParser::<u8>::new().range(0..=2))]
    qos: u8,
    /// Ask the broker to keep the last message for later subscribers
    #[arg(long)]
    retain: bool,

    /// Publish this text
    #[arg(short, long, value_name = "TEXT", help_heading = "What to publish", group = "source")]
    message: Option<String>,
    /// Publish this file's content
    #[arg(short, long, value_name = "FILE", help_heading = "What to publish", group = "source")]
    file: Option<PathBuf>,
    /// Publish each line of standard input
    #[arg(long, help_heading = "What to publish", group = "source")]
    lines: bool,
    /// Publish each JSON value of standard input, one a line; a line that is none is named and left out
    #[arg(long, help_heading = "What to publish", group = "source")]
    jsonl: bool,
    /// Publish nothing new: only send what the store holds
    #[arg(long, help_heading = "What to publish", group = "source", requires = "store")]
    drain: bool,
    /// Publish the text or file this often
    #[arg(long, value_name = "N", default_value = "1", help_heading = "What to publish")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000_000))]
    count: u64,
    /// Publish so many messages a second at most
    #[arg(long, value_name = "N", help_heading = "What to publish")]
    #[arg(value_parser = RangedU64ValueParser::<u32>::new().range(1..=1_000_000))]
    rate: Option<u32>,

    /// Wrap each message in a JSON envelope: message_id, content, message_type, qos, timestamp, sender
    #[arg(long, help_heading = "Envelope")]
    envelope: bool,
    /// Who sends, in the envelope [default: the --client-id, else mqtally]
    #[arg(long, value_name = "NAME", help_heading = "Envelope", requires = "envelope")]
    sender: Option<String>,
    /// What kind of message it is, in the envelope
    #[arg(long, value_name = "NAME", default_value = "message", help_heading = "Envelope")]
    message_type: String,
    /// Add a user property (MQTT 5); may be given more than once
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Envelope")]
    user_property: Vec<String>,

    /// Keep what is not acknowledged in this file, and send first what it holds from before
    #[arg(long, value_name = "FILE", help_heading = "Delivery")]
    store: Option<PathBuf>,
    /// Let a message that is not delivered expire after this time (MQTT 5); the time in the store counts
    #[arg(long, value_name = "TIME", value_parser = words::duration, help_heading = "Delivery")]
    expiry: Option<Duration>,
    /// Messages in flight at most
    #[arg(long, value_name = "N", default_value = "100", help_heading = "Delivery")]
    #[arg(value_parser = RangedU64ValueParser::<u16>::new().range(1..=65_535))]
    in_flight: u16,
    /// Stop trying after this many seconds [default: only when interrupted]
    #[arg(long, value_name = "SECONDS", help_heading = "Delivery")]
    timeout: Option<u64>,

    /// Broker to publish to
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883", help_heading = "Broker")]
    broker: String,
    /// Read the password from the first line of this file instead of MQTALLY_PASSWORD; the URL has the user name
    #[arg(long, value_name = "FILE", help_heading = "Broker")]
    password_file: Option<PathBuf>,
    /// Name under which the broker knows this publisher [default: one that belongs to the store, else a random one]
    #[arg(long, value_name = "ID", help_heading = "Broker")]
    client_id: Option<String>,
    /// Version of MQTT to speak
    #[arg(long, value_enum, default_value = "5", help_heading = "Broker")]
    protocol: Protocol,
    #[command(flatten)]
    tls: TlsArgs,

    /// Let the broker publish a last will to this topic if we vanish without a word
    #[arg(long, value_name = "TOPIC", help_heading = "Last will")]
    will_topic: Option<String>,
    /// What the last will says
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        help_heading = "Last will",
        requires = "will_topic"
    )]
    #[arg(hide_default_value = true)]
    will_payload: String,
    /// Quality of service of the last will: 0, 1 or 2
    #[arg(
        long,
        value_name = "QOS",
        default_value = "0",
        help_heading = "Last will",
        requires = "will_topic"
    )]
    #[arg(value_parser = RangedU64ValueParser::<u8>::new().range(0..=2))]
    will_qos: u8,
    /// Ask the broker to keep the last will for later subscribers
    #[arg(long, help_heading = "Last will", requires = "will_topic")]
    will_retain: bool,

    /// Write the summary as JSON to this file, or to standard output instead of the one for people
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-", help_heading = "Results")]
    json: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    #[value(name = "3.1.1")]
    V3,
    #[value(name = "5")]
    V5,
}

/// What was typed, turned into what it means.
struct Job {
    source: Source,
    payload: Payload,
    rate: Option<u32>,
    timeout: Option<Duration>,
    store: Option<PathBuf>,
    /// What the store held before: messages that wait.
    earlier: u64,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    let builder = builder(args)?;
    let job = Job {
        source: source(args)?,
        payload: payload(args)?,
        rate: args.rate,
        timeout: args.timeout.map(Duration::from_secs),
        store: args.store.clone(),
        earlier: 0,
    };
    if let Some(store) = args.store.as_deref().filter(|store| args.drain && !store.exists()) {
        let advice = "name the file that was given to --store before";
        let place = store.display().to_string();
        return Err(Failure::new(ExitStatus::Io, "there is no store to drain", place, advice));
    }
    let json = args.json.as_ref().map(Output::prepare).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (summary, interrupted) = runtime.map_err(|error| no_runtime(&error))?.block_on(async {
        let publisher = builder.start().map_err(|error| unstarted(&error))?;
        let job = Job { earlier: publisher.earlier(), ..job };
        Ok(send::run(publisher, job, Progress::new(global)).await)
    })?;
    if !matches!(json, Some(Output::Stdout)) {
        let render = if global.quiet { receipts::closing } else { receipts::render };
        exit::print(render(&summary, Look::of_stdout()).as_bytes())?;
    }
    json.map_or(Ok(()), |json| json.write(&receipts::json(&summary)))?;
    Ok(match (interrupted, summary.is_complete()) {
        (true, false) => ExitStatus::Interrupted,
        (_, true) => ExitStatus::Success,
        (false, false) => ExitStatus::Broken,
    })
}

fn builder(args: &Args) -> Result<Builder, Failure> {
    let endpoint = endpoint_with(&args.broker, args.password_file.as_deref(), &args.tls)?;
    let version = version(args);
    let builder = Publisher::builder(endpoint).connection(|settings| {
        let options = &mut settings.options;
        options.version = version;
        options.in_flight_max = args.in_flight;
        if let Some(client_id) = &args.client_id {
            options.client_id = client_id.as_str().into();
        } else if args.store.is_none() {
            // Nobody comes back to this session: the broker need not keep it for long.
            options.client_id = format!("mqtally-pub-{:016x}", random()).into();
            options.session_expiry_interval = if version == Version::V5_0 { SHORT_SESSION } else { 0 };
        }
    });
    let builder = match will(args)? {
        Some(will) => builder.will(will),
        None => builder,
    };
    Ok(match &args.store {
        Some(path) => builder.store(path),
        None => builder,
    })
}

fn will(args: &Args) -> Result<Option<Message>, Failure> {
    let Some(topic) = &args.will_topic else { return Ok(None) };
    check_topic(topic, "--will-topic")?;
    let payload = args.will_payload.clone().into_bytes();
    let will = Message::new(topic.as_str(), payload, Qos::from_u8(args.will_qos).unwrap_or_default());
    Ok(Some(Message { retain: args.will_retain, ..will }))
}

fn check_topic(topic: &str, flag: &str) -> Result<(), Failure> {
    topic::validate_name(topic).map_err(|error| {
        let what = format!("not a topic to publish to: {error}");
        Failure::usage(what, format!("{flag} {topic}"), "name one topic, without wildcards")
    })
}

fn source(args: &Args) -> Result<Source, Failure> {
    Ok(match (&args.message, &args.file) {
        (Some(text), _) => Source::repeat(text.as_bytes(), args.count),
        (_, Some(file)) => Source::repeat(&content(file)?, args.count),
        _ if args.lines => Source::lines(false),
        _ if args.jsonl => Source::lines(true),
        _ if args.drain => Source::repeat(&[], 0),
        _ => {
            let advice = "give -m TEXT, -f FILE, --lines, --jsonl, or --drain with --store";
            return Err(Failure::usage("nothing to publish", "mqtally pub", advice));
        }
    })
}

fn content(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::io("cannot read the payload", file, &error, "name a file that can be read"))
}

fn payload(args: &Args) -> Result<Payload, Failure> {
    let topic = args.topic.clone().unwrap_or_default();
    if !args.drain {
        check_topic(&topic, "--topic")?;
    }
    let message = Message {
        qos: Qos::from_u8(args.qos).unwrap_or_default(),
        retain: args.retain,
        properties: properties(args)?,
        ..Message::new(topic, Vec::new(), Qos::AtMostOnce)
    };
    let wrapping = args.envelope.then(|| Wrapping {
        sender: args.sender.clone().or(args.client_id.clone()).unwrap_or_else(|| "mqtally".into()),
        message_type: args.message_type.clone(),
        names_itself: version(args) == Version::V3_1_1,
    });
    Ok(Payload { message, message_type: args.message_type.clone(), wrapping, json: args.jsonl })
}

fn properties(args: &Args) -> Result<Properties, Failure> {
    let wrong = |what: &str, flag: &str, advice: &str| Err(Failure::usage(what, flag, advice));
    let is_old = version(args) == Version::V3_1_1;
    let mut properties = Properties::default();
    match args.expiry.map(|expiry| u32::try_from(expiry.as_secs())) {
        None => {}
        Some(_) if is_old => {
            return wrong("MQTT 3.1.1 has no message expiry", "--expiry", "speak --protocol 5");
        }
        Some(Ok(seconds @ 1..)) => properties.push(Property::MessageExpiryInterval(seconds)),
        Some(_) => return wrong("no time that a message can live", "--expiry", "give 1s to 136 years"),
    }
    if !args.user_property.is_empty() && is_old {
        let advice = "speak --protocol 5, or use --envelope";
        return wrong("MQTT 3.1.1 has no user properties", "--user-property", advice);
    }
    for property in &args.user_property {
        match property.split_once('=') {
            Some((name, value)) => properties.push(Property::UserProperty(name.into(), value.into())),
            None => return wrong("a user property without a value", "--user-property", "write NAME=VALUE"),
        }
    }
    Ok(properties)
}

fn version(args: &Args) -> Version {
    match args.protocol {
        Protocol::V3 => Version::V3_1_1,
        Protocol::V5 => Version::V5_0,
    }
}

fn unstarted(error: &StartError) -> Failure {
    let (status, place) = match error {
        StartError::Store(_) => (ExitStatus::Io, "--store"),
        StartError::NoClientId => (ExitStatus::Usage, "--client-id"),
    };
    Failure::told(status, error, place)
}

pub(super) fn wall_clock() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn no_runtime(error: &io::Error) -> Failure {
    let advice = "raise the limit of processes";
    Failure::new(ExitStatus::Software, format!("cannot start ({error})"), "threads", advice)
}
