//! `mqtally dead-letter`: messages that were given up.

use super::Global;
use super::store::Store;
use super::subscribe::{self, words};
use crate::exit::{self, ExitStatus, Failure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::ValueEnum;
use mqtally::handler::rfc_3339;
use mqtally::inbox::dead_letter::{DeadLetter, DeadLetters, Page, Reason, Selection};
use mqtally_proto::Time;
use mqtally_proto::packet::Property;
use mqtally_proto::topic;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Dead letters that are read, replayed or purged at once.
const PAGE: usize = 256;
/// Characters of a payload that a list shows.
const SHOWN_MAX: usize = 60;
/// Numbers are SQLite's integers.
const NUMBER_MAX: u64 = i64::MAX.cast_unsigned();
/// Largest payload of an MQTT packet.
const PAYLOAD_BYTES_MAX: u64 = 268_435_455;

/// Work on messages that were given up: list, show, edit, replay, purge
///
/// Also while 'mqtally sub' runs on the same store: it takes a replay within a second, or when it starts. A replayed
/// message is processed again even though its dedup key is known; handlers see that it is a replay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally dead-letter ls --store db.sub
  mqtally dead-letter show 17 --store db.sub
  mqtally dead-letter edit 17 --store db.sub --message '{\"celsius\":21.5}'
  mqtally dead-letter replay --store db.sub --filter 'alerts/#' --rate 10
  mqtally dead-letter purge 17 18 --store db.sub --dry-run

Exit status: 0 done; 1 a dead letter that was named is not there, or is damaged; 64 usage; 74 store.")]
pub(crate) struct Args {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// Numbers of dead letters, as ls shows them; without them replay and purge need a selection or --all
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(..=NUMBER_MAX))]
    numbers: Vec<u64>,
    /// The store of 'mqtally sub'
    #[arg(long, value_name = "FILE|URL")]
    store: PathBuf,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
    /// Only say what edit, replay or purge would do
    #[arg(long)]
    dry_run: bool,
    /// Replay at most this many messages a second; only for replay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Those of these topics
    #[arg(long, value_name = "FILTER", help_heading = "Selection")]
    filter: Option<String>,
    /// Those that were given up for this reason
    #[arg(long, value_enum, help_heading = "Selection")]
    reason: Option<ReasonName>,
    /// Those that were given up longer ago than this
    #[arg(long, value_name = "TIME", value_parser = words::duration, help_heading = "Selection")]
    older_than: Option<Duration>,
    /// All of them
    #[arg(long, help_heading = "Selection")]
    all: bool,

    /// The new payload, for edit
    #[arg(short, long, value_name = "TEXT", help_heading = "Edit", conflicts_with = "file")]
    message: Option<String>,
    /// The file with the new payload, for edit; - is standard input
    #[arg(short, long, value_name = "FILE", help_heading = "Edit")]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// List them
    Ls,
    /// Show everything about some
    Show,
    /// Give one another payload
    Edit,
    /// Put some back into the inbox, to be processed again
    Replay,
    /// Delete some for good
    Purge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReasonName {
    Exhausted,
    Handler,
    Conflict,
    Damaged,
}

pub(crate) fn run(args: &Args, _global: &Global) -> Result<ExitStatus, Failure> {
    args.check()?;
    let mut letters = match Store::at(&args.store)? {
        Store::File(path) => open(&path)?,
        #[cfg(feature = "postgres")]
        Store::Shared(url) => DeadLetters::attach_shared(&url).map_err(args.store_failure())?,
    };
    match args.action {
        Action::Ls => list(args, &letters),
        Action::Show => show(args, &letters),
        Action::Edit => edit(args, &mut letters),
        Action::Replay => replay(args, &mut letters),
        Action::Purge => purge(args, &mut letters),
    }
}

