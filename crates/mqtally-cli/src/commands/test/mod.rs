//! `mqtally test`: run workloads against a broker, judge every promise, report.

mod again;
mod live;
mod progress;
mod scenarios;
mod setup;
mod shrink;
mod subject;

use super::Global;
use crate::exit::{self, ExitStatus, Failure};
use crate::history;
use crate::live::TokenArgs;
use crate::report::{self, Judged, Look, Targets, prose};
pub(super) use again::hint;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use live::Live;
use mqtally_harness::durability;
use mqtally_harness::nemesis::KINDS;
use mqtally_harness::process::{BrokerUnderTest, ProcessError};
use mqtally_harness::recorder::Recorder;
use mqtally_harness::run::{self, Group, Offer, RunEvent};
use mqtally_harness::scenario;
use mqtally_history::event::Header;
use mqtally_history::journal::JournalError;
use mqtally_history::profile::Measured;
use progress::Progress;
use setup::Setup;
pub(super) use setup::{faults, fresh_history, random};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// Run workloads against a broker, under faults, and judge every promise of MQTT
///
/// Without arguments: every group, over both versions of MQTT, on the embedded broker, which runs as a process of
/// its own so that it can be killed. Everything that is sent and received is recorded; a pure checker judges the
/// recording. The seed decides every random choice.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally test                                           everything, on the embedded broker
  mqtally test session --protocol 5 --seed 42            one group, one version, repeatable
  mqtally test factory my.toml                           scenarios, with what each stream needs
  mqtally test --broker mqtt://ann@host --password-file ann.txt
  mqtally test --broker-cmd 'mosquitto -p {port} -c {dir}/m.conf' --broker-files conf
  mqtally test --subject-sub './sub.py {host} {port}'    your own client, judged behind the fault proxy
  mqtally test faults --faults takeover,half-open        two kinds of fault alone
  mqtally test --history run1 --json report.json         keep the evidence

Exit status: 0 kept, 1 broken, 2 unknown; 'mqtally explain unknown' says when that is.")]
pub(crate) struct Args {
    /// What to run: groups such as faults, scenarios such as factory, scenario files; every group when left out
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// List the groups and scenarios and end
    #[arg(long)]
    list: bool,

    /// Judge the broker at this URL, such as mqtt://USER:PASSWORD@HOST:1883
    #[arg(long, value_name = "URL", help_heading = "Broker", conflicts_with = "broker_cmd")]
    broker: Option<String>,
    /// Start the broker with this command, kill it and start it again; {port} and {dir} are filled in
    #[arg(long, value_name = "COMMAND", help_heading = "Broker")]
    broker_cmd: Option<String>,
    /// Copy this directory to {dir} before the broker is started
    #[arg(long, value_name = "DIR", help_heading = "Broker")]
    broker_files: Option<PathBuf>,
    /// Log in to the broker that is started as this user; the password comes from --password-file or MQTALLY_PASSWORD
    #[arg(long, value_name = "NAME", help_heading = "Broker")]
    user: Option<String>,
    /// Highest QoS that the broker has, where it cannot announce it (MQTT 3.1.1): 1 or 2
    #[arg(long, value_name = "QOS", default_value = "2", help_heading = "Broker")]
    #[arg(value_parser = RangedU64ValueParser::<u8>::new().range(1..=2))]
    max_qos: u8,
    /// Durability that the broker is held to [default: durable for the embedded broker; what is measured before the run
    /// for one that --broker-cmd starts; else volatile]
    #[arg(long, value_enum, help_heading = "Broker")]
    profile: Option<Profile>,
    /// Read the password from the first line of this file instead of MQTALLY_PASSWORD; the URL or --user has the user
    /// name
    #[arg(long, value_name = "FILE", help_heading = "Broker")]
    password_file: Option<PathBuf>,

