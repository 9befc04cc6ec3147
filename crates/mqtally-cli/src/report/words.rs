//! Numbers, times and verdicts as people read them.

use super::style::{BAD, DIM, DOUBT, GOOD};
use anstyle::Style;
use mqtally_history::event::Side;
use mqtally_history::report::Verdict;
use unicode_width::UnicodeWidthStr;

/// Where there is nothing to say.
pub(crate) const NOTHING: &str = "–";

/// `31,204`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 message`, `31,204 messages`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// `3 times`, `once`.
pub(crate) fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        _ => format!("{} times", count(number)),
    }
}

/// Microseconds as milliseconds with three digits that mean something; nothing where nothing was measured.
pub(crate) fn milliseconds(us: u64) -> String {
    match us {
        0 => NOTHING.to_owned(),
        1..1_000 => format!("{:.3}", ms(us)),
        1_000..10_000 => format!("{:.2}", ms(us)),
        10_000..100_000 => format!("{:.1}", ms(us)),
        _ => count(us / 1_000),
    }
}

/// `820 ms`, `24.1 s`, `3 min 20 s`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// `12.5 %` of a whole; nothing of nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let percent = part as f64 * 100.0 / whole as f64;
    format!("{percent:.1} %")
}

/// The contract's words, with a space where a program reads a hyphen.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "kept",
        Verdict::NotExercised => "not exercised",
        Verdict::Warn => "warn",
        Verdict::Unknown => "unknown",
        Verdict::Broken => "broken",
    }
}

/// What a program under test is.
pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Subscriber => "subscriber",
        Side::Publisher => "publisher",
    }
}

/// A sign beside the word, for the eye.
pub(crate) fn glyph(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "✔",
        Verdict::NotExercised => "–",
        Verdict::Warn => "!",
        Verdict::Unknown => "?",
        Verdict::Broken => "✘",
    }
}

pub(crate) fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Kept => GOOD,
        Verdict::NotExercised => DIM,
        Verdict::Warn | Verdict::Unknown => DOUBT,
        Verdict::Broken => BAD,
    }
}

/// Text from outside, such as a topic, with what would steer the terminal made visible.
pub(crate) fn visible(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Breaks text into lines of at most `width` columns, at spaces where there are some.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    flow(text.split(' '), " ", width)
}

/// Joins items into lines of at most `width` columns, breaking only between items.
pub(crate) fn flow<T: AsRef<str>>(
    items: impl IntoIterator<Item = T>,
    between: &str,
    width: usize,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let item = item.as_ref();
        match lines.last_mut() {
            Some(line) if line.width() + between.width() + item.width() <= width => {
                line.push_str(between);
                line.push_str(item);
            }
            Some(line) => {
                line.push_str(between.trim_end());
                lines.push(item.to_owned());
            }
            None => lines.push(item.to_owned()),
        }
    }
    lines
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown: Vec<String> = [0, 999, 1_000, 31_204, 1_000_000].map(count).into();
        assert_eq!(shown, ["0", "999", "1,000", "31,204", "1,000,000"]);
    }

    #[test]
    fn a_latency_has_three_digits_that_mean_something() {
        let shown: Vec<String> = [0, 81, 812, 1_240, 12_400, 312_000, 1_204_000].map(milliseconds).into();
        assert_eq!(shown, ["–", "0.081", "0.812", "1.24", "12.4", "312", "1,204"]);
    }

    #[test]
    fn a_duration_is_told_in_the_unit_that_fits() {
        let shown: Vec<String> = [820, 24_190, 200_400].map(duration).into();
        assert_eq!(shown, ["820 ms", "24.1 s", "3 min 20 s"]);
    }

    #[test]
    fn a_topic_cannot_steer_the_terminal() {
        assert_eq!(visible("a/\u{1b}[2Jb\n\u{202e}c/é"), "a/\\u{1b}[2Jb\\n\\u{202e}c/é");
    }

    #[test]
    fn text_breaks_at_spaces() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("indivisible word", 4), ["indivisible", "word"]);
    }
}
