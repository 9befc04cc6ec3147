//! What is going on, on standard error.

use crate::commands::Global;
use crate::exit::complain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mqtally::publisher::{Link, Status};
use std::path::Path;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// A line that changes on a terminal, and notices for everybody.
pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    /// What was last said of the connection, and of the store.
    offline: Option<String>,
    trouble: Option<String>,
    /// The message that was last said to be one that the broker may not take.
    suspect: Option<u64>,
}

impl Progress {
    pub(super) fn new(global: &Global) -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if global.quiet || bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        } else {
            bar.set_style(style());
            bar.enable_steady_tick(TICK);
        }
        Progress { bar, quiet: global.quiet, offline: None, trouble: None, suspect: None }
    }

    pub(super) fn tell(&self, accepted: u64, status: &Status) {
        let Status { acknowledged, failed, .. } = status;
        self.bar.set_message(format!("{accepted} accepted, {acknowledged} acknowledged, {failed} failed"));
    }

    /// What changed, once: not every attempt that fails the same way.
    pub(super) fn changed(&mut self, status: &Status, next: &str, store: Option<&Path>) {
        match &status.link {
            Link::Offline { why, .. } if self.offline.as_ref() != Some(why) => {
                let what = why.split("; ").next().unwrap_or(why); // what to do stands behind it
                self.notice(&format!("mqtally: offline: {what}; {next}"));
                self.offline = Some(why.clone());
            }
            Link::Online { .. } if self.offline.take().is_some() => self.notice("mqtally: online again"),
            _ => {}
        }
        if let Some(seq) = status.suspect.filter(|seq| self.suspect.replace(*seq) != Some(*seq)) {
            let way_out = store.map_or_else(
                || "look into the broker's log".to_owned(),
                |store| format!("'mqtally outbox give-up {seq} --store {}' sets it aside", store.display()),
            );
            self.notice(&format!(
                "mqtally: the broker ends each connection without an answer to message {seq}: it may be one that it does not take; \
                 {way_out}"
            ));
        }
        if self.trouble != status.trouble {
            let notice = match &status.trouble {
                Some(trouble) => format!("mqtally: the store cannot be written: {trouble}"),
                None => "mqtally: the store can be written again".to_owned(),
            };
            self.notice(&notice);
            self.trouble.clone_from(&status.trouble);
        }
    }

    /// For everybody who watches.
    pub(super) fn notice(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| complain(&line));
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}  {elapsed}").expect("the template is a constant")
}
