//! `mqtally reconcile`: compare a publisher's outbox with a subscriber's inbox.

use super::Global;
use super::store::Store;
use super::subscribe::DedupScope;
use crate::exit::{self, ExitStatus, Failure};
use crate::output::{Output, Target};
use crate::report::{Look, reconciliation};
use mqtally::inbox::{Consumer, Window};
use mqtally::reconcile::{Reconciliation, Verdict, reconcile};
use mqtally::store::{StoreError, clock::age};
use mqtally_proto::{Time, topic};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Compare a publisher's outbox with a subscriber's inbox: what became of each message
///
/// An acknowledgement says that the broker has a message, never that a subscriber has it. Both stores together do:
/// messages are compared by id, per topic, while the publisher and the subscriber may be at work. What was acknowledged
/// and has not arrived is lost only where a later message of its topic and QoS did arrive; else it may be on its way.
///
/// The outbox remembers the last million acknowledged ids for seven days at most, the inbox those of its --dedup-window.
/// What may have expired there is outside the retention window, never lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally reconcile outbox.db pager.db
  mqtally reconcile outbox.db pager.db -t 'alerts/#' --json -
  mqtally reconcile outbox.db 'postgres://app@db/factory?schema=line_7'

Published before the subscription existed counts as lost: neither store knows since when it exists.
Compared are the ids of 'mqtally pub'; a subscriber with another --dedup-key does not keep them.
Duplicated are the copies that the inbox dropped since it was made, of whichever publisher; by topic for
the first 1,024 topics that had any.

Exit status: 0 nothing lost, 1 lost, 2 undecided: not yet arrived, or outside the retention window;
64 usage, 74 store or file.")]
pub(crate) struct Args {
    /// The store of 'mqtally pub'
    #[arg(value_name = "OUTBOX")]
    outbox: PathBuf,
    /// The store of 'mqtally sub': a file, or the database that several share
    #[arg(value_name = "INBOX|URL")]
    inbox: PathBuf,
    /// Only what arrived for the subscriber of this --client-id; by default for all that the inbox names
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The --dedup-scope of that subscriber
    #[arg(long, value_enum, default_value = "topic", requires = "client_id")]
    dedup_scope: DedupScope,
    /// Count only the topics that match this filter: those that the subscriber subscribes to
    #[arg(short, long, value_name = "FILTER")]
    topic: Option<String>,
    /// Write the result as JSON to this file, or to standard output instead of the table for people
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    json: Option<Target>,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    if let Some(filter) = &args.topic {
        topic::validate_filter(filter).map_err(|error| not_a_filter(filter, &error))?;
    }
    let json = args.json.as_ref().map(Output::prepare).transpose()?;
    let window = args.window()?;
    let consumers = args.consumers(&window)?;
    let found = reconcile(&args.outbox, &window, &consumers, args.topic.as_deref())
        .map_err(|error| unreadable(&error))?;
    publish(&found, json, global.quiet)?;
    if !global.quiet {
        args.warn(&found, &window);
    }
    Ok(found.verdict().into())
}

impl Args {
    fn window(&self) -> Result<Window, Failure> {
        let attached = match Store::at(&self.inbox)? {
            Store::File(path) => Window::attach(&path),
            #[cfg(feature = "postgres")]
            Store::Shared(_) if self.client_id.is_some() => {
                let what = "the keys of a shared inbox belong to all of its members";
                return Err(Failure::usage(what, "--client-id", "leave it out"));
            }
            #[cfg(feature = "postgres")]
            Store::Shared(url) => Window::attach_shared(&url),
        };
        attached.map_err(|error| unreadable(&error))
    }

    /// In whose names the inbox keeps ids.
    fn consumers(&self, window: &Window) -> Result<Vec<Consumer>, Failure> {
        match &self.client_id {
            Some(name) => Ok(vec![Consumer { name: name.clone(), scope: self.dedup_scope.into() }]),
            None if window.consumers().is_empty() => Err(Failure::usage(
                "the inbox does not say which subscriber's it is",
                self.inbox.display().to_string(),
                "name it by --client-id",
            )),
            None => Ok(window.consumers().to_vec()),
        }
    }

    fn warn(&self, found: &Reconciliation, window: &Window) {
        if self.topic.is_none() && shares_nothing(found) {
            let advice = match self.client_id {
                Some(_) => "check --client-id and --dedup-scope, and that the subscriber has no --dedup-key",
                None => "check that these two belong together, and that the subscriber has no --dedup-key",
            };
            exit::complain(&format!("mqtally: the inbox knows none of the outbox's ids; {advice}"));
        }
        let waited = found.oldest_unsent.map(time_since);
        let window = window.window_ms().map(Duration::from_millis);
        if let (Some(waited), Some(window)) = (waited, window)
            && waited > window
        {
            exit::complain(&format!(
                "mqtally: a message has waited in the outbox for {}, and the inbox keeps ids for {}: copies of it that are \
                 further apart are both processed; make the subscriber's --dedup-window longer",
                age(waited),
                age(window),
            ));
        }
    }
}

fn time_since(published: Time) -> Duration {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.saturating_sub(Duration::from_millis(published.as_ms()))
}

fn publish(found: &Reconciliation, json: Option<Output>, quiet: bool) -> Result<(), Failure> {
    if !matches!(json, Some(Output::Stdout)) {
        let look = Look::of_stdout();
        let closing = reconciliation::closing(found, look);
        let text = if quiet { closing } else { reconciliation::table(found, look) + &closing };
        exit::print(text.as_bytes())?;
    }
    json.map_or(Ok(()), |json| json.write(&reconciliation::json(found)))
}

/// Two stores that have messages, and none in common: most likely they were compared by the wrong key.
fn shares_nothing(found: &Reconciliation) -> bool {
    let total = found.total();
    found.unexpected > 0 && total.acknowledged > 0 && total.delivered == 0
}

impl From<Verdict> for ExitStatus {
    fn from(verdict: Verdict) -> ExitStatus {
        match verdict {
            Verdict::Complete => ExitStatus::Success,
            Verdict::Lost => ExitStatus::Broken,
            Verdict::Undecided => ExitStatus::Unknown,
        }
    }
}

fn not_a_filter(filter: &str, error: &topic::TopicError) -> Failure {
    let what = format!("not a topic filter: {error}");
    Failure::usage(what, format!("--topic {filter}"), "name a topic, or write + or # for a level or the rest")
}

/// The error names the file itself.
fn unreadable(error: &StoreError) -> Failure {
    Failure::told(ExitStatus::Io, error, "mqtally reconcile")
}
