//! Programs under test: our own come out kept, and what cannot be judged is said.

use crate::program::{Ended, Program};
use serde_json::Value;

const MQTALLY: &str = env!("CARGO_BIN_EXE_mqtally");

/// A publisher that is one process a message, and says what was acknowledged.
const PUBLISHER: &str = "\
number=0
while :; do
    number=$((number + 1))
    qos=$((number % 2 + 1))
    \"$PROGRAM\" pub --config /dev/null --topic \"$MQTALLY_TOPIC\" -q $qos -m \"m-$$-$number\" --store \"$MQTALLY_DIR/outbox\" --quiet >&2 &&
        echo \"published m-$$-$number\"
done
";

fn judged(program: &Program, arguments: &[&str]) -> (Ended, Value) {
    let mut command = program.command("test --seed 42 --quiet --json report.json");
    let ended = Ended::from(command.args(arguments).output().expect("the program runs"));
    let report = std::fs::read(program.directory().join("report.json"));
    let report = report.map_or(Value::Null, |text| serde_json::from_slice(&text).expect("JSON"));
    (ended, report)
}

fn obligations(report: &Value, id: &str) -> u64 {
    let promises = report["promises"].as_array().expect("promises");
    let promise = promises.iter().find(|promise| promise["id"] == id).expect("in the catalogue");
    promise["obligations"].as_u64().expect("a number")
}

#[test]
fn our_own_subscriber_is_kept() {
    let command = format!(
        "'{MQTALLY}' sub --config /dev/null -t {{topic}}@2 --client-id own --store {{dir}}/inbox --broker {{url}}"
    );
    let (ended, report) = judged(&Program::new(), &["--subject-sub", &command]);
    assert_eq!(ended.status, 0, "{}{}{report:#}", ended.stdout, ended.stderr);
    for promise in ["O5", "A1", "A2", "A3", "A5"] {
        assert!(obligations(&report, promise) > 0, "{promise}");
    }
    let subject = &report["subjects"][0];
    assert_eq!((&subject["side"], &subject["client_ids"][0]), (&"subscriber".into(), &"own".into()));
}

#[test]
fn our_own_publisher_is_kept() {
    let program = Program::new().file("pub.sh", PUBLISHER).env("PROGRAM", MQTALLY);
    let (ended, report) = judged(&program, &["--subject-pub", "sh pub.sh"]);
    assert_eq!(ended.status, 0, "{}{}{report:#}", ended.stdout, ended.stderr);
    for promise in ["O5", "A4", "A5", "R12"] {
        assert!(obligations(&report, promise) > 0, "{promise}");
    }
}

#[test]
fn a_program_that_never_connects_is_unknown_and_said_to_be() {
    let (ended, report) = judged(&Program::new(), &["--subject-sub", "sh -c 'echo no broker >&2; exit 1'"]);
    assert_eq!(ended.status, 2, "{}{}", ended.stdout, ended.stderr);
    let why = "the subscribing subject: it ended before it connected (exit status: 1; it said: no broker)";
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(why), "{said}");
    assert_eq!(report["verdict"], "unknown");
}

#[test]
fn a_command_that_cannot_be_run_is_misuse() {
    let check = |arguments: &[&str], expect: &str| {
        let (ended, _) = judged(&Program::new(), arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (64, ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    };
    check(&["--subject-sub", "no-such-program {url}"], "no-such-program cannot be started");
    check(&["--subject-pub", "echo 'open"], "the quote ' is never closed");
    check(&["--subject-wire-only"], "give --subject-sub or --subject-pub too");
    check(&["--subject-sub", "x", "--broker", "mqtts://localhost"], "plain TCP only");
}