    /// Versions of MQTT to speak
    #[arg(long, value_enum, default_value = "both", help_heading = "Workload")]
    protocol: Protocol,
    /// Decides every random choice; a random one when left out, and printed always
    #[arg(long, value_name = "N", help_heading = "Workload")]
    seed: Option<u64>,
    /// Repeat with the seeds that follow, until a run is not kept; reports and history are those of the last run
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Workload")]
    #[arg(value_parser = RangedU64ValueParser::<u32>::new().range(1..=1_000_000))]
    runs: u32,
    /// Messages of each bulk stream
    #[arg(long, value_name = "N", help_heading = "Workload")]
    #[arg(value_parser = RangedU64ValueParser::<u32>::new().range(1..=10_000_000))]
    messages: Option<u32>,
    /// In-flight window of every bulk publisher, instead of 1, 10, 50 and 200
    #[arg(long, value_name = "N", help_heading = "Workload")]
    #[arg(value_parser = RangedU64ValueParser::<u16>::new().range(1..=65_535))]
    in_flight: Option<u16>,
    /// Payload of every bulk message, at least 32, instead of random sizes
    #[arg(long, value_name = "BYTES", help_heading = "Workload")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(32..=1_048_576))]
    payload: Option<usize>,
    /// What group faults plays: names of faults (see --list) and strikes such as 'cut rst after s2c PUBREL 2'; none
    /// leaves out every fault, restarts too
    #[arg(long, value_name = "FAULT,…|none", help_heading = "Workload")]
    faults: Option<String>,
    /// Search for the fewest strikes that break the same promise again, also where --faults names each strike
    #[arg(long, help_heading = "Workload", conflicts_with = "no_shrink")]
    shrink: bool,
    /// Search for nothing when strikes that were drawn have broken a promise
    #[arg(long, help_heading = "Workload")]
    no_shrink: bool,
    /// Of the groups, run only these
    #[arg(long, value_name = "GROUP,…", value_delimiter = ',', help_heading = "Workload")]
    only: Vec<String>,
    /// Of the groups, leave these out
    #[arg(long, value_name = "GROUP,…", value_delimiter = ',', help_heading = "Workload")]
    skip: Vec<String>,

    #[command(flatten)]
    subjects: subject::SubjectArgs,

    /// Keep the history in this directory, for 'mqtally check'
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    history: Option<PathBuf>,
    #[command(flatten)]
    results: Targets,

    /// Show the run in a browser as it goes: serve a page here, by default on a free port of this machine; elsewhere than
    /// on loopback it needs a token. The page ends with the run
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    #[arg(value_parser = live_place, help_heading = "Watching")]
    live: Option<SocketAddr>,
    #[command(flatten, next_help_heading = "Watching")]
    live_token: TokenArgs,
}

/// What follows `--live` may have been meant as a scenario.
fn live_place(text: &str) -> Result<SocketAddr, String> {
    crate::live::place(text).map_err(|error| format!("{error}; a scenario stands before --live"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    #[value(name = "3.1.1")]
    V3,
    #[value(name = "5")]
    V5,
    Both,
}

/// What must survive the broker's end.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profile {
    /// Nothing
    Volatile,
    /// What was acknowledged, when it is asked to stop (SIGTERM)
    Graceful,
    /// What was acknowledged, when it is killed (SIGKILL)
    Durable,
    /// What was acknowledged, when power is lost
    PowerSafe,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    if args.list {
        exit::print(list().as_bytes())?;
        return Ok(ExitStatus::Success);
    }
    let mut setup = Setup::resolve(args)?;
    let outputs = setup.outputs.take();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| no_runtime(&error))?;
    if setup.undeclared {
        setup.hold_to_measured(runtime.block_on(measure(&setup, global))?);
    }
    if !global.quiet {
        setup.advice().for_each(|advice| exit::complain(&advice));
    }
    let (judged, status) = runtime.block_on(watched(args, &setup, global))?;
    outputs.map_or(Ok(()), |outputs| outputs.publish(&judged, None, global.quiet))?;
    if status == ExitStatus::Broken && setup.shrinks && !global.quiet {
        runtime.block_on(shrink::shrink(&setup, &judged.report, interrupted()))?;
    }
    if status != ExitStatus::Success && !global.quiet {
        exit::complain(&again::hint(judged.report.seed, setup.history.as_deref()));
    }
    Ok(status)
}

/// Runs, and shows it to whoever watches.
async fn watched(args: &Args, setup: &Setup, global: &Global) -> Result<(Judged, ExitStatus), Failure> {
    let live = match args.live {
        Some(address) => Some(Live::serve(address, &args.live_token).await?),
        None => None,
    };
    let ended = repeat(setup, global, live.as_ref()).await;
    if let Some(live) = &live {
        live.end(ended.as_ref().map(drop)).await;
    }
    ended
}

/// What the broker keeps, measured on one that nobody uses afterwards.
async fn measure(setup: &Setup, global: &Global) -> Result<Measured, Failure> {
    let scratch = setup.scratch()?;
    let measuring = durability::measure(setup.source(&scratch)?, setup.highest_qos(), random());
    let measured = tokio::select! {
        measured = measuring => measured,
        () = interrupted() => {
            let advice = "declare it with --profile to leave the measuring out";
            return Err(Failure::new(ExitStatus::Interrupted, "interrupted", "measuring the broker", advice));
        }
    };
    if global.verbose {
        let found = measured.profile.map_or("nothing", |profile| profile.name());
        exit::complain(&format!("measured {found}: {}", measured.because));
    }
    Ok(measured)
}

