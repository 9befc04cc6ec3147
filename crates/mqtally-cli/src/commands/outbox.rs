//! `mqtally outbox`: messages that a publisher gave up.

use super::publish::wall_clock;
use crate::exit::{self, ExitStatus, Failure};
use crate::report::{Look, failed};
use clap::ValueEnum;
use mqtally::outbox::{self, Failed, FailedMessages, Totals};
use mqtally::store::StoreError;
use mqtally_proto::topic;
use serde_json::json;
use std::path::PathBuf;

/// Messages that are read, put back or deleted at once.
const PAGE: usize = 256;
/// Why a message failed that the user gave up.
const GIVEN_UP: &str = "given up by hand";

/// Work on messages that the broker refused or that could not be sent: list, show, retry, purge
///
/// 'mqtally pub' keeps them in its store with the reason, and does not send them again by itself. What is put back by
/// retry is sent by the next 'mqtally pub' with that store, under its id, after all that waits there.
///
/// A broker that speaks MQTT 3.1.1 can refuse a message in one way only: it ends the connection, each time. 'mqtally pub' names such a
/// message, and give-up sets it aside, so that those behind it are sent.
///
/// Listing goes while 'mqtally pub' runs on the store; retry, purge and give-up wait for nobody: end it first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally outbox ls --store outbox.db
  mqtally outbox show 17 --store outbox.db
  mqtally outbox retry --all --store outbox.db && mqtally pub --drain --store outbox.db
  mqtally outbox purge --filter 'old/#' --store outbox.db --dry-run

Exit status: 0 done; 1 a message that was named is not there, or is damaged; 64 usage; 74 store.")]
pub(crate) struct Args {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// Numbers of failed messages; without them retry and purge need --filter or --all
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// The store of 'mqtally pub'
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
    /// Only say what retry or purge would do
    #[arg(long)]
    dry_run: bool,
    /// Those of these topics
    #[arg(long, value_name = "FILTER", conflicts_with = "numbers")]
    filter: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "numbers")]
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// List them
    Ls,
    /// Show everything about some
    Show,
    /// Put some back, to be sent again
    Retry,
    /// Delete some for good
    Purge,
    /// Give up some that still wait: the broker ends the connection for them
    GiveUp,
}

pub(crate) fn run(args: &Args) -> Result<ExitStatus, Failure> {
    args.check()?;
    let messages = FailedMessages::attach(&args.store).map_err(|error| args.told(&error))?;
    match args.action {
        Action::Ls => list(args, &messages),
        Action::Show => show(args, &messages),
        Action::Retry | Action::Purge | Action::GiveUp => change(args, &messages),
    }
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        if let Some(filter) = &self.filter
            && let Err(error) = topic::validate_filter(filter)
        {
            return Err(Failure::usage(format!("the topic filter {error}"), filter, "correct it"));
        }
        let selects = self.all || self.filter.is_some() || !self.numbers.is_empty();
        match self.action {
            Action::Show if self.numbers.is_empty() => {
                Err(Failure::usage("no message named", "outbox show", "give its number, as 'ls' shows it"))
            }
            Action::GiveUp if self.numbers.is_empty() || self.dry_run => {
                let advice = "give the number that 'mqtally pub' named, and no --dry-run";
                Err(Failure::usage("no message named", "outbox give-up", advice))
            }
            Action::Retry | Action::Purge if !selects => {
                Err(Failure::usage("nothing selected", "outbox", "give numbers, --filter or --all"))
            }
            _ => Ok(()),
        }
    }

    fn told(&self, error: &StoreError) -> Failure {
        let place = self.store.display().to_string();
        match error {
            StoreError::InUse { .. } => {
                let advice = "let it end, then repeat this; 'ls' and 'show' work meanwhile";
                Failure::new(ExitStatus::Io, "'mqtally pub' is at work on this store", place, advice)
            }
            error => Failure::told(ExitStatus::Io, error, place),
        }
    }

    fn selects(&self, found: &Failed) -> bool {
        let topic = found.stored.as_ref().map_or("", |stored| &*stored.message.topic);
        self.filter.as_ref().is_none_or(|filter| topic::matches(filter, topic))
    }

    /// Gives `act` what is selected, a page at a time.
    fn each_page(
        &self,
        messages: &FailedMessages,
        mut act: impl FnMut(Vec<Failed>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut from = 0;
        loop {
            let mut page = messages.list(from, PAGE).map_err(|error| self.told(&error))?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.seq + 1;
            page.retain(|found| self.selects(found));
            act(page)?;
        }
    }
}

