//! What is wrong with a file, and where.

use super::*;

const GOOD: &str = r#"
name = "pump"
duration = "10s"
[[streams]]
name = "alarm"
topic = "pump/{device}/alarm"
qos = 1
every = "1s"
[[subscribers]]
name = "room"
filters = ["pump/+/alarm@1"]
[[faults]]
kind = "cut"
of = "room"
at = "2s"
lasts = "1s"
"#;

#[test]
fn what_is_left_out_has_a_meaning() {
    let scenario = Scenario::parse(GOOD).expect("a scenario");
    assert_eq!((scenario.speed, scenario.streams[0].devices, scenario.messages()), (1.0, 1, 10));
    assert_eq!(scenario.subscribers[0].asks_for(&scenario.streams[0]), Some(Qos::AtLeastOnce));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let check = |from: &str, to: &str, expect: &str, line: usize| {
        assert!(GOOD.contains(from), "{from}");
        let error = Scenario::parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(error.what.contains(expect), "{to}: {error:?}");
        assert_eq!(error.line, line, "{to}: {error:?}");
        assert!(error.column > 0);
    };
    check("duration =", "duration :", "", 3);
    check("duration", "duraton", "unknown key 'duraton'", 3);
    check("\"10s\"", "\"soon\"", "'soon' is no time", 3);
    check("\"10s\"", "\"0s\"", "has to last", 3);
    check("qos = 1", "qos = 3", "QoS is 0, 1 or 2", 7);
    check("pump/{device}/alarm", "pump/+/alarm", "is no topic", 6);
    check("every = \"1s\"", "every = \"0s\"", "longer than nothing", 8);
    check("every = \"1s\"", "every = \"1s\"\ncount = 11", "do not fit", 9);
    check("every = \"1s\"", "every = \"1s\"\nneeds = [\"may-lose\", \"must-arrive\"]", "it cannot be", 9);
    check("every = \"1s\"", "every = \"1s\"\nneeds = [\"must-arive\"]", "'must-arive' is none", 9);
    check("pump/+/alarm@1", "pump/#/alarm@1", "is no topic filter", 11);
    check("pump/+/alarm@1", "pump/+/alarm@3", "not with @0, @1 or @2", 11);
    check("kind = \"cut\"", "kind = \"kill-broker\"", "strikes the broker", 14);
    check("of = \"room\"", "of = \"rom\"", "no stream or subscriber 'rom'", 14);
    check("lasts = \"1s\"", "lasts = \"9s\"", "over before the scenario is", 15);
    check("name = \"room\"", "name = \"alarm\"", "has this name, too", 10);
    check("every = \"1s\"", "every = \"1ms\"\ndevices = 1000", "1000000", 3);
}

#[test]
fn a_subscriber_asks_for_all_devices_of_a_stream_or_for_none() {
    let of_three = GOOD.replace("every = \"1s\"", "every = \"1s\"\ndevices = 3");
    let filters = |filters: &str| Scenario::parse(&of_three.replace("\"pump/+/alarm@1\"", filters));
    for some in ["\"pump/1/alarm@1\"", "\"pump/3/alarm@1\", \"pump/1/alarm@1\""] {
        let error = filters(some).expect_err(some);
        assert!(error.what.contains("\"pump/+/alarm\""), "{error:?}");
        assert_eq!((error.line, error.column), (12, 11), "{error:?}");
    }
    let each = filters("\"pump/1/alarm@2\", \"pump/2/alarm@1\", \"pump/3/+@2\"").expect("all of them");
    assert_eq!(each.subscribers[0].asks_for(&each.streams[0]), Some(Qos::AtLeastOnce));
    let none = filters("\"pump/4/alarm@2\"").expect("none of them");
    assert_eq!(none.subscribers[0].asks_for(&none.streams[0]), None);
}

#[test]
fn an_unknown_word_comes_with_the_words_that_are_known() {
    let error = Scenario::parse(&GOOD.replace("lasts", "last")).expect_err("a typo");
    assert_eq!(error.unknown.as_deref(), Some("last"));
    assert!(error.known.iter().any(|word| word == "lasts"), "{error:?}");
}

#[test]
fn a_file_that_is_no_toml_and_an_empty_one_are_refused() {
    assert!(Scenario::parse("\u{0}").is_err());
    assert!(Scenario::parse("").expect_err("empty").what.contains("missing key"));
}

