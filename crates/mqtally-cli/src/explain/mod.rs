//! What `mqtally explain` knows: words, what they mean, and which QoS is for what.

mod faults;
mod qos;
mod verdicts;

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
pub(crate) const SECTIONS: [(&str, &[Entry]); 3] = [
    ("Quality of service", qos::ENTRIES),
    ("Verdicts and outcomes", verdicts::ENTRIES),
    ("Faults", faults::ENTRIES),
];

/// The entries that `word` leads to, in any case; none when nothing knows it.
pub(crate) fn find(word: &str) -> Vec<&'static Entry> {
    let word = word.replace(' ', "-");
    let knows = |entry: &&Entry| entry.words.iter().any(|known| known.eq_ignore_ascii_case(&word));
    SECTIONS.iter().flat_map(|(_, entries)| *entries).filter(knows).collect()
}

/// Every word that leads somewhere.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().flat_map(|(_, entries)| *entries).flat_map(|entry| entry.words).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_leads_to_two_entries() {
        for word in words() {
            assert_eq!(find(word).len(), 1, "{word}");
        }
    }
}
