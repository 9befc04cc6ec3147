//! Values as they are typed: times, filters with a QoS, where dedup keys come from.

use mqtally::inbox::key::Rule;
use mqtally::subscriber::Order;
use mqtally_proto::packet::Qos;
use std::str::FromStr;
use std::time::Duration;

/// Longest time that is accepted: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// `30s`, `500ms`, `5m`, `2h`, `7d`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| no_duration(text))?;
    let factor = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(no_duration(text)),
    };
    let seconds = number.checked_mul(factor).filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.map(Duration::from_secs).ok_or_else(|| no_duration(text))
}

/// A time that is not 0.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() {
        Err(format!("'{text}' is no time at all; write a longer one, such as 30s"))
    } else {
        Ok(time)
    }
}

fn no_duration(text: &str) -> String {
    format!("'{text}' is no time; write a number and ms, s, m, h or d, such as 30s")
}

/// A topic filter, and the QoS after its last `@` where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) filter: String,
    pub(super) qos: Option<Qos>,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let given = text.rsplit_once('@').and_then(|(filter, qos)| Some((filter, self::qos(qos).ok()?)));
        Ok(match given {
            Some((filter, qos)) => Self { filter: filter.to_owned(), qos: Some(qos) },
            None => Self { filter: text.to_owned(), qos: None },
        })
    }
}

pub(super) fn qos(text: &str) -> Result<Qos, String> {
    match text {
        "0" => Ok(Qos::AtMostOnce),
        "1" => Ok(Qos::AtLeastOnce),
        "2" => Ok(Qos::ExactlyOnce),
        _ => Err(format!("'{text}' is no QoS; use 0, 1 or 2")),
    }
}

/// Where dedup keys come from, for all topics or for those of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DedupKey {
    pub(super) filter: Option<String>,
    pub(super) rules: Vec<Rule>,
}

impl FromStr for DedupKey {
    type Err = String;

    /// `[FILTER=]KEY`. A filter may hold `=` itself: the key begins after the first one that a key follows.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rules) = rules(text) {
            return Ok(Self { filter: None, rules });
        }
        let split = text.match_indices('=').find_map(|(at, _)| Some((&text[..at], rules(&text[at + 1..])?)));
        match split {
            Some((filter, rules)) => Ok(Self { filter: Some(filter.to_owned()), rules }),
            None => Err(format!(
                "'{text}' is no dedup key; use /POINTER,/POINTER, user-property:NAME, own, cloudevents, \
                 correlation-data, content:TIME or none, after FILTER= for some topics only"
            )),
        }
    }
}

fn rules(text: &str) -> Option<Vec<Rule>> {
    Some(match text.split_once(':').unwrap_or((text, "")) {
        ("none", "") => Vec::new(),
        ("own", "") => vec![Rule::Own],
        ("cloudevents", "") => vec![Rule::CloudEvents],
        ("correlation-data", "") => vec![Rule::CorrelationData],
        ("user-property", name) if !name.is_empty() => vec![Rule::UserProperty(name.to_owned())],
        ("content", window) => vec![Rule::Content { window_ms: duration(window).ok()?.as_millis() as u64 }],
        _ if text.starts_with('/') && !text.contains('=') => vec![Rule::JsonPointers(pointers(text))],
        _ => return None,
    })
}

/// Pointers are separated by `,/`; a comma alone may be part of a name.
fn pointers(text: &str) -> Vec<String> {
    text[1..].split(",/").map(|pointer| format!("/{pointer}")).collect()
}

pub(super) fn order(text: &str) -> Result<Order, String> {
    match text {
        "topic" => Ok(Order::Topic),
        "none" => Ok(Order::None),
        _ if text.starts_with('/') => Ok(Order::JsonPointer(text.to_owned())),
        _ => Err(format!("'{text}' is no order; use topic, none or /POINTER into a JSON payload")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_a_bound() {
        let check = |text: &str, ms: u64| assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        check("500ms", 500);
        check("2", 2_000);
        check("30s", 30_000);
        check("5m", 300_000);
        check("2h", 7_200_000);
        check("7d", 604_800_000);
        for text in ["", "s", "-1s", "1.5s", "1w", "99999999999999999d", "36601d"] {
            assert_eq!(duration(text), Err(no_duration(text)));
        }
    }

    #[test]
    fn a_filter_keeps_every_at_sign_that_is_no_qos() {
        let check = |text: &str, filter: &str, qos: Option<Qos>| {
            assert_eq!(text.parse(), Ok(Filter { filter: filter.to_owned(), qos }), "{text}");
        };
        check("a/b@2", "a/b", Some(Qos::ExactlyOnce));
        check("a@b", "a@b", None);
        check("a@b@0", "a@b", Some(Qos::AtMostOnce));
        check("a@3", "a@3", None);
    }

    #[test]
    fn dedup_keys_are_for_all_topics_or_for_those_of_a_filter() {
        let check = |text: &str, filter: Option<&str>, rules: Vec<Rule>| {
            let filter = filter.map(str::to_owned);
            assert_eq!(text.parse(), Ok(DedupKey { filter, rules }), "{text}");
        };
        let pointers =
            |list: &[&str]| vec![Rule::JsonPointers(list.iter().map(|p| (*p).to_owned()).collect())];
        check("/sender,/message_id", None, pointers(&["/sender", "/message_id"]));
        check("/a,b", None, pointers(&["/a,b"]));
        check("none", None, vec![]);
        check("user-property:id=x", None, vec![Rule::UserProperty("id=x".into())]);
        check("alerts/+=content:10s", Some("alerts/+"), vec![Rule::Content { window_ms: 10_000 }]);
        check("a=b=own", Some("a=b"), vec![Rule::Own]);
        check("/a/#=/id", Some("/a/#"), pointers(&["/id"]));
        assert!("nothing".parse::<DedupKey>().is_err());
        assert!("content:soon".parse::<DedupKey>().is_err());
    }
}
