//! Every command in the READMEs is run, as it stands there.
//!
//! What is run is what the fenced `sh` blocks say, in their order, one directory a file, by a shell. What is changed, and
//! nothing else:
//!
//! - `localhost:1883` is a broker of ours, and commands that name no broker find it by `MQTALLY_BROKER`;
//! - whatever listens does so on a free port;
//! - `mqtally test` without a scenario plays the group `duplicates` only, with few messages;
//! - `mosquitto` is our broker, because not everybody has that one (the referees have);
//! - what serves (`broker`, `proxy`, `sub`) is waited for, and stopped in order at the end of its block.
//!
//! `cargo` and `just` commands would run the tests within the tests: they have to be commands of `.ci/run` or recipes of
//! the justfile. A command of another kind fails the test until somebody says here how it is run.

#[path = "sub/bench.rs"]
mod bench;

use bench::{Broker, Running, mqtally};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often what compares both ends may look again until all has arrived.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(60);

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    run_all("README.md");
}

#[test]
fn every_command_of_the_japanese_readme_does_what_it_says() {
    run_all("README.ja.md");
}

#[test]
fn every_command_of_the_page_on_handlers_does_what_it_says() {
    // It has none at present, which is no reason to fail.
    let workshop = Workshop::new();
    blocks("docs/handlers.md").iter().for_each(|block| workshop.run(block));
}

fn run_all(file: &str) {
    let blocks = blocks(file);
    let ours = blocks.iter().flatten().filter(|command| command.starts_with("mqtally ")).count();
    assert!(ours >= 3, "{file} has only {ours} commands of ours: are its blocks still marked with sh?");
    let workshop = Workshop::new();
    blocks.iter().for_each(|block| workshop.run(block));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The commands of each `sh` block.
fn blocks(file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(file)).expect("the file");
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|rest| commands(rest.split("```").next().expect("one"))).collect()
}

/// A line is a command, unless it goes on in the next, is empty, or is a comment.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// How a command is run.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It is a command of CI, and not run here.
    OfCi,
    /// It serves, and says so on standard output.
    Prints,
    /// It serves, and says this on standard error.
    Says(&'static str),
    /// It ends with status 0, at once or when everything has arrived.
    Ends,
    EndsWhenAllArrived,
}

impl Way {
    fn of(command: &str) -> Result<Self, String> {
        let mut words = command.split_whitespace();
        match (words.next(), words.next()) {
            (Some("cargo" | "just"), _) => Ok(Self::OfCi),
            (Some("mqtally"), Some("broker" | "proxy")) => Ok(Self::Prints),
            (Some("mqtally"), Some("sub")) => Ok(Self::Says("subscribed to")),
            (Some("mqtally"), Some("reconcile")) => Ok(Self::EndsWhenAllArrived),
            (Some("mqtally"), Some(_)) => Ok(Self::Ends),
            _ => Err(format!("nobody knows how to run '{command}': say so in tests/readme.rs")),
        }
    }
}

/// A directory with what a README takes for granted, and a broker.
struct Workshop {
    directory: TempDir,
    broker: Broker,
}

