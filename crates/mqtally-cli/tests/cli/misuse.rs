//! What cannot work is said in one line, with what, where and what to do next, and with the status of its kind.

use crate::program::Program;

/// Runs every line of `arguments` in `program`, and shows each with its status and what it said.
fn said(program: &Program, arguments: &[&str]) -> String {
    let mut shown = String::new();
    for arguments in arguments {
        let ended = program.run(arguments);
        assert_eq!(ended.stdout, "", "{arguments}");
        assert_eq!(ended.stderr.lines().count(), 1, "{arguments}: {}", ended.stderr);
        shown += &format!("$ mqtally {arguments}\n{}[{}]\n", ended.stderr, ended.status);
    }
    shown
}

#[test]
fn what_was_typed_makes_no_sense() {
    insta::assert_snapshot!(said(
        &Program::new(),
        &[
            "tset",
            "test --sed 1",
            "test --seed one",
            "test qso",
            "test --only qos,sesion",
            "test --skip nothing",
            "test --only qos --skip qos",
            "test --protocol 4",
            "test --profile solid",
            "test --broker mqtt://ann:secret@host:port",
            "test --broker http://ann:secret@host",
            "test --broker mqtt://host --broker-cmd mosquitto",
            "test --broker-files etc",
            "test --user ann",
            "test --max-qos 0",
            "test --payload 8",
            "test --messages 0",
            "test --in-flight 0",
            "test factory --messages 5",
            "test factory --payload 100",
            "test --runs 0",
            "test --faults takover",
            "test faults --faults none",
            "test --quiet -v",
            "check",
            "explain kepd",
            "explain banana",
            "completions bsh",
            "man mqtt://ann:secret@host",
        ]
    ));
}

#[test]
fn a_configuration_file_that_makes_no_sense_is_named_with_its_line() {
    let check = |file: &str| said(&Program::new().file("mqtally.toml", file), &["test --list"]);
    let shown: Vec<String> = [
        "quiet = true\n\n[test]\nsede = 1\n",
        "[tset]\n",
        "[test]\nseed = 1979-05-27\n",
        "[test]\nseed = [1, 2]\n",
        "[test]\nseed = 'one'\n",
        "[test]\nconfig = 'x'\n",
        "seed = 1\n",
        "quiet = true\n[test\n",
    ]
    .map(|file| format!("{file}{}", check(file)))
    .into();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_configuration_file_that_was_named_has_to_exist() {
    insta::assert_snapshot!(said(&Program::new(), &["test --list --config nowhere.toml"]));
}

#[test]
fn flags_win_over_environment_over_file() {
    let advice = |program: Program, arguments: &str, expect: &str| {
        let ended = program.run(arguments);
        assert_eq!(ended.status, 74);
        assert!(ended.stderr.contains(&format!(": /nonexistent/{expect};")), "{}", ended.stderr);
    };
    let file = || Program::new().file("mqtally.toml", "[man]\ndir = '/nonexistent/file'\n");
    let both = || file().env("MQTALLY_DIR", "/nonexistent/environment");
    advice(file(), "man", "file");
    advice(both(), "man", "environment");
    advice(both(), "man --dir /nonexistent/flag", "flag");
}

#[test]
fn a_flag_gives_way_to_one_from_a_layer_above_that_excludes_it() {
    let check = |program: Program, arguments: &str, expect: &str| {
        let ended = program.run(&format!("test {arguments} --json nowhere/report"));
        assert_eq!(ended.status, 74, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    };
    let file =
        |key: &str, value: &str| Program::new().file("mqtally.toml", &format!("[test]\n{key} = '{value}'\n"));
    let report = "cannot write the report";
    check(file("broker", "mqtt://host"), "--broker-cmd mosquitto --broker-files .", report);
    check(file("broker-cmd", "mosquitto"), "--broker mqtt://ann:b@host", report);
    check(
        Program::new().env("MQTALLY_BROKER", "mqtt://host"),
        "--broker-cmd mosquitto --broker-files .",
        report,
    );
    check(file("broker", "mqtt://host").env("MQTALLY_BROKER_CMD", "mosquitto"), "--broker-files .", report);
    check(file("broker", "mqtt://host"), "--password-file none", "password");
}

#[test]
fn what_is_wrong_in_the_environment_is_named() {
    let program = Program::new().env("MQTALLY_SEED", "one");
    insta::assert_snapshot!(said(&program, &["test --list", "test --list --seed x"]));
    assert_eq!(program.run("test --list --seed 1").status, 0);
}

#[test]
fn a_switch_in_the_environment_is_set_by_what_people_write() {
    let check = |value: &str, status: i32| {
        let ended = Program::new().env("MQTALLY_LIST", value).run("test --history /dev/null/x");
        assert_eq!(ended.status, status, "{value}: {}", ended.stderr);
    };
    check("1", 0);
    check("true", 0);
    check("0", 74);
    check("no", 74);
}
