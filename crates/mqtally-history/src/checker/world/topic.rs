//! Which filters match which topics.

/// Whether `filter` (without `$share/NAME/`) matches the topic name `topic` (section 4.7): `+` one level, `#` the
/// rest and its parent, and neither a first level that begins with `$`.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    !hidden && matches_levels(filter, topic)
}

/// The same without the rule about `$`.
pub(crate) fn matches_levels(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The filter behind `$share/NAME/`, and whether there was one.
pub(crate) fn unshared(filter: &str) -> (&str, bool) {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or((filter, false), |(_, filter)| (filter, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &str, topic: &str, expect: bool) {
        assert_eq!(matches(filter, topic), expect, "{filter} {topic}");
    }

    #[test]
    fn filters_match_by_levels() {
        check("a/b", "a/b", true);
        check("a/b", "a/bc", false);
        check("a/b", "a/b/c", false);
        check("a/+", "a/b", true);
        check("a/+", "a", false);
        check("a/+", "a/", true);
        check("+/+", "/b", true);
        check("+", "/b", false);
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("a/#", "ab", false);
        check("#", "a/b", true);
        check("#", "$SYS/x", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
    }

    #[test]
    fn a_shared_filter_is_what_stands_behind_its_name() {
        assert_eq!(unshared("$share/g/a/b"), ("a/b", true));
        assert_eq!(unshared("$share/g"), ("$share/g", false));
        assert_eq!(unshared("a/b"), ("a/b", false));
    }
}
