//! `/metrics`, `/healthz` and `/readyz` of a running subscriber, for Prometheus and for whoever restarts it.
//!
//! A responder of its own for three fixed paths: HTTP/1.1, GET and HEAD, one request a connection, everything bounded.

use mqtally::inbox::Statistics;
use mqtally::subscriber::{Monitor, Pause, Status};
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Requests at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16;
/// A request's head is no longer.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// From the first byte to the last of a request and its answer.
const TIME_MAX: Duration = Duration::from_secs(5);
const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers until it is dropped.
pub(crate) async fn serve(listener: TcpListener, monitor: Monitor) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, perhaps: others may free some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let monitor = monitor.clone();
        tokio::spawn(async move {
            // Whoever is slower than that, or hangs up, goes without an answer.
            drop(tokio::time::timeout(TIME_MAX, converse(stream, &monitor)).await);
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, monitor: &Monitor) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let answer = answer(&head, monitor).await;
    stream.write_all(&answer.into_bytes()).await?;
    stream.shutdown().await
}

/// Everything up to the empty line; empty where there is none.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while head.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
    }
    Ok(String::new())
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
    head_only: bool,
}

impl Answer {
    fn new(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: PLAIN, body: body.into(), head_only: false }
    }

    fn into_bytes(self) -> Vec<u8> {
        let Self { status, kind, body, head_only } = self;
        let length = body.len();
        let body = if head_only { "" } else { &body };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Allow: GET, HEAD\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

async fn answer(head: &str, monitor: &Monitor) -> Answer {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Answer::new("400 Bad Request", "not an HTTP/1.1 request\n");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Answer::new("405 Method Not Allowed", "only GET and HEAD\n");
    }
    let path = target.split('?').next().unwrap_or_default();
    let answer = match path {
        "/metrics" => metrics(monitor).await,
        "/healthz" => Answer::new("200 OK", "ok\n"),
        "/readyz" => readiness(&monitor.status()),
        _ => Answer::new("404 Not Found", "there are /metrics, /healthz and /readyz\n"),
    };
    Answer { head_only: method == "HEAD", ..answer }
}

async fn metrics(monitor: &Monitor) -> Answer {
    match monitor.statistics().await {
        Ok(statistics) => {
            let body = exposition(&statistics, &monitor.status());
            Answer { kind: PROMETHEUS, ..Answer::new("200 OK", body) }
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
