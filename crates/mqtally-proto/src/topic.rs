//! Topic names and filters: validation and matching (4.7), shared subscriptions (4.8.2).
//!
//! - [`validate_name`], [`validate_filter`]: whether a string may be published or subscribed to.
//! - [`matches()`]: whether a filter selects a name.
//! - [`Shared`]: the parts of `$share/NAME/FILTER`.

/// Longest topic name or filter, in bytes [MQTT-4.7.3-3].
const LEN_MAX: usize = 65_535;

/// Why a string is no topic name, topic filter or shared subscription. Positions are bytes from its start.
///
/// The words follow a subject: "the topic name …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It has no character.
    #[error("is empty [MQTT-4.7.3-1]")]
    Empty,
    /// It is longer than a UTF-8 encoded string can be.
    #[error("has {0} bytes, above 65535 [MQTT-4.7.3-3]")]
    TooLong(usize),
    /// It contains U+0000.
    #[error("contains U+0000 at byte {0} [MQTT-4.7.3-2]")]
    Nul(usize),
    /// A topic name contains a wildcard.
    #[error("contains a wildcard at byte {0} [MQTT-3.3.2-2]")]
    WildcardInName(usize),
    /// `#` is not a level of its own at the end.
    #[error("has a # at byte {0} that is not the whole last level [MQTT-4.7.1-1]")]
    MisplacedHash(usize),
    /// `+` is not a level of its own.
    #[error("has a + at byte {0} that is not a whole level [MQTT-4.7.1-2]")]
    MisplacedPlus(usize),
    /// `$share//…`: the share name has no character.
    #[error("has an empty share name [MQTT-4.8.2-1]")]
    EmptyShareName,
    /// `$share/+/…`: the share name contains a wildcard.
    #[error("has a share name with a wildcard [MQTT-4.8.2-2]")]
    WildcardInShareName,
    /// `$share/NAME` or `$share/NAME/`: no filter follows the share name.
    #[error("has no topic filter after the share name [MQTT-4.8.2-2]")]
    NoSharedFilter,
}

/// Whether `name` may be published to: not empty, no wildcard, no U+0000 [MQTT-3.3.2-2] [MQTT-4.7.3-1].
///
/// ```
/// use mqtally_proto::topic::{TopicError, validate_name};
/// assert_eq!(validate_name("sport/tennis"), Ok(()));
/// assert_eq!(validate_name("sport/+"), Err(TopicError::WildcardInName(6)));
/// ```
pub fn validate_name(name: &str) -> Result<(), TopicError> {
    validate_text(name)?;
    refuse_wildcards(name)
}

/// Whether `filter` may be subscribed to: wildcards are whole levels, `#` only the last.
///
/// A shared subscription is also a filter by these rules; what 5.0 asks of it besides is [`Shared::parse`]'s.
///
/// ```
/// use mqtally_proto::topic::{TopicError, validate_filter};
/// assert_eq!(validate_filter("sport/+/player1/#"), Ok(()));
/// assert_eq!(validate_filter("sport/#/ranking"), Err(TopicError::MisplacedHash(6)));
/// ```
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    validate_text(filter)?;
    let mut start = 0;
    for level in filter.split('/') {
        let end = start + level.len();
        let wildcard = level.bytes().position(|byte| matches!(byte, b'+' | b'#'));
        if let Some(offset) = wildcard {
            let at = start + offset;
            match level {
                "+" => {}
                "#" if end == filter.len() => {}
                _ if filter.as_bytes()[at] == b'#' => return Err(TopicError::MisplacedHash(at)),
                _ => return Err(TopicError::MisplacedPlus(at)),
            }
        }
        start = end + 1;
    }
    Ok(())
}

/// Whether a lawful `filter` selects a lawful `topic`. Of a shared subscription pass [`Shared::filter`].
///
/// A leading wildcard does not select a topic that begins with `$` [MQTT-4.7.2-1].
///
/// ```
/// use mqtally_proto::topic::matches;
/// assert!(matches("sport/+/#", "sport/tennis"));
/// assert!(!matches("#", "$SYS/uptime"));
/// ```
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for expected in filter.split('/') {
        match (expected, levels.next()) {
            // Also where the topic has ended: `#` stands for the parent level too (4.7.1.2).
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (expected, Some(level)) if expected == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// A shared subscription, taken apart (5.0 only; in 3.1.1 such a filter is like any other).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shared<'a> {
    /// The share name: sessions that name the same share the messages.
    pub name: &'a str,
    /// The filter that selects topics.
    pub filter: &'a str,
}

impl<'a> Shared<'a> {
    /// Takes `$share/NAME/FILTER` apart; `None` for a filter that is not shared.
    ///
    /// # Errors
    /// When it begins with `$share/` but has no lawful share name [MQTT-4.8.2-1] or no filter [MQTT-4.8.2-2].
    ///
    /// ```
    /// use mqtally_proto::topic::{Shared, TopicError};
    /// assert_eq!(Shared::parse("$share/g/a/#"), Ok(Some(Shared { name: "g", filter: "a/#" })));
    /// assert_eq!(Shared::parse("a/#"), Ok(None));
    /// assert_eq!(Shared::parse("$share/g"), Err(TopicError::NoSharedFilter));
    /// ```
    pub fn parse(filter: &'a str) -> Result<Option<Self>, TopicError> {
        let Some(rest) = filter.strip_prefix("$share/") else { return Ok(None) };
        let (name, filter) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(TopicError::EmptyShareName);
        }
        if name.contains(['+', '#']) {
            return Err(TopicError::WildcardInShareName);
        }
        if filter.is_empty() {
            return Err(TopicError::NoSharedFilter);
        }
        Ok(Some(Self { name, filter }))
    }
}

/// What a name must not contain, besides what no UTF-8 encoded string of a packet does.
pub(crate) fn refuse_wildcards(name: &str) -> Result<(), TopicError> {
    match find(name, |byte| matches!(byte, b'+' | b'#')) {
        None => Ok(()),
        Some(at) => Err(TopicError::WildcardInName(at)),
    }
}

/// What names and filters have in common (4.7.3).
fn validate_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > LEN_MAX {
        return Err(TopicError::TooLong(text.len()));
    }
    match find(text, |byte| byte == 0) {
        None => Ok(()),
        Some(at) => Err(TopicError::Nul(at)),
    }
}

/// Where `is_sought` first holds. Nearly always it does nowhere, and a pass that never stops early is vectorised.
fn find(text: &str, is_sought: impl Fn(u8) -> bool) -> Option<usize> {
    let found = text.bytes().fold(0, |found, byte| found | u8::from(is_sought(byte)));
    if found == 0 { None } else { text.bytes().position(is_sought) }
}