fn open(store: &Path) -> Result<DeadLetters, Failure> {
    if let Err(error) = store.metadata() {
        return Err(Failure::io("cannot open the store", store, &error, "name the --store of 'mqtally sub'"));
    }
    DeadLetters::attach(store).map_err(|error| subscribe::store_failure(&error))
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        let misuse = |what: &str, advice: &str| Err(Failure::usage(what, "dead-letter", advice));
        if let Some(filter) = &self.filter
            && let Err(error) = topic::validate_filter(filter)
        {
            return Err(Failure::usage(format!("the topic filter {error}"), filter, "correct it"));
        }
        let selects = self.all || self.filter.is_some() || self.reason.is_some() || self.older_than.is_some();
        let named = !self.numbers.is_empty();
        let changes = matches!(self.action, Action::Edit | Action::Replay | Action::Purge);
        match self.action {
            Action::Ls if named => misuse("ls takes no numbers", "use show"),
            Action::Show | Action::Edit if selects => {
                misuse("show and edit take no selection", "give numbers, as 'ls' shows them")
            }
            _ if self.dry_run && !changes => misuse("--dry-run, but nothing would change", "leave it out"),
            _ if self.rate.is_some() && self.action != Action::Replay => {
                misuse("--rate is for replay", "leave it out")
            }
            _ if (self.message.is_some() || self.file.is_some()) && self.action != Action::Edit => {
                misuse("a new payload is for edit", "leave it out, or use edit")
            }
            Action::Show if !named => misuse("no dead letter named", "give its number, as 'ls' shows it"),
            Action::Edit if self.numbers.len() != 1 => {
                misuse("edit takes one dead letter", "give its number")
            }
            Action::Edit if self.message.is_none() && self.file.is_none() => {
                misuse("no new payload", "give --message or --file")
            }
            Action::Replay | Action::Purge if !named && !selects => {
                misuse("nothing selected", "give numbers, --filter, --reason, --older-than or --all")
            }
            Action::Replay | Action::Purge if named && selects => {
                misuse("both numbers and a selection", "give one of them")
            }
            _ => Ok(()),
        }
    }

    fn selection(&self) -> Selection {
        Selection {
            filter: self.filter.clone(),
            reason: self.reason.map(|reason| match reason {
                ReasonName::Exhausted => Reason::Exhausted,
                ReasonName::Handler => Reason::Handler,
                ReasonName::Conflict => Reason::Conflict,
                ReasonName::Damaged => Reason::Damaged,
            }),
            died_before: self.older_than.map(ago),
        }
    }

    fn store_failure(&self) -> impl Fn(mqtally::store::StoreError) -> Failure + use<> {
        |error| subscribe::store_failure(&error)
    }

    /// Gives `act` the numbers of what is meant, a page at a time: those named, or those selected.
    fn each_page(
        &self,
        letters: &mut DeadLetters,
        mut act: impl FnMut(&mut DeadLetters, Vec<u64>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if !self.numbers.is_empty() {
            return self.numbers.chunks(PAGE).try_for_each(|chunk| act(letters, chunk.to_vec()));
        }
        // What is replayed may be given up again meanwhile, under a higher number: that is not meant.
        let died_before = Some(self.older_than.map_or_else(|| ago(Duration::ZERO), ago));
        let (selection, mut from) = (Selection { died_before, ..self.selection() }, Some(0));
        while let Some(start) = from {
            let Page { letters: page, next } =
                letters.list(&selection, start, PAGE).map_err(self.store_failure())?;
            from = next;
            act(letters, page.iter().map(|letter| letter.sequence).collect())?;
        }
        Ok(())
    }
}

/// The wall clock's time this long ago.
fn ago(age: Duration) -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(u64::MAX))
}

fn list(args: &Args, letters: &DeadLetters) -> Result<ExitStatus, Failure> {
    let (selection, mut from) = (args.selection(), Some(0));
    while let Some(start) = from {
        let page = letters.list(&selection, start, PAGE).map_err(args.store_failure())?;
        let lines: String = page.letters.iter().map(|letter| line(letter, args.json)).collect();
        exit::print(lines.as_bytes())?;
        from = page.next;
    }
    Ok(ExitStatus::Success)
}

