//! The words of a rule, each with its place.

use super::parse::RuleError;
use std::fmt;

/// Longest duration, in milliseconds: a day.
const DURATION_MS_MAX: u64 = 86_400_000;

/// One word. Quotation marks around a value are taken off; inside them `\` keeps the next character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// From 1, in characters.
    pub(super) column: usize,
}

/// The words that have not been read yet.
#[derive(Debug)]
pub(super) struct Words {
    rest: std::vec::IntoIter<Word>,
    end: usize,
}

impl Words {
    pub(super) fn new(text: &str) -> Result<Self, RuleError> {
        let end = text.chars().count() + 1;
        Ok(Self { rest: split(text)?.into_iter(), end })
    }

    pub(super) fn next(&mut self) -> Option<Word> {
        self.rest.next()
    }

    pub(super) fn peek(&self) -> Option<&str> {
        self.rest.as_slice().first().map(|word| word.text.as_str())
    }

    /// The next word, which has to be there: `what` names it, `known` are the ones that can be.
    pub(super) fn expect(&mut self, what: &str, known: &[&'static str]) -> Result<Word, RuleError> {
        self.next().ok_or_else(|| RuleError::new(format!("the rule ends before {what}"), "", self.end, known))
    }

    /// The next word if it is `text`.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_next = self.peek() == Some(text);
        if is_next {
            self.next();
        }
        is_next
    }

    /// A whole number from 1.
    pub(super) fn number(&mut self, what: &str) -> Result<u32, RuleError> {
        self.number_up_to(what, u32::MAX)
    }

    /// A whole number from 1 to `max`.
    pub(super) fn number_up_to(&mut self, what: &str, max: u32) -> Result<u32, RuleError> {
        let word = self.expect(what, &[])?;
        let number = positive(&word.text).filter(|number| *number <= max);
        number.ok_or_else(|| word.error(format!("{what} is not a number from 1 to {max}:")))
    }

    /// A duration such as `200ms`, in milliseconds.
    pub(super) fn duration_ms(&mut self, what: &str) -> Result<u64, RuleError> {
        let word = self.expect(what, &[])?;
        duration_ms(&word.text).ok_or_else(|| {
            word.error(format!("{what} is no duration from 1ms to a day, such as 200ms, 5s or 2m:"))
        })
    }
}

impl Word {
    pub(super) fn error(&self, problem: impl Into<String>) -> RuleError {
        RuleError::new(problem, &self.text, self.column, &[])
    }

    pub(super) fn unknown(&self, what: &str, known: &[&'static str]) -> RuleError {
        RuleError::new(format!("unknown {what}"), &self.text, self.column, known)
    }
}

pub(super) fn positive(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number > 0)
}

fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    is_duration(ms).then_some(ms)
}

/// Whether a rule can say this duration.
pub(super) fn is_duration(ms: u64) -> bool {
    (1..=DURATION_MS_MAX).contains(&ms)
}

/// Milliseconds as a rule says them.
pub(super) struct Ms(pub(super) u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// A value as a rule says it: in quotation marks where it would not be one word.
pub(super) struct Value<'a>(pub(super) &'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_word = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\\');
        if !self.0.is_empty() && self.0.chars().all(is_word) {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

fn split(text: &str) -> Result<Vec<Word>, RuleError> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut characters = (1..).zip(text.chars());
    while let Some((column, c)) = characters.next() {
        if c.is_whitespace() && quote.is_none() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word { text: String::new(), column });
        match c {
            '"' => quote = if quote.is_some() { None } else { Some(column) },
            '\\' => word.text.extend(characters.next().map(|(_, kept)| kept)),
            c => word.text.push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(column) => Err(RuleError::new("the quotation mark is not closed", "\"", column, &[])),
        None => Ok(words),
    }
}