/// The place is that of the `¶` in the text, which is no part of it.
#[track_caller]
fn wrong_at_the_mark(marked: &str, expect: &str) {
    let before = marked.split('¶').next().expect("a mark").trim_start_matches('\u{feff}');
    let line = before.split('\n').count();
    let column = before.rsplit('\n').next().expect("a line").chars().count() + 1;
    let error = Scenario::parse(&marked.replace('¶', "")).expect_err(marked);
    assert!(error.what.contains(expect), "{marked}: {error:?}");
    assert_eq!((error.line, error.column), (line, column), "{marked}: {error:?}");
}

#[test]
fn the_place_is_right_however_the_file_writes_it() {
    let check = |rest: &str, expect: &str| {
        wrong_at_the_mark(&format!("name = \"p\"\nduration = \"9s\"\n{rest}"), expect);
    };
    let (qos, entry) = ("QoS is 0, 1 or 2", "topic = \"a\"\nevery = \"1s\"\n");
    let good = "{ name = \"a\", topic = \"a\", every = \"1s\" }";
    let other = "name = \"b\", topic = \"b\", every = \"1s\"";
    // Tables in a list, on one line and on several.
    check(&format!("streams = [{good}, {{ {other}, qos = ¶3 }}]"), qos);
    check(&format!("streams = [\n  {good},\n\t{{ qos = ¶7, {other} }},\n]"), qos);
    let filters = "subscribers = [{ name = \"s\", filters = [\"a@1\", ¶\"a@9\"] }]";
    check(&format!("streams = [{good}]\n{filters}"), "not with @0");
    check(&format!("streams = [{good}]\nfaults = [{{ kind = ¶\"cut\", at = \"1s\" }}]"), "needs 'of'");
    check("streams = ¶[]", "sends nothing");
    // Headers and keys with quotes and blanks, keys with dots.
    check(&format!("  [[ \"streams\" ]] # the first\n{entry}name = ¶\"a b\"\n"), "a name has");
    check(&format!("[[streams]]\nname = \"a\"\n{entry}\"qos\"\t=\t¶3\n"), qos);
    check(&format!("[[streams]]\nname = \"a\"\n{entry}'qos'=¶3\n"), qos);
    let broker = "broker.queue-max = 5\nbroker.\"profile\" = ¶\"durabl\"";
    check(&format!("{broker}\nstreams = [{good}]"), "'durabl' is none");
    // What only looks like a header or a key.
    let payload = "payload = '''\n[[streams]]\nqos = 1\n[[faults]]'''\n";
    check(&format!("[[streams]]\nname = \"a\"\n{payload}{entry}qos = ¶3\n"), qos);
    let fault = "[[faults]]\nkind = \"kill-broker\"\nat = ¶\"9s\"\n";
    check(&format!("[[streams]]\nname = \"a\"\n{payload}{entry}{fault}"), "has to be over");
    check(&format!("[[streams]]\nname = \"a\" # qos = 2\n{entry}# qos = 1\nqos = ¶3\n"), qos);
}

#[test]
fn what_was_left_out_is_told_at_the_head_of_its_entry() {
    let check = |rest: &str, expect: &str| {
        wrong_at_the_mark(&format!("name = \"p\"\nduration = \"9s\"\n{rest}"), expect);
    };
    let good = "{ name = \"a\", topic = \"a\", every = \"1s\" }";
    check(&format!("streams = [{good}, ¶{{ name = \"b\", topic = \"b\" }}]"), "missing key 'every'");
    check(
        "[[streams]]\nname = \"a\"\ntopic = \"a\"\nevery = \"1s\"\n  ¶[[streams]]\nname = \"b\"",
        "'topic'",
    );
}

#[test]
fn too_many_clients_are_told_at_what_has_the_most() {
    let stream = |name: &str, devices: &str| {
        format!("[[streams]]\nname = \"{name}\"\ntopic = \"{name}/{{device}}\"\nevery = \"1s\"\n{devices}\n")
    };
    let all = [stream("a", ""), stream("b", "devices = ¶1000"), stream("c", "devices = 999")].concat();
    let room = "[[subscribers]]\nname = \"s\"\nfilters = [\"a\"]\n";
    wrong_at_the_mark(&format!("name = \"p\"\nduration = \"9s\"\n{all}{room}"), "2001 clients");
    let crowd = vec!["{ name = \"NAME\", filters = [\"a\"] }"; 2_000];
    let crowd: Vec<String> =
        crowd.iter().enumerate().map(|(n, it)| it.replace("NAME", &format!("s{n}"))).collect();
    let text =
        format!("name = \"p\"\nduration = \"9s\"\nsubscribers = ¶[{}]\n{}", crowd.join(","), stream("a", ""));
    wrong_at_the_mark(&text, "2001 clients");
}