fn show(args: &Args, letters: &DeadLetters) -> Result<ExitStatus, Failure> {
    let mut status = ExitStatus::Success;
    for number in &args.numbers {
        match letters.show(*number).map_err(args.store_failure())? {
            Some(letter) if args.json => exit::print(line(&letter, true).as_bytes())?,
            Some(letter) => exit::print(details(&letter).as_bytes())?,
            None => status = missing(*number),
        }
    }
    Ok(status)
}

fn edit(args: &Args, letters: &mut DeadLetters) -> Result<ExitStatus, Failure> {
    let payload = new_payload(args)?;
    let mut tally = Acted::default();
    for number in &args.numbers {
        let edited = match args.dry_run {
            true => letters.show(*number).map(|found| found.is_some_and(|letter| letter.message.is_some())),
            false => letters.edit(*number, &payload),
        };
        let done = if edited.map_err(args.store_failure())? { vec![*number] } else { Vec::new() };
        tally.add(&[*number], &done, args)?;
    }
    tally.finish(args, "edited", "edited; replay it to have it processed")
}

fn new_payload(args: &Args) -> Result<Vec<u8>, Failure> {
    let Some(file) = &args.file else {
        return Ok(args.message.clone().unwrap_or_default().into_bytes());
    };
    read(file)
        .map_err(|error| Failure::io("cannot read the payload", file, &error, "name a file that can be read"))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    let source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    source.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut payload)?;
    if payload.len() as u64 > PAYLOAD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than an MQTT message can be"));
    }
    Ok(payload)
}

