//! `mqtally reconcile`: compare a publisher's outbox with a subscriber's inbox.

use super::Global;
use super::subscribe::DedupScope;
use crate::exit::{self, ExitStatus, Failure};
use crate::output::{Output, Target};
use crate::report::{Look, reconciliation};
use mqtally::inbox::key::Keys;
use mqtally::reconcile::{Reconciliation, Verdict, reconcile};
use mqtally::store::StoreError;
use mqtally_proto::topic;
use std::path::PathBuf;

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
  mqtally reconcile outbox.db pager.db --client-id pager
  mqtally reconcile outbox.db pager.db --client-id pager -t 'alerts/#' --json -

Published before the subscription existed counts as lost: neither store knows since when it exists.
Compared are the ids of 'mqtally pub'; a subscriber with another --dedup-key does not keep them.
Duplicated are the extra copies that the inbox dropped, over all topics since it was made.

Exit status: 0 nothing lost, 1 lost, 2 undecided: not yet arrived, or outside the retention window;
64 usage, 74 store or file.")]
pub(crate) struct Args {
    /// The store of 'mqtally pub'
    #[arg(value_name = "OUTBOX")]
    outbox: PathBuf,
    /// The store of 'mqtally sub'
    #[arg(value_name = "INBOX")]
    inbox: PathBuf,
    /// The subscriber's --client-id, which is part of what the inbox keeps of an id
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The subscriber's --dedup-scope
    #[arg(long, value_enum, default_value = "topic")]
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
    let keys = Keys { scope: args.dedup_scope.into(), ..Keys::new(&*args.client_id) };
    let found = reconcile(&args.outbox, &args.inbox, &keys, args.topic.as_deref())
        .map_err(|error| unreadable(&error))?;
    publish(&found, json, global.quiet)?;
    if !global.quiet && args.topic.is_none() && shares_nothing(&found) {
        let advice = "check --client-id and --dedup-scope, and that the subscriber has no --dedup-key";
        exit::complain(&format!("mqtally: the inbox knows none of the outbox's ids; {advice}"));
    }
    Ok(found.verdict().into())
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
