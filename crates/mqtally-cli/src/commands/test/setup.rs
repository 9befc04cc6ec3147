//! What was typed, turned into what it means: everything that can be wrong before the run is found here.

use super::scenarios::{self, Named};
use super::subject::SubjectArgs;
use super::{Args, Profile, Protocol};
use crate::broker_url::{endpoint, password};
use crate::exit::{ExitStatus, Failure};
use crate::nearest;
use crate::report::Outputs;
use mqtally::endpoint::Endpoint;
use mqtally_harness::nemesis::{ChoiceError, Faults, KINDS, Kind};
use mqtally_harness::process::{BrokerSource, Login};
use mqtally_harness::recorder::HISTORY_FILE;
use mqtally_harness::run::{Feature, Group, Offer, Plan, Programs};
use mqtally_harness::scenario::Scenario;
use mqtally_history::event::Side;
use mqtally_history::profile::{Measured, Profile as Durability};
use mqtally_proto::packet::{Qos, Version};
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A run, or several, ready to be started.
pub(super) struct Setup {
    /// How often.
    pub(super) runs: u32,
    /// What the broker is held to.
    pub(super) profile: Durability,
    /// Nobody declared that, and it can be measured.
    pub(super) undeclared: bool,
    /// What was.
    pub(super) measured: Option<Measured>,
    /// Where the reports go; known to be writable.
    pub(super) outputs: Option<Outputs>,
    /// Where the history is kept, if it is.
    pub(super) history: Option<PathBuf>,
    /// The highest QoS that the broker has, as far as somebody said.
    max_qos: u8,
    /// Programs under test.
    pub(super) subjects: SubjectArgs,
    /// Whether to search for the fewest strikes that break what was found broken.
    pub(super) shrinks: bool,
    plan: Plan,
    broker: Broker,
}

enum Broker {
    Embedded,
    Url(Endpoint),
    Command { template: String, files: Option<PathBuf>, login: Option<Login> },
}

impl Setup {
    pub(super) fn resolve(args: &Args) -> Result<Setup, Failure> {
        let broker = broker(args)?;
        let profile = args.profile.map_or_else(|| declared(&broker), Durability::from);
        let undeclared = args.profile.is_none() && matches!(broker, Broker::Command { .. });
        let url = if let Broker::Url(endpoint) = &broker { Some(endpoint) } else { None };
        args.subjects.check(url)?;
        let plan = plan(args, &broker)?;
        let shrinks = args.shrink || (plan.faults.has_drawn() && !args.no_shrink);
        let outputs = Some(args.results.prepare()?);
        let history = args.history.clone();
        history.as_deref().map(fresh_history).transpose()?;
        let subjects = args.subjects.clone();
        let mut setup = Setup {
            runs: args.runs,
            profile,
            undeclared,
            shrinks,
            measured: None,
            outputs,
            max_qos: args.max_qos,
            subjects,
            plan,
            broker,
            history,
        };
        if !undeclared {
            setup.hold_to(profile);
        }
        Ok(setup)
    }

    /// Holds the broker to what it was seen to keep.
    pub(super) fn hold_to_measured(&mut self, measured: Measured) {
        self.hold_to(measured.profile.unwrap_or(self.profile));
        self.measured = Some(measured);
    }

    fn hold_to(&mut self, profile: Durability) {
        self.profile = profile;
        let scenarios = std::mem::take(&mut self.plan.scenarios);
        self.plan.scenarios = scenarios.into_iter().map(|it| scenarios::held_to(it, profile)).collect();
    }

    /// The highest QoS that the broker has, as far as somebody said.
    pub(super) fn highest_qos(&self) -> Qos {
        if self.max_qos < 2 { Qos::AtLeastOnce } else { Qos::ExactlyOnce }
    }

    /// What the run of this index, counted from 0, is to do on a broker with this offer.
    pub(super) fn plan(&self, index: u32, offer: Offer) -> Result<Plan, Failure> {
        let offer = if self.max_qos < 2 { offer.without(Feature::ExactlyOnce) } else { offer };
        let mut plan = self.plan.clone().adapted_to(offer);
        plan.run = random();
        plan.seed = plan.seed.wrapping_add(index.into());
        plan.programs = Some(programs(&program()?));
        Ok(plan)
    }

    /// What the advisor says to what is to be played.
    pub(super) fn advice(&self) -> impl Iterator<Item = String> {
        self.plan.scenarios_played().flat_map(|scenario| scenarios::advice(&scenario).collect::<Vec<_>>())
    }

    /// A directory for what is not kept.
    pub(super) fn scratch(&self) -> Result<TempDir, Failure> {
        tempfile::tempdir().map_err(|error| {
            let place = std::env::temp_dir();
            Failure::io("cannot create a directory", &place, &error, "set TMPDIR to one that can be written")
        })
    }

