//! The catalogue of promises: what each says, what puts it to the test and what lifts it.
//!
//! A normative statement is printed with the version of MQTT it is from, because the two versions use the same number
//! for different statements.

use crate::report::Severity;

/// A promise of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Which.
    pub id: PromiseId,
    /// In a few words.
    pub title: &'static str,
    /// How much it matters when it is broken.
    pub severity: Severity,
    /// Normative statements, such as `3.1.1:MQTT-4.3.3-1`; empty where MQTT itself says nothing.
    pub spec: &'static [&'static str],
    /// What puts it to the test.
    pub tested_by: &'static str,
    /// When it need not hold.
    pub lifted_when: &'static str,
    /// Which fault or workload exercises it.
    pub exercise: &'static str,
}

/// The promise with this id, such as `D3`, in either case.
pub fn find(id: &str) -> Option<&'static Promise> {
    CATALOGUE.iter().find(|promise| promise.id.as_str().eq_ignore_ascii_case(id))
}

/// The promises that rest on a normative statement: `3.1.1:MQTT-4.3.3-1`, or `MQTT-4.3.3-1` for both versions.
pub fn find_by_spec(id: &str) -> impl Iterator<Item = &'static Promise> {
    let matches =
        move |spec: &str| spec == id || spec.split_once(':').is_some_and(|(_, number)| number == id);
    CATALOGUE.iter().filter(move |promise| promise.spec.iter().any(|spec| matches(spec)))
}

impl PromiseId {
    /// Its entry.
    pub fn promise(self) -> &'static Promise {
        &CATALOGUE[self as usize]
    }
}

macro_rules! catalogue {
    ($($id:ident, $severity:ident, $title:literal, [$($spec:literal),*],
        tested by $tested:literal, lifted when $lifted:literal, exercise $exercise:literal;)*) => {
        /// The id of a promise: a family's letter and a number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the catalogue says what each is")]
        pub enum PromiseId { $($id),* }

        impl PromiseId {
            /// As it is printed.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$id => stringify!($id)),* }
            }
        }

        /// Every promise that this version judges, in the order of the report.
        pub const CATALOGUE: &[Promise] = &[$(Promise {
            id: PromiseId::$id,
            title: $title,
            severity: Severity::$severity,
            spec: &[$($spec),*],
            tested_by: $tested,
            lifted_when: $lifted,
            exercise: $exercise,
        }),*];
    };
}

mod catalogue;

pub use catalogue::{CATALOGUE, PromiseId};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_the_order_of_its_ids() {
        for (place, promise) in CATALOGUE.iter().enumerate() {
            assert_eq!(promise.id as usize, place);
            assert_eq!(promise.id.promise(), promise);
            assert_eq!(find(&promise.id.as_str().to_lowercase()), Some(promise));
        }
    }

    #[test]
    fn every_normative_statement_names_its_version() {
        for spec in CATALOGUE.iter().flat_map(|promise| promise.spec) {
            assert!(spec.starts_with("3.1.1:MQTT-") || spec.starts_with("5.0:MQTT-"), "{spec}");
        }
    }

    #[test]
    fn a_normative_statement_is_found_with_and_without_its_version() {
        let ids = |spec| find_by_spec(spec).map(|promise| promise.id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids("3.1.1:MQTT-4.3.3-1"), ["D3", "R3", "R7", "R10", "R12"]);
        assert_eq!(ids("MQTT-4.5.0-1"), ["D1", "D2", "S6"]);
        assert!(ids("MQTT-9.9.9-9").is_empty());
    }
}