impl Workshop {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let program = env!("CARGO_BIN_EXE_mqtally");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("bin")).expect("a directory");
        std::os::unix::fs::symlink(program, path("bin/mqtally")).expect("a link");
        // Called as `mosquitto -p PORT -c FILE`.
        let stand_in = format!(
            "#!/bin/sh\ntest -e \"$4\" && exec {program} broker --volatile --listen 127.0.0.1:\"$2\"\n"
        );
        fs::write(path("bin/mosquitto"), stand_in).expect("a file");
        fs::create_dir(path("conf")).expect("a directory");
        fs::write(path("conf/m.conf"), "").expect("a file");
        fs::write(path("page.sh"), "#!/bin/sh\ncat > /dev/null\n").expect("a file");
        for script in ["bin/mosquitto", "page.sh"] {
            fs::set_permissions(path(script), fs::Permissions::from_mode(0o755)).expect("permissions");
        }
        let broker = Broker::start(directory.path(), &["--volatile"]);
        let workshop = Self { directory, broker };
        workshop.ends("mqtally test --history run2");
        workshop
    }

    /// A block's commands in their order; then what serves is stopped.
    fn run(&self, block: &[String]) {
        let mut serving = Vec::new();
        for command in block {
            match Way::of(command).unwrap_or_else(|problem| panic!("{problem}")) {
                Way::OfCi => {
                    assert!(is_of_ci(command), "'{command}' is neither in .ci/run nor in the justfile");
                }
                Way::Prints => {
                    serving.push((command, self.start(command, |running| running.prints("127.0.0.1:"))));
                }
                Way::Says(ready) => {
                    serving.push((command, self.start(command, |running| running.says(ready))));
                }
                Way::Ends => self.ends(command),
                Way::EndsWhenAllArrived => self.ends_when_all_arrived(command),
            }
        }
        for (command, running) in serving {
            let ended = running.terminate();
            assert_eq!(ended.code, Some(0), "{command}: {}", ended.stderr);
        }
    }

    fn start(&self, command: &str, ready: impl Fn(&Running)) -> Running {
        let running = Running::start(&mut self.shell(command));
        ready(&running);
        running
    }

    fn ends(&self, command: &str) {
        let output = self.shell(command).output().expect("it starts");
        assert!(output.status.success(), "{command}: {output:#?}");
    }

    fn ends_when_all_arrived(&self, command: &str) {
        let deadline = Instant::now() + ARRIVAL_TIME_MAX;
        while !self.shell(command).output().expect("it starts").status.success() {
            if Instant::now() > deadline {
                return self.ends(command);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn shell(&self, command: &str) -> Command {
        let words: Vec<&str> = command.split_whitespace().collect();
        // Without the environment of whoever runs the tests.
        let mut shell = mqtally(self.directory.path());
        let removed: Vec<_> =
            shell.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        shell = Command::new("sh");
        shell.current_dir(self.directory.path()).stdin(Stdio::null());
        for (name, value) in removed {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", self.directory.path().join("bin").display()));
        match words.get(1) {
            Some(&"test") if words.get(2).is_none_or(|word| word.starts_with(['-', '#'])) => {
                shell.env("MQTALLY_ONLY", "duplicates").env("MQTALLY_MESSAGES", "20");
            }
            Some(&("sub" | "pub")) => {
                shell.env("MQTALLY_BROKER", self.broker.url()).env("MQTALLY_VERBOSE", "true");
            }
            Some(&("broker" | "proxy")) => drop(shell.env("MQTALLY_LISTEN", "127.0.0.1:0")),
            _ => {}
        }
        // Signals are for the program, not for its shell.
        shell.args(["-c", &format!("exec {}", self.here(command))]);
        shell
    }

    /// The command with addresses of this workshop.
    fn here(&self, command: &str) -> String {
        let command = command.replace("localhost:1883", &self.broker.address.to_string());
        let mut parts = command.split("--listen ");
        let mut here = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (place, rest) = part.split_once(' ').unwrap_or((part, ""));
            let host = place.rsplit_once(':').map_or(String::new(), |(host, _)| format!("{host}:"));
            here += &format!("--listen {host}0 {rest}");
        }
        here
    }
}

/// Whether the words, up to a comment, begin a command of `.ci/run` or of a recipe; or name a recipe.
fn is_of_ci(command: &str) -> bool {
    let command = command.split(" #").next().unwrap_or_default().trim();
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("the file");
    let (ci, recipes) = (read(".ci/run"), read("justfile"));
    match command.strip_prefix("just ") {
        Some(recipe) => recipes.lines().any(|line| line.split([' ', ':']).next() == Some(recipe)),
        None => ci.lines().chain(recipes.lines()).any(|line| {
            line.trim().strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        }),
    }
}

#[test]
fn what_nobody_knows_how_to_run_is_not_passed_over() {
    assert!(Way::of("docker run mqtally").is_err());
    assert!(Way::of("mqtally").is_err());
    assert_eq!(Way::of("mqtally explain D3   # what it says"), Ok(Way::Ends));
    assert!(is_of_ci("cargo test --workspace     # the tests") && is_of_ci("just lint"));
    assert!(
        !is_of_ci("cargo test --works") && !is_of_ci("cargo install mqtally") && !is_of_ci("just nothing")
    );
    assert_eq!(commands("a \\\n  b\n\n# c\nd # e\n"), ["a    b", "d # e"]);
}