    /// Where the broker comes from. Its files are in `scratch`.
    pub(super) fn source(&self, scratch: &TempDir) -> Result<BrokerSource, Failure> {
        let directory = scratch.path().join("broker");
        fs::create_dir_all(&directory).map_err(|error| uncopied(&directory, &error))?;
        match &self.broker {
            Broker::Embedded => Ok(BrokerSource::Embedded { program: program()?, data: directory }),
            Broker::Url(endpoint) => Ok(BrokerSource::Url(endpoint.clone())),
            Broker::Command { template, files, login } => {
                if let Some(files) = files {
                    copy_tree(files, &directory).map_err(|error| uncopied(files, &error))?;
                }
                Ok(BrokerSource::Command { template: template.clone(), directory, login: login.clone() })
            }
        }
    }

    /// The directory of the history: the one that was named, or `scratch`.
    pub(super) fn history_in<'a>(&'a self, scratch: &'a TempDir) -> &'a Path {
        self.history.as_deref().unwrap_or(scratch.path())
    }

    /// What a reader would call the broker.
    pub(super) fn broker_name(&self) -> String {
        match &self.broker {
            Broker::Embedded => "the embedded broker".to_owned(),
            Broker::Url(endpoint) => endpoint.to_string(),
            Broker::Command { template, .. } => template.clone(),
        }
    }
}

impl From<Profile> for Durability {
    fn from(profile: Profile) -> Durability {
        match profile {
            Profile::Volatile => Durability::Volatile,
            Profile::Graceful => Durability::Graceful,
            Profile::Durable => Durability::Durable,
            Profile::PowerSafe => Durability::PowerSafe,
        }
    }
}

/// What a broker declares that nobody declared anything for: our own keeps everything, a stranger nothing.
fn declared(broker: &Broker) -> Durability {
    match broker {
        Broker::Embedded => Durability::Durable,
        Broker::Url(_) | Broker::Command { .. } => Durability::Volatile,
    }
}

fn plan(args: &Args, broker: &Broker) -> Result<Plan, Failure> {
    let mut plan = Plan::new(0, args.seed.unwrap_or_else(|| random().into()));
    let (groups, scenarios) = wanted(args)?;
    plan.groups = groups;
    plan.scenarios = scenarios;
    plan.versions = match args.protocol {
        Protocol::V3 => vec![Version::V3_1_1],
        Protocol::V5 => vec![Version::V5_0],
        Protocol::Both => vec![Version::V3_1_1, Version::V5_0],
    };
    plan.faults = faults(args.faults.as_deref())?;
    // Found out from the broker itself before the run; the advice is given before that.
    if matches!(broker, Broker::Url(_)) {
        plan = plan.adapted_to(Offer::default().without(Feature::Control));
    }
    plan.groups.retain(|group| has_faults(*group, &plan.faults));
    if plan.groups.is_empty() && plan.scenarios.is_empty() {
        let advice = "name a fault, or another scenario";
        return Err(Failure::usage("without these faults nothing is left to run", "--faults", advice));
    }
    let strikes = [Group::Faults, Group::Restart].iter().any(|group| plan.groups.contains(group));
    if args.faults.is_some() && !plan.faults.is_none() && !strikes {
        let advice = match plan.scenarios.is_empty() {
            true => "add group faults",
            false => "add group faults, or change the scenario's file; none leaves out its faults",
        };
        return Err(Failure::usage("nothing that is run has these faults", "--faults", advice));
    }
    if plan.groups.is_empty() {
        sizes_of_nothing(args)?;
    }
    plan.messages = args.messages;
    plan.in_flight = args.in_flight;
    plan.payload_bytes = args.payload;
    let vain = matches!(broker, Broker::Url(_))
        && plan.scenarios.is_empty()
        && plan.groups.iter().all(|group| group.needs_restart());
    if vain {
        let advice = "give its start command with --broker-cmd, or another scenario";
        return Err(Failure::usage("a broker given by URL cannot be restarted", "--broker", advice));
    }
    Ok(plan)
}

/// The groups that were named, or all, of these what `--only` keeps and `--skip` leaves; and the scenarios that were named.
/// A scenario says itself how much it sends.
fn sizes_of_nothing(args: &Args) -> Result<(), Failure> {
    let given = [
        ("--messages", args.messages.is_some()),
        ("--in-flight", args.in_flight.is_some()),
        ("--payload", args.payload.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            let advice = "add group qos, or change the scenario's file";
            Err(Failure::usage("a scenario has no bulk streams", flag, advice))
        }
        None => Ok(()),
    }
}

