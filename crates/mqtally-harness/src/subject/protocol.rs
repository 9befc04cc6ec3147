//! What a program under test says of itself, a line at a time.
//!
//! ```text
//! {"received": 17}          {"processed": 17}          the same: this message was processed
//! {"duplicate": 17}                                    recognised, and not processed again
//! {"failed": 17}                                       processing failed
//! {"published": 17}                                    a publisher: the broker has it
//! received 17                                          the same in words
//! anything with mqtally-1a2b3c4d-17 in it              a subscriber: this message was processed
//! ```
//!
//! In the place of `17` stands what names the message: its `message_id`, its whole payload (as a string or an object),
//! its `content`, or the value of `mqtally` in it. Other lines are for people.

use super::names::word_of;
use serde_json::Value;

/// What begins the text by which a message of ours is known to people and programs.
const TOKEN: &str = "mqtally-";
/// Hexadecimal digits of a marker, and how they begin.
const MARKER_DIGITS: usize = 64;
const MARKER_START: &str = "6d517431";

/// What is said of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Processed,
    Duplicate,
    Failed,
    Published,
}

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) verb: Verb,
    /// What it calls the message.
    pub(crate) word: String,
    /// It says so in the words of this protocol; else the line only mentions a message.
    pub(crate) outright: bool,
}

/// The text by which message `number` of run `run` is known.
pub(crate) fn token(run: u32, number: u64) -> String {
    format!("{TOKEN}{run:08x}-{number}")
}

/// What a line says, if it says anything.
pub(crate) fn read(line: &str) -> Option<Said> {
    let line = line.trim();
    object(line).or_else(|| words(line)).or_else(|| mention(line))
}

fn object(line: &str) -> Option<Said> {
    let value: Value = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
    let mut said = value.as_object()?.iter().filter_map(|(key, value)| Some((verb(key)?, word_of(value)?)));
    said.next().map(|(verb, word)| Said { verb, word, outright: true })
}

fn words(line: &str) -> Option<Said> {
    let (first, rest) = line.split_once(char::is_whitespace)?;
    let word = rest.trim();
    let verb = verb(first.trim_end_matches(':'))?;
    let named = !word.is_empty() && !word.contains(char::is_whitespace);
    named.then(|| Said { verb, word: word.to_owned(), outright: true })
}

fn mention(line: &str) -> Option<Said> {
    let word = token_in(line).or_else(|| marker_in(line))?;
    Some(Said { verb: Verb::Processed, word: word.to_owned(), outright: false })
}

fn token_in(line: &str) -> Option<&str> {
    line.match_indices(TOKEN).find_map(|(at, _)| {
        let rest = &line[at..];
        let (run, number) = rest.strip_prefix(TOKEN)?.split_once('-')?;
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let whole = run.len() == 8 && run.bytes().all(|byte| byte.is_ascii_hexdigit()) && digits > 0;
        whole.then(|| &rest[..TOKEN.len() + run.len() + 1 + digits])
    })
}

fn marker_in(line: &str) -> Option<&str> {
    line.match_indices(MARKER_START).find_map(|(at, _)| {
        let digits = line.get(at..at + MARKER_DIGITS)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)
    })
}

fn verb(word: &str) -> Option<Verb> {
    match word.to_ascii_lowercase().as_str() {
        "received" | "processed" => Some(Verb::Processed),
        "duplicate" => Some(Verb::Duplicate),
        "failed" => Some(Verb::Failed),
        "published" => Some(Verb::Published),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, expect: Option<(Verb, &str, bool)>) {
        let said = read(line);
        let said = said.as_ref().map(|it| (it.verb, it.word.as_str(), it.outright));
        assert_eq!(said, expect, "{line}");
    }

    #[test]
    fn objects_and_words_say_what_became_of_a_message() {
        check(r#"{"received": 17}"#, Some((Verb::Processed, "17", true)));
        check(r#"{"at": 1.5, "processed": "17"}"#, Some((Verb::Processed, "17", true)));
        check(r#"{"received": {"message_id": 17, "content": "x"}}"#, Some((Verb::Processed, "17", true)));
        check(r#"{"duplicate":"a b"}"#, Some((Verb::Duplicate, "a b", true)));
        check("  failed 17 ", Some((Verb::Failed, "17", true)));
        check("Published: 17", Some((Verb::Published, "17", true)));
    }

    #[test]
    fn a_line_that_mentions_a_message_means_it() {
        let token = token(0x1a2b, 17);
        assert_eq!(token, "mqtally-00001a2b-17");
        check(&format!("🚨 ALERT [x]: {token}!"), Some((Verb::Processed, &token, false)));
        let payload = format!(r#"a/b {{"message_id":17,"content":"{token}"}}"#);
        check(&payload, Some((Verb::Processed, &token, false)));
        let marker = format!("6d517431{}", "0".repeat(56));
        check(&format!("got {marker}"), Some((Verb::Processed, &marker, false)));
    }

    #[test]
    fn what_is_for_people_says_nothing() {
        check("", None);
        check("connected", None);
        check("received 17 messages so far", None);
        check(r#"{"connected": true}"#, None);
        check(r#"{"received": null}"#, None);
        check("mqtally-1a2b3c4d-", None);
        check("mqtally-12-17", None);
        check("6d517431é", None);
    }

    proptest! {
        #[test]
        fn any_line_can_be_read(line in ".*") {
            let _ = read(&line);
        }

        #[test]
        fn any_line_that_begins_as_a_token_can_be_read(rest in ".*", digits in "[0-9a-f]{0,70}") {
            let _ = read(&format!("mqtally-{digits}-{rest}"));
            let _ = read(&format!("6d517431{digits}{rest}"));
        }
    }
}
