//! Topic names, filters and matching: the specification's examples, and a naive matcher to compare with.

mod support;

use mqtally_proto::topic::TopicError::{
    Empty, EmptyShareName, MisplacedHash, MisplacedPlus, NoSharedFilter, Nul, TooLong, WildcardInName,
    WildcardInShareName,
};
use mqtally_proto::topic::{Shared, TopicError, matches, validate_filter, validate_name};
use proptest::prelude::*;

#[test]
fn names() {
    let check =
        |name: &str, expect: Result<(), TopicError>| assert_eq!(validate_name(name), expect, "{name:?}");
    check("a", Ok(()));
    check("/", Ok(()));
    check("/finance", Ok(()));
    check("Accounts payable", Ok(()));
    check("$SYS/uptime", Ok(()));
    check("日/é", Ok(()));
    check("", Err(Empty));
    check("sport/tennis/#", Err(WildcardInName(13)));
    check("+", Err(WildcardInName(0)));
    check("a\0b", Err(Nul(1)));
    check(&"a".repeat(65_535), Ok(()));
    check(&"a".repeat(65_536), Err(TooLong(65_536)));
}

/// The examples of 4.7.1.2 and 4.7.1.3, and what they leave open.
#[test]
fn filters() {
    let check = |filter: &str, expect: Result<(), TopicError>| {
        assert_eq!(validate_filter(filter), expect, "{filter:?}");
    };
    check("#", Ok(()));
    check("sport/tennis/#", Ok(()));
    check("sport/tennis#", Err(MisplacedHash(12)));
    check("sport/tennis/#/ranking", Err(MisplacedHash(13)));
    check("+", Ok(()));
    check("+/tennis/#", Ok(()));
    check("sport+", Err(MisplacedPlus(5)));
    check("sport/+/player1", Ok(()));
    check("/+", Ok(()));
    check("+/+", Ok(()));
    check("//", Ok(()));
    check("a/++", Err(MisplacedPlus(2)));
    check("##", Err(MisplacedHash(0)));
    check("+#", Err(MisplacedPlus(0)));
    check("#/", Err(MisplacedHash(0)));
    check("", Err(Empty));
    check("a\0/#", Err(Nul(1)));
    check("$share/g/a/+", Ok(()));
}

/// The examples of 4.7.1 and 4.7.2, and the empty levels.
#[test]
fn matching() {
    let check = |filter: &str, topic: &str, expect: bool| {
        assert_eq!(matches(filter, topic), expect, "{filter:?} {topic:?}");
    };
    check("sport/tennis/player1/#", "sport/tennis/player1", true);
    check("sport/tennis/player1/#", "sport/tennis/player1/ranking", true);
    check("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
    check("sport/tennis/player1/#", "sport/tennis/player10", false);
    check("sport/#", "sport", true);
    check("sport/#", "sport/", true);
    check("#", "sport/tennis", true);
    check("sport/tennis/+", "sport/tennis/player1", true);
    check("sport/tennis/+", "sport/tennis/player2", true);
    check("sport/tennis/+", "sport/tennis/player1/ranking", false);
    check("sport/+", "sport", false);
    check("sport/+", "sport/", true);
    check("+/+", "/finance", true);
    check("/+", "/finance", true);
    check("+", "/finance", false);
    check("#", "$SYS/uptime", false);
    check("+/monitor/Clients", "$SYS/monitor/Clients", false);
    check("$SYS/#", "$SYS/monitor/Clients", true);
    check("$SYS/monitor/+", "$SYS/monitor/Clients", true);
    check("a/+", "a/$SYS", true);
    check("a", "A", false);
    check("a", "/a", false);
    check("a/", "a", false);
    check("a//b", "a//b", true);
    check("a/+/b", "a//b", true);
    check("+/#", "a", true);
    check("/#", "a", false);
}

#[test]
fn shared_subscriptions() {
    let check = |filter: &str, expect: Result<Option<(&str, &str)>, TopicError>| {
        let parsed = Shared::parse(filter).map(|shared| shared.map(|it| (it.name, it.filter)));
        assert_eq!(parsed, expect, "{filter:?}");
    };
    check("$share/consumer1/sport/tennis/+", Ok(Some(("consumer1", "sport/tennis/+"))));
    check("$share/consumer2//finance", Ok(Some(("consumer2", "/finance"))));
    check("$share/g/$SYS/#", Ok(Some(("g", "$SYS/#"))));
    check("sport/tennis/+", Ok(None));
    check("$share", Ok(None));
    check("$shared/g/a", Ok(None));
    check("$share/", Err(EmptyShareName));
    check("$share//a", Err(EmptyShareName));
    check("$share/g", Err(NoSharedFilter));
    check("$share/g/", Err(NoSharedFilter));
    check("$share/+/a", Err(WildcardInShareName));
    check("$share/#", Err(WildcardInShareName));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn matching_agrees_with_the_naive_matcher(
        filter in support::topic_filter(),
        topic in support::topic_name(),
    ) {
        prop_assert_eq!(validate_filter(&filter), Ok(()));
        prop_assert_eq!(validate_name(&topic), Ok(()));
        prop_assert_eq!(matches(&filter, &topic), naive(&filter, &topic));
    }

    #[test]
    fn a_topic_with_levels_made_wildcards_matches_itself(
        topic in "[a-c]{0,2}(/[a-c]{0,2}){1,4}",
        wild in any::<u8>(),
    ) {
        let level = |(index, level): (usize, &'_ str)| if wild >> index & 1 == 1 { "+".into() } else { level.to_owned() };
        let filter: Vec<String> = topic.split('/').enumerate().map(level).collect();
        prop_assert!(matches(&filter.join("/"), &topic));
        prop_assert!(matches(&(filter.join("/") + "/#"), &topic));
        prop_assert!(!matches(&(filter.join("/") + "/+"), &topic));
    }

    #[test]
    fn no_text_makes_a_validation_panic(text in "[+#/$a\\x00]{0,8}|\\$share/[+#/a]{0,4}|\\PC{0,8}") {
        let _ = (validate_name(&text), validate_filter(&text), Shared::parse(&text));
        let _ = matches(&text, "a/b");
    }
}

/// 4.7 word for word, level by level.
fn naive(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.first(), topic.first()) {
            (Some(&"#"), _) => true,
            (Some(&"+"), Some(_)) => levels(&filter[1..], &topic[1..]),
            (Some(expected), Some(level)) => expected == level && levels(&filter[1..], &topic[1..]),
            (None, None) => true,
            _ => false,
        }
    }
    let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    let system = topic[0].starts_with('$');
    let leading_wildcard = filter[0] == "+" || filter[0] == "#";
    !(system && leading_wildcard) && levels(&filter, &topic)
}