fn wanted(args: &Args) -> Result<(Vec<Group>, Vec<Arc<Scenario>>), Failure> {
    let (mut named, mut scenarios) = (Vec::new(), Vec::<Arc<Scenario>>::new());
    for word in &args.scenarios {
        match scenarios::named(word)? {
            Named::Group(group) => named.push(group),
            Named::Scenario(scenario) if scenarios.iter().any(|other| other.name == scenario.name) => {
                let what = format!("two scenarios are called '{}'", scenario.name);
                return Err(Failure::usage(what, word, "give one of them another name"));
            }
            Named::Scenario(scenario) => scenarios.push(scenario),
        }
    }
    let (only, skip) = (of_names(&args.only)?, of_names(&args.skip)?);
    let wanted = |group: &Group| {
        (args.scenarios.is_empty() || named.contains(group))
            && (only.is_empty() || only.contains(group))
            && !skip.contains(group)
    };
    let sides: Vec<Side> = args.subjects.sides().map(|(side, _)| side).collect();
    // Programs under test are what the run is about, unless something else is asked for too.
    let judges_broker = sides.is_empty() || !args.scenarios.is_empty() || !args.only.is_empty();
    let groups = Group::ALL.into_iter().filter(|group| judges_broker && wanted(group));
    let subjects = [Group::SubjectSub, Group::SubjectPub];
    let subjects = subjects.into_iter().filter(|it| it.side().is_some_and(|side| sides.contains(&side)));
    let groups: Vec<Group> = groups.chain(subjects).collect();
    if groups.is_empty() && scenarios.is_empty() {
        return Err(Failure::usage("nothing is left to run", "--only and --skip", "leave some group in"));
    }
    Ok((groups, scenarios))
}

/// The faults that were asked for, or all.
pub(in crate::commands) fn faults(list: Option<&str>) -> Result<Faults, Failure> {
    let Some(list) = list else { return Ok(Faults::All) };
    Faults::read(list).map_err(|error| {
        let advice = match &error {
            ChoiceError::Unknown(name) => {
                nearest::advice(name, KINDS.iter().map(|kind| kind.name).chain(["none"]))
            }
            ChoiceError::Strike { .. } => "write it as 'mqtally explain faults' says".to_owned(),
        };
        Failure::usage(error.to_string(), "--faults", advice)
    })
}

/// Whether the group has anything left to do with these faults.
fn has_faults(group: Group, faults: &Faults) -> bool {
    match group {
        Group::Faults => !faults.is_none(),
        Group::Restart => Kind::from_name("kill-broker").is_some_and(|kind| faults.has(kind)),
        _ => true,
    }
}

fn of_names(names: &[String]) -> Result<Vec<Group>, Failure> {
    let group = |name: &String| {
        Group::from_name(name).ok_or_else(|| {
            let advice = nearest::advice(name, Group::ALL.into_iter().map(Group::name));
            Failure::usage(format!("unknown group '{name}'"), "mqtally test", advice)
        })
    };
    names.iter().map(group).collect()
}

fn broker(args: &Args) -> Result<Broker, Failure> {
    let vain = |flag: &str, other: &str| {
        Err(Failure::usage(
            format!("{flag} is of no use without {other}"),
            "mqtally test",
            format!("give {other} too"),
        ))
    };
    match (&args.broker, &args.broker_cmd) {
        (_, None) if args.broker_files.is_some() => vain("--broker-files", "--broker-cmd"),
        (_, None) if args.user.is_some() => vain("--user", "--broker-cmd"),
        (None, _) if args.password_file.is_some() && args.user.is_none() => {
            vain("--password-file", "--broker or --user")
        }
        (Some(url), _) => endpoint(url, args.password_file.as_deref()).map(Broker::Url),
        (None, Some(template)) => {
            let login = args
                .user
                .clone()
                .map(|user| password(args.password_file.as_deref()).map(|password| Login { user, password }));
            let files = args.broker_files.clone();
            Ok(Broker::Command { template: template.clone(), files, login: login.transpose()? })
        }
        (None, None) => Ok(Broker::Embedded),
    }
}

/// Makes the directory, and sure that it can be written and holds no history: evidence is never overwritten.
pub(in crate::commands) fn fresh_history(directory: &Path) -> Result<(), Failure> {
    let unwritable = |error: &io::Error| {
        Failure::io(
            "cannot keep the history",
            directory,
            error,
            "name a directory that can be created and written",
        )
    };
    fs::create_dir_all(directory).map_err(|error| unwritable(&error))?;
    if directory.join(HISTORY_FILE).exists() {
        let place = directory.display().to_string();
        let advice = "name another directory, or remove it first";
        return Err(Failure::new(ExitStatus::Io, "there is a history already", place, advice));
    }
    tempfile::tempfile_in(directory).map(drop).map_err(|error| unwritable(&error))
}

fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::io("cannot find the program", Path::new("mqtally"), &error, "run it by its path")
    })
}

/// The clients whose processes are killed: ours.
fn programs(program: &Path) -> Programs {
    let program = program.to_string_lossy().replace('\\', r"\\").replace('\'', r"\'").replace(' ', r"\ ");
    let common =
        "--config /dev/null --broker {broker} --protocol {protocol} --client-id {client_id} -t {topic}";
    Programs {
        subscriber: format!(
            "{program} sub {common} -q {{qos}} --store {{dir}}/inbox --format payload --stats-every 0 --quiet"
        ),
        publisher: format!(
            "{program} pub {common} -q {{qos}} --store {{dir}}/outbox -m reading --envelope --count 1000 --rate 200 \
             --quiet"
        ),
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn uncopied(place: &Path, error: &io::Error) -> Failure {
    Failure::io("cannot prepare the broker's files", place, error, "name a directory that can be read")
}

/// A number that no other run is likely to have: the keys of a hash map are random.
pub(in crate::commands) fn random() -> u32 {
    let hash = RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).expect("32 bits are left")
}
