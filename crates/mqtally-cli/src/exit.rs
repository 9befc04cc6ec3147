//! How the program ends: a status that scripts rely on, and at most one line that says why.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a fault of ours is to be reported.
const REPORT_TO: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/issues");

/// Exit statuses. Those from 64 on are the ones of `sysexits.h`, and 128 + SIGINT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    /// Done; for a judgement: every exercised promise was kept, and nothing was vacuous.
    Success = 0,
    /// A promise was broken.
    Broken = 1,
    /// It could not be judged.
    Unknown = 2,
    /// What was typed, or a file of ours that somebody wrote, makes no sense.
    Usage = 64,
    /// The broker could not be reached at the start, or an address not be bound.
    Unavailable = 69,
    /// A fault of ours.
    Software = 70,
    /// Disk or file.
    Io = 74,
    /// Interrupted by Ctrl-C.
    Interrupted = 130,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Why a command did not do what it was asked to; shown as `mqtally: WHAT: WHERE; WHAT TO DO`.
#[derive(Debug)]
pub(crate) struct Failure {
    status: ExitStatus,
    what: String,
    place: String,
    advice: String,
}

impl Failure {
    /// All parts are lower-case fragments. `place` is what the reader can point at: a path, a flag, an address.
    pub(crate) fn new(
        status: ExitStatus,
        what: impl Into<String>,
        place: impl Into<String>,
        advice: impl Into<String>,
    ) -> Failure {
        Failure { status, what: what.into(), place: place.into(), advice: advice.into() }
    }

    /// Status 64.
    pub(crate) fn usage(
        what: impl Into<String>,
        place: impl Into<String>,
        advice: impl Into<String>,
    ) -> Failure {
        Failure::new(ExitStatus::Usage, what, place, advice)
    }

    /// Status 74, about a file or a directory.
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error, advice: impl Into<String>) -> Failure {
        Failure::new(ExitStatus::Io, format!("{what} ({})", plain(error)), path.display().to_string(), advice)
    }

    /// From an error of the layers below that says what to do after its last semicolon.
    pub(crate) fn told(
        status: ExitStatus,
        error: &dyn std::error::Error,
        place: impl Into<String>,
    ) -> Failure {
        let told = error.to_string();
        let (what, advice) = told.rsplit_once("; ").unwrap_or((&told, "see 'mqtally --help'"));
        Failure::new(status, what, place, advice)
    }

    /// The same failure, at another place.
    pub(crate) fn at(self, place: impl Into<String>) -> Failure {
        Failure { place: place.into(), ..self }
    }

    /// The status that the program ends with.
    pub(crate) fn status(&self) -> ExitStatus {
        self.status
    }
}

/// One line, whatever the parts contain, and never a password.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("mqtally: {}: {}; {}", self.what, self.place, self.advice);
        let words: Vec<&str> = line.split_whitespace().collect();
        f.write_str(&redact(&words.join(" ")))
    }
}

/// Runs the program, shows why it failed, and turns a panic anywhere in it into a line and status 70.
///
/// The panic is caught, not aborted on: destructors still run, so that no child process is left behind.
pub(crate) fn guard(run: impl FnOnce() -> Result<ExitStatus, Failure>) -> ExitStatus {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    panic::set_hook(Box::new(|panic| {
        PANICKED.store(true, Ordering::Relaxed);
        complain(&our_fault(panic));
    }));
    let status = match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => {
            complain(&failure);
            failure.status()
        }
        Err(_) => ExitStatus::Software,
    };
    if PANICKED.load(Ordering::Relaxed) { ExitStatus::Software } else { status }
}

/// Writes a result to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::io(
            "cannot write",
            Path::new("standard output"),
            &error,
            "check where it is redirected to",
        )),
        _ => Ok(()),
    }
}

/// Writes a line to standard error; there is nobody to tell when that fails.
pub(crate) fn complain(line: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Turns what clap has to say into an answer (help, version) or a failure with status 64.
pub(crate) fn answer(error: &clap::Error, command: &str) -> Result<ExitStatus, Failure> {
    use clap::error::ErrorKind as Kind;
    let status = match error.kind() {
        Kind::DisplayHelp | Kind::DisplayVersion => ExitStatus::Success,
        Kind::DisplayHelpOnMissingArgumentOrSubcommand => ExitStatus::Usage,
        _ => return Err(misuse(error, command)),
    };
    // Printed by clap for its colours; a reader that went away is no failure here either.
    let _ = error.print();
    Ok(status)
}

/// The text with the password of every URL in it replaced.
pub(crate) fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://").map(|at| at + 3) {
        let end = rest[start..].find([' ', '\'', '"']).map_or(rest.len(), |length| start + length);
        redacted.push_str(&rest[..start]);
        redacted.push_str(&redact_authority(&rest[start..end]));
        rest = &rest[end..];
    }
    redacted + rest
}

fn redact_authority(text: &str) -> String {
    let Some((user, host)) = text.rsplit_once('@') else { return text.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:***@{host}"),
        None => text.to_owned(),
    }
}

/// Clap's sentence and first tip on one line; its usage block stays in `--help`.
pub(crate) fn misuse(error: &clap::Error, command: &str) -> Failure {
    let text = error.render().to_string();
    let said = text.split("\nUsage: ").next().unwrap_or_default();
    let what = said.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default().trim();
    let tip = said.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let help = format!("see '{command} --help'");
    Failure::usage(what, command, tip.map_or(help.clone(), |tip| format!("{tip}, or {help}")))
}

fn our_fault(panic: &panic::PanicHookInfo<'_>) -> Failure {
    let what = panic.payload_as_str().unwrap_or("no reason given");
    let place = panic.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    let advice = format!(
        "this is a fault in mqtally {}, please report this line at {REPORT_TO}",
        env!("CARGO_PKG_VERSION")
    );
    Failure::new(ExitStatus::Software, format!("internal fault: {what}"), place, advice)
}

/// The system's words without its error number, as a fragment.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        let check = |text: &str, expect: &str| assert_eq!(redact(text), expect);
        check("mqtt://ann:secret@host:1883 refused", "mqtt://ann:***@host:1883 refused");
        check("'mqtt://ann:a/b@c@host' and ws://b:x@h/mqtt", "'mqtt://ann:***@host' and ws://b:***@h/mqtt");
        check("mqtt://ann@host, mqtt://host:1883", "mqtt://ann@host, mqtt://host:1883");
        check("no url: a@b", "no url: a@b");
    }

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::usage("two\nlines", "mqtt://a:b@c", "try\n  again");
        assert_eq!(failure.to_string(), "mqtally: two lines: mqtt://a:***@c; try again");
    }

    #[test]
    fn a_panic_anywhere_is_a_fault_of_ours() {
        let status = [
            guard(|| Ok(ExitStatus::Success)),
            guard(|| panic!("in the program")),
            guard(|| std::thread::spawn(|| panic!("in a thread")).join().map_or(Ok(ExitStatus::Success), Ok)),
        ];
        drop(panic::take_hook());
        assert_eq!(status, [ExitStatus::Success, ExitStatus::Software, ExitStatus::Software]);
    }
}
