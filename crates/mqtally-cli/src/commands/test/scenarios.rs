//! Scenarios by name or file: which ones were meant, what is wrong with one, and what the advisor says before it is played.

use crate::exit::Failure;
use crate::nearest;
use crate::report::needs::advice_text;
use mqtally_harness::run::Group;
use mqtally_harness::scenario::advice::{Weight, advise};
use mqtally_harness::scenario::{BUILT_IN, Scenario, ScenarioError, built_in};
use mqtally_history::profile::Profile;
use std::path::Path;
use std::sync::Arc;

/// Largest scenario file that is read, bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// What somebody named to be run.
pub(super) enum Named {
    Group(Group),
    Scenario(Arc<Scenario>),
}

/// What `word` names: a group, a scenario that comes with the program, or a file.
pub(super) fn named(word: &str) -> Result<Named, Failure> {
    if let Some(group) = Group::from_name(word) {
        return Ok(Named::Group(group));
    }
    if let Some(scenario) = built_in(word) {
        return Ok(Named::Scenario(Arc::new(scenario)));
    }
    let path = Path::new(word);
    if path.extension().is_some_and(|extension| extension == "toml") || word.contains('/') || path.is_file() {
        return read(path).map(|scenario| Named::Scenario(Arc::new(scenario)));
    }
    let advice = match nearest::nearest(word, names()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "name a .toml file, or what --list shows".to_owned(),
    };
    Err(Failure::usage(format!("unknown scenario '{word}'"), "mqtally test", advice))
}

/// The same scenario on a broker that is held to `profile`: the advice rests on the weaker of what the file declares
/// and that.
pub(super) fn held_to(scenario: Arc<Scenario>, profile: Profile) -> Arc<Scenario> {
    let mut scenario = Arc::unwrap_or_clone(scenario);
    scenario.broker.profile = Some(scenario.broker.profile.map_or(profile, |declared| declared.min(profile)));
    Arc::new(scenario)
}

/// What the advisor says before anything is played, one a line.
pub(super) fn advice(scenario: &Scenario) -> impl Iterator<Item = String> {
    advise(scenario).into_iter().map(|it| {
        let text = advice_text(&scenario.name, &it.stream, it.subscriber.as_deref(), &it.why, &it.change);
        match it.weight {
            Weight::Unmet => format!("a need cannot be met: {text}"),
            Weight::Hint => format!("more than is needed: {text}"),
        }
    })
}

/// Every name that is built in.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Group::ALL.into_iter().map(Group::name).chain(BUILT_IN.into_iter().map(|(name, _)| name))
}

fn read(path: &Path) -> Result<Scenario, Failure> {
    let unreadable = |error: &std::io::Error| {
        Failure::io(
            "cannot read the scenario",
            path,
            error,
            "name a file that can be read; --list shows what is built in",
        )
    };
    let len = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if len > FILE_LEN_MAX {
        let what = format!("a scenario of {len} bytes, and {FILE_LEN_MAX} are the most");
        return Err(Failure::usage(what, path.display().to_string(), "is it a scenario?"));
    }
    let text = std::fs::read(path).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(text).map_err(|error| {
        let place = format!("{}, byte {}", path.display(), error.utf8_error().valid_up_to());
        Failure::usage("the scenario is no text", place, "write it in UTF-8")
    })?;
    Scenario::parse(&text).map_err(|error| wrong(path, &error))
}

/// What is wrong, where, and what may have been meant.
fn wrong(path: &Path, error: &ScenarioError) -> Failure {
    let place = format!("{}, line {}, column {}", path.display(), error.line, error.column);
    let advice = match &error.unknown {
        Some(word) if !error.known.is_empty() => {
            nearest::advice(word, error.known.iter().map(String::as_str))
        }
        _ => "'mqtally explain scenario' shows one".to_owned(),
    };
    Failure::usage(error.what.as_str(), place, advice)
}
