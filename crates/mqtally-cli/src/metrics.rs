//! `/metrics`, `/healthz` and `/readyz` of a running subscriber, for Prometheus and for whoever restarts it.

use mqtally::inbox::Statistics;
use mqtally::subscriber::{Monitor, Pause, Status};
use mqtally_harness::http::{Answer, Request};
use std::fmt::Write;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nothing where it is asked for something else.
pub(crate) async fn answer(request: &Request, monitor: &Monitor) -> Option<Answer> {
    let path = request.path.as_str();
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return None;
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Some(Answer::wrong_method("GET, HEAD"));
    }
    Some(match path {
        "/metrics" => metrics(monitor).await,
        "/healthz" => Answer::new("200 OK", "ok\n"),
        _ => readiness(&monitor.status()),
    })
}

async fn metrics(monitor: &Monitor) -> Answer {
    match monitor.statistics().await {
        Ok(statistics) => {
            let body = exposition(&statistics, &monitor.status());
            Answer::new("200 OK", body).with_kind(PROMETHEUS)
        }
        Err(error) => Answer::new("503 Service Unavailable", format!("{error}\n")),
    }
}

/// Ready: messages that the broker has for us are taken. A short pause for credit is part of that.
fn readiness(status: &Status) -> Answer {
    match &status.paused {
        Some(pause) if !matches!(pause, Pause::Credit) => {
            Answer::new("503 Service Unavailable", format!("not reading: {pause}\n"))
        }
        _ if !status.subscribed => Answer::new("503 Service Unavailable", "not subscribed\n"),
        _ => Answer::new("200 OK", "ok\n"),
    }
}

fn exposition(statistics: &Statistics, status: &Status) -> String {
    let mut page = Page(String::new());
    let s = statistics;
    page.counter("received_messages_total", "Messages that arrived, duplicates included.", s.received);
    page.family("duplicate_messages_total", "counter", "Duplicates, by whose copy they are.");
    for (cause, count) in
        [("redelivery", s.redelivered), ("published_again", s.published_again), ("replay", s.replayed_again)]
    {
        let _ = writeln!(page.0, "mqtally_subscriber_duplicate_messages_total{{cause=\"{cause}\"}} {count}");
    }
    page.counter("conflicts_total", "Messages whose dedup key was known with another body.", s.conflicts);
    page.counter("processed_messages_total", "Messages done.", s.processed);
    page.counter("failed_attempts_total", "Attempts that failed.", s.failed);
    page.counter("retries_total", "Attempts that were scheduled after a failure.", s.retries);
    page.counter("dead_lettered_messages_total", "Messages that became dead letters.", s.dead_lettered);
    page.counter("replayed_messages_total", "Dead letters that came back by replay.", s.replayed);
    page.counter("damaged_rows_total", "Rows of the store whose checksum did not hold.", s.damaged);
    page.counter("session_losses_total", "How often the broker had lost the session.", s.session_losses);
    page.gauge("unsettled_messages", "Messages that are neither done nor dead.", s.unsettled);
    page.gauge("leased_messages", "Messages in a handler's hands.", s.leased);
    page.gauge("waiting_messages", "Messages that wait for a retry.", s.waiting);
    page.gauge("dead_letters", "Dead letters in the store.", s.dead);
    page.gauge("dedup_keys", "Dedup keys in the window.", s.keys);
    page.gauge("dedup_index_bytes", "Memory of their index.", s.key_bytes);
    page.gauge("open_exchanges", "QoS 2 exchanges that wait for PUBREL.", s.exchanges);
    page.family("oldest_unsettled_seconds", "gauge", "Age of the oldest unsettled message.");
    let oldest = s.oldest_unsettled_ms.unwrap_or_default() as f64 / 1_000.0;
    let _ = writeln!(page.0, "mqtally_subscriber_oldest_unsettled_seconds {oldest}");
    page.gauge(
        "subscribed",
        "1 while the broker has granted all subscriptions.",
        u64::from(status.subscribed),
    );
    page.gauge("reading_paused", "1 while the socket is not read.", u64::from(status.paused.is_some()));
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(
            self.0,
            "# HELP mqtally_subscriber_{name} {help}\n# TYPE mqtally_subscriber_{name} {kind}\n"
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "mqtally_subscriber_{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "mqtally_subscriber_{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_messages_are_taken() {
        let check = |subscribed, paused, expect: &str| {
            assert_eq!(readiness(&Status { subscribed, paused }).status, expect);
        };
        check(true, None, "200 OK");
        check(true, Some(Pause::Credit), "200 OK");
        check(true, Some(Pause::Backlog(9)), "503 Service Unavailable");
        check(true, Some(Pause::Store("full".into())), "503 Service Unavailable");
        check(false, None, "503 Service Unavailable");
    }

    #[test]
    fn every_sample_follows_its_type_and_bears_the_same_name() {
        let page = exposition(&Statistics::default(), &Status::default());
        let mut family = "";
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert_eq!(line.split([' ', '{']).next(), Some(family), "{line}");
            }
        }
    }
}
