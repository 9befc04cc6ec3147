//! What somebody may have meant by a word that does not exist.

/// Names the candidate nearest to `word`, or all of them when none is near.
pub(crate) fn advice<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.collect();
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("known: {}", candidates.join(", ")),
    }
}

/// The candidate with the fewest changes, if they are fewer than half of the word.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let changes = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let near = candidates.min_by_key(|candidate| changes(candidate))?;
    (changes(near) * 2 < word.chars().count().max(3)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_and_otherwise_all_of_them() {
        let check = |word: &str, expect: &str| {
            assert_eq!(advice(word, ["qos", "session", "restart"].into_iter()), expect);
        };
        check("qso", "did you mean 'qos'?");
        check("Sesion", "did you mean 'session'?");
        check("banana", "known: qos, session, restart");
    }
}
