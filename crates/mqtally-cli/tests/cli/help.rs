//! What `--help` says, and the other texts that packagers take from the program.

use crate::program::Program;

#[test]
fn every_command_explains_itself() {
    for command in
        ["", "test", "check", "report", "explain", "pub", "reconcile", "proxy", "completions", "man"]
    {
        let ended = Program::new().run(&format!("{command} --help"));
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{command}");
        insta::assert_snapshot!(format!("help {command}").trim(), ended.stdout);
    }
}

#[test]
fn without_a_command_the_help_goes_to_standard_error() {
    let ended = Program::new().run("");
    assert_eq!((ended.status, ended.stdout.as_str()), (64, ""));
    assert!(ended.stderr.contains("Usage: mqtally"), "{}", ended.stderr);
}

#[test]
fn the_version_is_one_line() {
    let ended = Program::new().run("-V");
    assert_eq!((ended.status, ended.stdout), (0, format!("mqtally {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = Program::new().run(&format!("completions {shell}"));
        assert_eq!(ended.status, 0, "{shell}");
        assert!(ended.stdout.contains("explain"), "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let program = Program::new();
    assert!(program.run("man").stdout.contains(".TH mqtally 1"));
    assert_eq!(program.run("man --dir .").status, 0);
    for page in [
        "mqtally.1",
        "mqtally-test.1",
        "mqtally-check.1",
        "mqtally-explain.1",
        "mqtally-broker.1",
        "mqtally-proxy.1",
    ] {
        assert!(program.directory().join(page).exists(), "{page}");
    }
}

#[test]
fn everything_that_can_be_explained_is_listed() {
    insta::assert_snapshot!(Program::new().run("explain").stdout);
}

#[test]
fn words_are_explained() {
    let check = |word: &str, expect: &str| {
        let ended = Program::new().run(&format!("explain {word}"));
        assert_eq!(ended.status, 0, "{word}");
        assert!(ended.stdout.contains(expect), "{word}: {}", ended.stdout);
    };
    check("qos2", "exactly once");
    check("2", "exactly once");
    check("choose", "door lock");
    check("KEPT", "put to the test");
    check("kill-broker", "SIGKILL");
    check("F9", "SIGKILL");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let program = Program::new();
    let mut command = program.command("man");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = command.stdout(writer).output().expect("the program runs");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}
