//! What `mqtally explain` knows: words, what they mean, and which QoS is for what.

mod faults;
mod promises;
mod qos;
mod scenarios;
mod subject;
mod verdicts;

use mqtally_history::promise::CATALOGUE;

/// Something that can be explained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Words that lead here; the first is the one that lists show.
    pub(crate) words: &'static [&'static str],
    /// What it is, in a few words.
    pub(crate) title: &'static str,
    /// Paragraphs, separated by line feeds; a line that begins with a space is shown as it stands.
    pub(crate) text: &'static str,
}

/// Entries of a kind, under the heading that lists show.
pub(crate) const SECTIONS: [(&str, &[Entry]); 5] = [
    ("Quality of service", qos::ENTRIES),
    ("Verdicts and outcomes", verdicts::ENTRIES),
    ("Faults", faults::ENTRIES),
    ("Scenarios", scenarios::ENTRIES),
    ("Client under test", subject::ENTRIES),
];

/// What there is to say about a word.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// The word that lists show.
    pub(crate) name: &'static str,
    /// What it is, in a few words.
    pub(crate) title: &'static str,
    /// Paragraphs, as in an [`Entry`].
    pub(crate) text: String,
}

/// Everything that `word` leads to, in any case; nothing when nobody knows it.
///
/// A word can be a promise and something else: `F1` is a fault, `S1` a promise and a severity.
pub(crate) fn find(word: &str) -> Vec<Explanation> {
    let mut found = promises::find(word);
    let word = word.replace(' ', "-");
    let knows = |entry: &&Entry| entry.words.iter().any(|known| known.eq_ignore_ascii_case(&word));
    found.extend(entries().filter(knows).map(|entry| Explanation {
        name: entry.words[0],
        title: entry.title,
        text: entry.text.to_owned(),
    }));
    found
}

/// Every word that leads somewhere; of the normative ids none, there are too many.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    promises::ids().chain(entries().flat_map(|entry| entry.words).copied())
}

/// Every promise with its title.
pub(crate) fn promises() -> impl Iterator<Item = (&'static str, &'static str)> {
    CATALOGUE.iter().map(|promise| (promise.id.as_str(), promise.title))
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    SECTIONS.iter().flat_map(|(_, entries)| *entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_leads_somewhere_and_no_two_entries_claim_one() {
        let claimed: Vec<String> =
            entries().flat_map(|entry| entry.words).map(|word| word.to_lowercase()).collect();
        assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), claimed.len());
        assert!(words().all(|word| !find(word).is_empty()));
    }

    #[test]
    fn a_normative_statement_leads_to_the_promises_that_rest_on_it() {
        let check = |word: &str, expect: &[&str]| {
            let names: Vec<&str> = find(word).iter().map(|explanation| explanation.name).collect();
            assert_eq!(names, expect, "{word}");
        };
        check("3.1.1:MQTT-4.3.1-1", &["D5"]);
        check("mqtt-4.3.1-1", &["D5"]);
        check("[MQTT-4.3.1-1]", &["D5"]);
        check("d5", &["D5"]);
        check("MQTT-9.9.9-9", &[]);
    }
}