fn list(args: &Args, messages: &FailedMessages) -> Result<ExitStatus, Failure> {
    let look = Look::of_stdout();
    args.each_page(messages, |page| {
        let text = match args.json {
            true => page.iter().map(|found| format!("{}\n", failed::json(found))).collect(),
            false if page.is_empty() => String::new(),
            false => failed::table(&page, look),
        };
        exit::print(text.as_bytes())
    })?;
    if !args.json {
        let (Totals { rows, failed, .. }, _) =
            outbox::look(&args.store, 0).map_err(|error| args.told(&error))?;
        exit::complain(&format!("mqtally: {failed} failed, {} waiting to be sent", rows - failed));
    }
    Ok(ExitStatus::Success)
}

fn show(args: &Args, messages: &FailedMessages) -> Result<ExitStatus, Failure> {
    let mut status = ExitStatus::Success;
    for number in &args.numbers {
        match messages.show(*number).map_err(|error| args.told(&error))? {
            Some(found) if args.json => exit::print(format!("{}\n", failed::json(&found)).as_bytes())?,
            Some(found) => exit::print(failed::details(&found).as_bytes())?,
            None => status = missing(*number, args.action),
        }
    }
    Ok(status)
}

fn change(args: &Args, messages: &FailedMessages) -> Result<ExitStatus, Failure> {
    let (mut status, mut total) = (ExitStatus::Success, 0);
    let mut act = |numbers: &[u64]| {
        let done = act_on(args, messages, numbers).map_err(|error| args.told(&error))?;
        for number in numbers.iter().filter(|number| !done.contains(number)) {
            status = missing(*number, args.action);
        }
        total += done.len();
        let line = |number: &u64| match args.json {
            true => format!("{}\n", json!({ "number": number, "dry_run": args.dry_run })),
            false => format!("{number}\n"),
        };
        exit::print(done.iter().map(line).collect::<String>().as_bytes())
    };
    if args.numbers.is_empty() {
        args.each_page(messages, |page| act(&page.iter().map(|found| found.seq).collect::<Vec<_>>()))?;
    } else {
        act(&args.numbers)?;
    }
    let did = match (args.action, args.dry_run) {
        (Action::Retry, false) => "to be sent by the next 'mqtally pub' with this store",
        (Action::Retry, true) => "would be sent again",
        (Action::GiveUp, _) => "given up; see 'mqtally outbox ls'",
        (_, false) => "purged",
        (_, true) => "would be purged",
    };
    exit::complain(&format!("mqtally: {total} {did}"));
    Ok(status)
}

fn act_on(args: &Args, messages: &FailedMessages, numbers: &[u64]) -> Result<Vec<u64>, StoreError> {
    match args.action {
        _ if args.dry_run => {
            let there = |number: &u64| messages.show(*number).map(|found| found.map(|found| found.seq));
            numbers.iter().filter_map(|number| there(number).transpose()).collect()
        }
        Action::Retry => messages.retry(numbers, wall_clock()),
        Action::GiveUp => messages.give_up(numbers, wall_clock(), GIVEN_UP),
        _ => messages.purge(numbers),
    }
}

fn missing(number: u64, action: Action) -> ExitStatus {
    let what = match action {
        Action::GiveUp => "no such message waits, or the broker has it",
        _ => "no such failed message, or its row is damaged",
    };
    exit::complain(&format!("mqtally: {number}: {what}; see 'mqtally outbox ls'"));
    ExitStatus::Broken
}