/// Runs until one is not kept, at most as often as wanted. The verdicts before the last are progress, not results.
async fn repeat(
    setup: &Setup,
    global: &Global,
    live: Option<&Live>,
) -> Result<(Judged, ExitStatus), Failure> {
    for index in 1..setup.runs {
        let (judged, status) = play(setup, index - 1, global, live).await?;
        if status != ExitStatus::Success {
            return Ok((judged, status));
        }
        if !global.quiet {
            exit::complain(&report::terminal::verdict(&judged.report, Look::PLAIN).trim_end());
        }
    }
    play(setup, setup.runs - 1, global, live).await
}

/// One run, judged.
async fn play(
    setup: &Setup,
    index: u32,
    global: &Global,
    live: Option<&Live>,
) -> Result<(Judged, ExitStatus), Failure> {
    let scratch = setup.scratch()?;
    let broker =
        BrokerUnderTest::start(setup.source(&scratch)?).await.map_err(|error| unavailable(&error, setup))?;
    let mut plan = setup.plan(index, Offer::of(&broker).await)?;
    plan.subjects = subject::introduce(setup, broker.endpoint(), scratch.path()).await?;
    if plan.parts().next().is_none() {
        let advice = "use --protocol 3.1.1, or another scenario";
        return Err(Failure::new(
            ExitStatus::Unavailable,
            "the broker does not speak MQTT 5.0".to_owned(),
            setup.broker_name(),
            advice,
        ));
    }
    let place = setup.history_in(&scratch);
    let header = Header { measured: setup.measured.clone(), ..run::header(&plan, &broker, setup.profile) };
    let recorder = Recorder::create(place, &header).map_err(|error| unrecorded(place, error))?;
    let progress = Progress::new(&plan, global);
    let followed = live.map(|live| live.follow(&plan, &header, &recorder, [index, setup.runs]));
    let tell = |event: RunEvent| {
        progress.tell(&event);
        followed.iter().for_each(|run| run.tell(&event));
    };
    let played = run::run(plan, broker, &recorder, tell, interrupted()).await;
    progress.end();
    let summary = played.map_err(|error| unrecorded(place, error))?;
    let (judged, stopped) = history::judge(place)?;
    followed.iter().for_each(|run| run.judged(&judged.report));
    let status = if summary.interrupted { ExitStatus::Interrupted } else { judged.report.verdict.into() };
    stopped.map_or(Ok((judged, status)), Err)
}

/// Ready when somebody wants the run to end: a run that is killed instead leaves nothing to judge.
pub(super) async fn interrupted() {
    let wish = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wish(SignalKind::interrupt()) => {}
        () = wish(SignalKind::terminate()) => {}
        () = wish(SignalKind::hangup()) => {}
    }
}

fn list() -> String {
    let rows = Group::ALL.into_iter().map(|group| (group.name().to_owned(), group.about()));
    let groups = prose::list(Look::of_stdout(), "Groups", rows);
    let scenarios = scenario::BUILT_IN.into_iter().filter_map(|(name, _)| scenario::built_in(name));
    let scenarios: Vec<_> = scenarios.collect();
    let rows = scenarios.iter().map(|it| (it.name.clone(), it.about.as_str()));
    let scenarios = prose::list(Look::of_stdout(), "Scenarios; or name a file, such as my.toml", rows);
    let faults = KINDS.iter().map(|kind| (kind.name.to_owned(), kind.about));
    [groups, scenarios, prose::list(Look::of_stdout(), "Faults of group faults, for --faults", faults)]
        .join("\n")
}

fn unavailable(error: &ProcessError, setup: &Setup) -> Failure {
    let (status, advice) = match error {
        ProcessError::Unreachable { at, why } => {
            let what = format!("no MQTT broker answers ({why})");
            return Failure::new(
                ExitStatus::Unavailable,
                what,
                at,
                "check the URL, the password and that it runs",
            );
        }
        ProcessError::Command(_) | ProcessError::Subject(_) => {
            (ExitStatus::Usage, "write it as for a shell, with {port} for the port")
        }
        ProcessError::NotOurs => (ExitStatus::Usage, "give its start command with --broker-cmd"),
        ProcessError::System { .. } => (ExitStatus::Io, "free what is short and try again"),
        ProcessError::Spawn { .. } => (ExitStatus::Unavailable, "check the program's name and PATH"),
        ProcessError::EndedEarly { .. } | ProcessError::NotReady { .. } => {
            (ExitStatus::Unavailable, "start it by hand to see what it lacks")
        }
    };
    Failure::new(status, error.to_string(), setup.broker_name(), advice)
}

fn unrecorded(place: &Path, error: JournalError) -> Failure {
    let error = match error {
        JournalError::Io(error) => error,
        other => io::Error::other(other),
    };
    Failure::io(
        "cannot record the history",
        place,
        &error,
        "name a directory that can be written, with room in it",
    )
}

fn no_runtime(error: &io::Error) -> Failure {
    Failure::new(
        ExitStatus::Software,
        format!("cannot start ({error})"),
        "threads",
        "raise the limit of processes",
    )
}