#[test]
fn columns_count_characters_and_neither_a_bom_nor_the_end_of_a_line() {
    let file = |mark: &str| {
        let stream = format!("payload = \"ä日本🦀\", topic = \"a\", every = \"1s\", name = \"a\", {mark}");
        format!("name = \"p\"\nduration = \"9s\"\nstreams = [{{ {stream} }}]\n")
    };
    for (mark, expect) in [
        ("qos = ¶3", "QoS is"),
        ("¶qoss = 1", "unknown key 'qoss'"),
        ("qos = ¶\"1\"", "invalid type"),
        ("qos = ¶x", "quoted"),
    ] {
        wrong_at_the_mark(&file(mark), expect);
        wrong_at_the_mark(&file(mark).replace('\n', "\r\n"), expect);
        wrong_at_the_mark(&format!("\u{feff}{}", file(mark)), expect);
    }
    wrong_at_the_mark("\u{feff}¶nam = \"p\"", "unknown key 'nam'");
    wrong_at_the_mark("\u{feff}name = ¶\"p q\"\nduration = \"9s\"\nstreams = []", "a name has");
}

#[test]
fn what_is_no_table_and_what_is_no_list_is_said_in_words_of_the_file() {
    let check = |rest: &str, expect: &str| {
        wrong_at_the_mark(&format!("name = \"p\"\nduration = \"9s\"\n{rest}"), expect);
    };
    check("streams = [¶3]", "an entry of 'streams' is a table");
    // Values without their keys would mean something else with the next version.
    let values = "\"a\", \"a\", 1, 1, \"1s\", 1, \"0s\", false, \"5s\", \"x\", \"y\", []";
    check(&format!("streams = [¶[{values}]]"), "an entry of 'streams' is a table");
    check("broker = ¶[\"durable\", 5]", "'broker' is a table");
    check("broker = ¶\"durable\"", "'broker' is a table");
    check("¶[streams]\nname = \"a\"", "'streams' is a list of tables, each headed [[streams]]");
    check("¶faults.kind = \"cut\"", "'faults' is a list of tables, each headed [[faults]]");
    check("streams = []\n¶[[broker]]", "'broker' is a table");
}

#[test]
fn a_value_that_does_not_fit_is_told_what_would() {
    let check = |line: &str, expect: &str| {
        let error = Scenario::parse(&GOOD.replace("qos = 1", line)).expect_err(line);
        assert_eq!(error.what, expect);
    };
    check("qos = 300", "invalid value: integer '300', expected a whole number from 0 to 255");
    check("count = -1", "invalid value: integer '-1', expected a whole number from 0 to 4294967295");
    check("count = 1.5", "invalid type: floating point '1.5', expected a whole number from 0 to 4294967295");
    check(
        "count = 99999999999999999999",
        "invalid type: integer '99999999999999999999', expected a whole number from 0 to 4294967295",
    );
    check("from = 5", "invalid type: integer '5', expected a time such as \"30s\"");
    check("needs = [3]", "expected a word in quotes");
    check("needs = \"must-arrive\"", "invalid type: string \"must-arrive\", expected a list");
}

#[test]
fn a_word_with_a_back_tick_is_told_as_it_stands() {
    let check = |text: String, expect: &str, known: &str| {
        let error = Scenario::parse(&text).expect_err(expect);
        assert_eq!(error.unknown.as_deref(), Some(expect));
        assert!(error.known.iter().any(|word| word == known), "{error:?}");
        let word = |word: &String| !word.is_empty() && !word.contains([' ', '`']);
        assert!(error.known.iter().all(word), "{error:?}");
    };
    check(GOOD.replace("qos = 1", "\"q`os\" = 1"), "q`os", "qos");
    check(GOOD.replace("\"cut\"", "\"c`ut\""), "c`ut", "cut");
    check(format!("{GOOD}\n[broker]\n\"`\" = 1\n"), "`", "profile");
}
