//! The statistics as people read them.

use mqtally::inbox::Statistics;
use mqtally::subscriber::{Pause, Status};
use std::fmt::Write;

/// Each counter with its share of what was received, and what is in the store.
pub(super) fn render(statistics: &Statistics, status: &Status) -> String {
    let Statistics { received, redelivered, published_again, replayed_again, .. } = *statistics;
    let mut table = Table { text: String::new(), whole: received };
    let _ = writeln!(table.text, "{}", standing(status));
    table.counter("received", received, "");
    let causes = format!(
        "redelivered {redelivered}, published again {published_again}, replayed again {replayed_again}"
    );
    table.counter("duplicates", redelivered + published_again + replayed_again, &causes);
    table.counter("conflicts", statistics.conflicts, "");
    table.counter("processed", statistics.processed, "");
    table.counter("failed", statistics.failed, "attempts");
    table.counter("retries", statistics.retries, "");
    table.counter("dead-lettered", statistics.dead_lettered, &format!("{} in the store", statistics.dead));
    table.counter("unsettled", statistics.unsettled, &unsettled(statistics));
    if statistics.damaged > 0 {
        table.counter("damaged", statistics.damaged, "rows of the store that are not as they were written");
    }
    let _ = writeln!(table.text, "  {:<16}{:>12}", "session losses", statistics.session_losses);
    table.text
}

fn standing(status: &Status) -> String {
    match (&status.paused, status.subscribed) {
        (Some(Pause::Stopping), _) => "stopped".to_owned(),
        (Some(pause), _) => format!("not reading: {pause}"),
        (None, true) => "subscribed".to_owned(),
        (None, false) => "not connected".to_owned(),
    }
}

fn unsettled(statistics: &Statistics) -> String {
    let oldest =
        statistics.oldest_unsettled_ms.map(|ms| format!(", the oldest for {:.1} s", ms as f64 / 1_000.0));
    let Statistics { leased, waiting, .. } = statistics;
    format!("{leased} in hand, {waiting} wait for a retry{}", oldest.unwrap_or_default())
}

struct Table {
    text: String,
    whole: u64,
}

impl Table {
    fn counter(&mut self, name: &str, count: u64, note: &str) {
        let line = format!("  {name:<16}{count:>12}{:>9}   {note}", share(count, self.whole));
        let _ = writeln!(self.text, "{}", line.trim_end());
    }
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_share_of_what_was_received() {
        let statistics = Statistics {
            received: 200,
            redelivered: 3,
            published_again: 1,
            processed: 190,
            failed: 12,
            retries: 10,
            dead_lettered: 2,
            dead: 2,
            unsettled: 4,
            leased: 1,
            waiting: 3,
            session_losses: 1,
            oldest_unsettled_ms: Some(2_340),
            ..Statistics::default()
        };
        insta::assert_snapshot!(render(&statistics, &Status { subscribed: true, paused: None }));
        insta::assert_snapshot!(render(&Statistics::default(), &Status::default()));
    }
}
