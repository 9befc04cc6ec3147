//! What is going on, on standard error.

use super::Global;
use crate::exit::complain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mqtally_harness::run::{Plan, RunEvent};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// A bar on a terminal, lines with `-v`; what is out of the ordinary always, unless nobody wants to hear anything.
pub(super) struct Progress {
    bar: ProgressBar,
    verbose: bool,
    quiet: bool,
}

impl Progress {
    pub(super) fn new(plan: &Plan, global: &Global) -> Progress {
        let bar =
            ProgressBar::with_draw_target(Some(plan.parts().count() as u64), ProgressDrawTarget::stderr());
        if global.quiet || global.verbose || bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        } else {
            bar.set_style(style());
            bar.enable_steady_tick(TICK);
        }
        Progress { bar, verbose: global.verbose, quiet: global.quiet }
    }

    pub(super) fn tell(&self, event: &RunEvent) {
        match event {
            RunEvent::GroupStarted { group, version } => {
                self.bar.set_prefix(format!("{group} on MQTT {version}"));
                self.line(&format!("{group} on MQTT {version}: started"));
            }
            RunEvent::Progress { sent, received } => {
                self.bar.set_message(format!("{sent} sent, {received} received"));
            }
            RunEvent::Trouble { stage, version, reason } => {
                self.notice(&format!("{stage} on MQTT {version}: {reason}"));
            }
            RunEvent::VersionSkipped { version, reason } => {
                self.notice(&format!("MQTT {version}: left out, {reason}"));
            }
            RunEvent::StageSkipped { stage, version, reason } => {
                self.notice(&format!("{stage} on MQTT {version}: left out, {reason}"));
            }
            RunEvent::GroupEnded { group, version, drained } => {
                self.bar.inc(1);
                let how = if *drained { "drained" } else { "not drained" };
                self.line(&format!("{group} on MQTT {version}: {how}"));
            }
            RunEvent::GroupSkipped { group, reason } => {
                self.notice(&format!("{group}: left out, {reason}"));
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }

    fn notice(&self, line: &str) {
        match self.bar.is_hidden() {
            true if !self.quiet => complain(&line),
            _ => self.bar.println(line),
        }
    }

    fn line(&self, line: &str) {
        if self.verbose {
            complain(&line);
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{spinner} {pos}/{len}  {prefix}  {msg}  {elapsed}");
    style.expect("the template is a constant")
}