fn replay(args: &Args, letters: &mut DeadLetters) -> Result<ExitStatus, Failure> {
    let mut tally = Acted::default();
    let started = Instant::now();
    args.each_page(letters, |letters, numbers| {
        let step = args.rate.map_or(PAGE, |rate| (rate as usize / 10).clamp(1, PAGE));
        for chunk in numbers.chunks(step) {
            if let Some(rate) = args.rate.filter(|_| !args.dry_run) {
                let due = Duration::from_secs_f64(tally.done as f64 / f64::from(rate));
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            let replayed = letters.replay(chunk, args.dry_run).map_err(args.store_failure())?;
            tally.add(chunk, &replayed, args)?;
        }
        Ok(())
    })?;
    tally.finish(args, "replayed", "to be replayed; the running or next 'mqtally sub' takes them")
}

fn purge(args: &Args, letters: &mut DeadLetters) -> Result<ExitStatus, Failure> {
    let mut tally = Acted::default();
    args.each_page(letters, |letters, numbers| {
        let mut there = Vec::new();
        for number in &numbers {
            there.extend(letters.show(*number).map_err(args.store_failure())?.map(|letter| letter.sequence));
        }
        if !args.dry_run {
            letters.purge(&there).map_err(args.store_failure())?;
        }
        tally.add(&numbers, &there, args)
    })?;
    tally.finish(args, "purged", "purged")
}

/// What was done to how many.
#[derive(Default)]
struct Acted {
    done: usize,
    missing: usize,
}

impl Acted {
    fn add(&mut self, asked: &[u64], done: &[u64], args: &Args) -> Result<(), Failure> {
        for number in asked.iter().filter(|number| !done.contains(number)) {
            missing(*number);
            self.missing += 1;
        }
        self.done += done.len();
        let line = |number: &u64| match args.json {
            true => format!("{}\n", json!({ "number": number, "dry_run": args.dry_run })),
            false => format!("{number}\n"),
        };
        exit::print(done.iter().map(line).collect::<String>().as_bytes())
    }

    fn finish(&self, args: &Args, would: &str, did: &str) -> Result<ExitStatus, Failure> {
        let done = self.done;
        let what = if args.dry_run { format!("{done} would be {would}") } else { format!("{done} {did}") };
        exit::complain(&format!("mqtally: {what}"));
        Ok(if self.missing == 0 { ExitStatus::Success } else { ExitStatus::Broken })
    }
}

fn missing(number: u64) -> ExitStatus {
    exit::complain(&format!(
        "mqtally: {number}: no such dead letter, or its row is damaged; see 'dead-letter ls'"
    ));
    ExitStatus::Broken
}

fn line(letter: &DeadLetter, as_json: bool) -> String {
    if as_json {
        return format!("{}\n", to_json(letter));
    }
    let (topic, payload) = match &letter.message {
        Some(message) => (visible(&message.topic), visible(&shortened(&message.payload))),
        None => ("(damaged)".to_owned(), String::new()),
    };
    let marks = if letter.replay_asked { " (to be replayed)" } else { "" };
    let error = letter.errors.last().map_or("", |note| note.error.as_str());
    format!(
        "{:>8}  {}  {:<9} {:>3}  {topic}  {payload}{marks}  {}\n",
        letter.sequence,
        rfc_3339(letter.died_at),
        letter.reason.name(),
        letter.attempts,
        visible(error),
    )
}

fn details(letter: &DeadLetter) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{:<12}{}", format!("{name}:"), visible(value));
    };
    field("number", &letter.sequence.to_string());
    field(
        "given up",
        &format!("{}, {}, {} attempts", rfc_3339(letter.died_at), letter.reason.name(), letter.attempts),
    );
    if let Some(message) = &letter.message {
        field("topic", &message.topic);
        field("qos", &message.qos.as_u8().to_string());
        field("retain", &message.retain.to_string());
        field("key", message.key.as_deref().unwrap_or("none"));
        field("replay", &message.replay.to_string());
        field("received", &rfc_3339(message.received_at));
        for property in &message.properties.0 {
            match property {
                Property::UserProperty(name, value) => field("property", &format!("{name}={value}")),
                other => field("property", &format!("{other:?}")),
            }
        }
    }
    for note in &letter.errors {
        field("error", &format!("{} {}", rfc_3339(Time::from_ms(note.at_ms)), note.error));
    }
    if letter.edited {
        field("edited", "its payload was replaced");
    }
    if letter.replay_asked {
        field("replay", "asked for");
    }
    match &letter.message {
        Some(message) => text + "\n" + &readable(&message.payload) + "\n",
        None => text + "\nits row is damaged\n",
    }
}

fn to_json(letter: &DeadLetter) -> Value {
    let mut object = json!({
        "number": letter.sequence,
        "died_at": rfc_3339(letter.died_at),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "errors": letter.errors,
        "edited": letter.edited,
        "replay_asked": letter.replay_asked,
        "damaged": letter.message.is_none(),
    });
    if let Some(message) = &letter.message {
        let properties = message.properties.0.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some(json!([&**name, &**value])),
            _ => None,
        });
        object["topic"] = json!(message.topic);
        object["qos"] = json!(message.qos.as_u8());
        object["retain"] = json!(message.retain);
        object["key"] = json!(message.key);
        object["replay"] = json!(message.replay);
        object["received_at"] = json!(rfc_3339(message.received_at));
        object["user_properties"] = properties.collect();
        match std::str::from_utf8(&message.payload) {
            Ok(text) => object["payload"] = json!(text),
            Err(_) => object["payload_base64"] = json!(BASE64_STANDARD.encode(&message.payload)),
        }
    }
    object
}

fn shortened(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(4 * SHOWN_MAX)]);
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < payload.len() {
        shown.push('…');
    }
    shown
}

/// A payload over its lines; as it is it is in the JSON output.
fn readable(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let lines: Vec<_> =
        text.split('\n').map(|line| line.split('\t').map(visible).collect::<Vec<_>>().join("\t")).collect();
    lines.join("\n")
}

/// Control characters must not reach a terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
