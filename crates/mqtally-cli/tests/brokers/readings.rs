//! What each finding comes to when it is read against the specification, written by hand in `readings.toml`.

use super::cases::Case;
use serde::Deserialize;
use std::collections::BTreeMap;

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Readings {
    /// What the specification says, by promise.
    rule: BTreeMap<String, String>,
    reading: Vec<Reading>,
}

/// One broker and one promise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reading {
    /// The broker's name up to the comma, or a whole name where the configuration matters.
    broker: String,
    promise: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// What was seen, in a sentence.
    pub(crate) says: String,
}

/// What a finding is, in fairness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Something that the specification forbids.
    Broken,
    /// It follows from a limit of the configuration.
    Limit,
    /// Its documentation says so.
    Documented,
    /// MQTT does not promise it; the profile that was measured does.
    Profile,
}

impl Readings {
    pub(crate) fn load() -> Self {
        toml::from_str(include_str!("readings.toml")).unwrap_or_else(|error| panic!("readings.toml: {error}"))
    }

    /// Why it is a breach, where a rule was written down.
    pub(crate) fn rule(&self, promise: &str) -> Option<&str> {
        self.rule.get(promise).map(String::as_str)
    }

    /// Promises that a reading speaks of, and no rule.
    pub(crate) fn without_rule(&self) -> Vec<&str> {
        let promises = self.reading.iter().map(|it| it.promise.as_str());
        promises.filter(|promise| !self.rule.contains_key(*promise)).collect()
    }

    /// Whether somebody has read this.
    pub(crate) fn covers(&self, case: &Case, promise: &str) -> bool {
        self.of(case, promise).is_some()
    }

    /// The reading of this promise; one of the very configuration before one of the broker.
    pub(crate) fn of(&self, case: &Case, promise: &str) -> Option<&Reading> {
        let broker = case.name.split(',').next().unwrap_or_default();
        let of = |name: &str| self.reading.iter().find(|it| it.broker == name && it.promise == promise);
        of(case.name).or_else(|| of(broker))
    }
}
