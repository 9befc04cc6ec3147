//! A length of time as a scenario file has it: `500ms`, `30s`, `5m`, `2h`, `7d`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::fmt;
use std::ops::Add;
use std::str::FromStr;

/// Longer than any scenario: a hundred years.
const MS_MAX: u64 = 100 * 366 * 86_400_000;

/// A length of time, or a time since the scenario began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    ms: u64,
}

impl Span {
    /// So many milliseconds.
    pub const fn from_ms(ms: u64) -> Span {
        Span { ms }
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.ms
    }

    /// In seconds.
    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.ms as f64 / 1e3
    }
}

impl Add for Span {
    type Output = Span;

    fn add(self, other: Span) -> Span {
        Span { ms: self.ms.saturating_add(other.ms) }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        let ms = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
        match ms.filter(|ms| factor > 0 && *ms <= MS_MAX) {
            Some(ms) => Ok(Span { ms }),
            None => Err(format!("'{text}' is no time; write a number and ms, s, m, h or d, such as \"30s\"")),
        }
    }
}

/// In the largest unit that divides it.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(ms, _)| self.ms > 0 && self.ms.is_multiple_of(*ms)) {
            Some((ms, unit)) => write!(f, "{}{unit}", self.ms / ms),
            None => write!(f, "{}ms", self.ms),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_str(Written)
    }
}

/// A time as text.
struct Written;

impl de::Visitor<'_> for Written {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"30s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|min|h|d)$",
            "description": "A length of time: a number and ms, s, m, h or d."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit_and_reads_back_as_it_is_shown() {
        for (text, ms) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)]
        {
            let span: Span = text.parse().expect(text);
            assert_eq!((span.as_ms(), span.to_string().as_str()), (ms, text));
        }
        assert_eq!("2min".parse(), Ok(Span::from_ms(120_000)));
        for wrong in ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "40000000d"] {
            assert!(wrong.parse::<Span>().expect_err(wrong).contains("such as \"30s\""));
        }
    }
}
