//! The scenarios that come with the program; their files stand in `scenarios/` as examples to copy.

use super::Scenario;

/// Name and text of each.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("factory", include_str!("../../../../scenarios/factory.toml")),
    ("smart-home", include_str!("../../../../scenarios/smart-home.toml")),
];

/// The built-in scenario of this name.
pub fn built_in(name: &str) -> Option<Scenario> {
    let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(text).expect("the files that come with the program are right, which a test holds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{advice, schema};

    #[test]
    fn the_scenarios_that_come_with_the_program_can_be_read_and_meet_their_needs() {
        for (name, _) in BUILT_IN {
            let scenario = built_in(name).expect(name);
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty() && !scenario.faults.is_empty(), "{name}");
            assert_eq!(advice::advise(&scenario), []);
        }
    }

    #[test]
    fn the_schema_beside_them_is_that_of_the_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/scenario.schema.json");
        let ours = format!("{:#}\n", schema());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &ours).expect("the schema can be written");
        }
        let theirs = std::fs::read_to_string(path).unwrap_or_default();
        assert!(theirs == ours, "write it again: run this test with UPDATE_SCHEMA=1");
    }
}
