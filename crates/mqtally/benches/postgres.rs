//! The inbox in PostgreSQL beside the one in a SQLite file, in one run, on one disk, both with synced commits.
//!
//! Accept, claim and settle of the same messages as in the bench `inbox`; two batches are in flight. The server is a child
//! process on a Unix socket with its own defaults. `cargo bench -p mqtally --bench postgres`; directory: `TMPDIR`.
//! With `-- --statements` it prints where the server's time goes with one member and batches of 16 and 128, and nothing else.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/postgres_support/mod.rs"]
mod postgres_support;

use mqtally::inbox::key::Key;
use mqtally::inbox::{Arrival, Inbox, InboxError, Outcome, Settings};
use mqtally_proto::packet::Qos;
use postgres_support::Server;
use std::collections::VecDeque;
use std::error::Error;
use std::time::Instant;

const PAYLOAD_BYTES: usize = 100;
const IN_FLIGHT: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == "--statements") {
        return [16, 128].into_iter().try_for_each(statements);
    }
    let Some(server) = Server::start_durable() else { return Ok(()) };
    println!("{:>6} {:>14} {:>16} {:>22}", "batch", "sqlite msg/s", "postgres msg/s", "two members, msg/s");
    for batch in [16, 128, 1_024] {
        let messages = (batch * 300).clamp(10_000, 100_000) / batch * batch;
        let file = server.socket().join(format!("inbox-{batch}.db"));
        let sqlite = rate(vec![Inbox::open(&file, Settings::default())?.0], messages, batch)?;
        let join = |schema: &str, member: &str| -> Result<Inbox, Box<dyn Error>> {
            Ok(Inbox::open_shared(&server.url(schema).parse()?, member, Settings::default())?.0)
        };
        let one = rate(vec![join(&format!("one_{batch}"), "a")?], messages, batch)?;
        let schema = format!("two_{batch}");
        let two = rate(vec![join(&schema, "a")?, join(&schema, "b")?], messages, batch)?;
        println!("{batch:>6} {sqlite:>14.0} {one:>16.0} {two:>22.0}");
    }
    Ok(())
}

/// Microseconds of the server a message, by statement.
fn statements(batch: usize) -> Result<(), Box<dyn Error>> {
    const MESSAGES: usize = 12_800;
    let Some(server) = Server::start_profiled() else { return Ok(()) };
    let inbox = Inbox::open_shared(&server.url("profiled").parse()?, "a", Settings::default())?.0;
    server.value("SELECT pg_stat_statements_reset()");
    println!("batches of {batch}: {:.0} msg/s", rate(vec![inbox], MESSAGES, batch)?);
    let total = "SELECT round(sum(total_exec_time + total_plan_time)::numeric * 1000 / 12800, 2) FROM pg_stat_statements";
    println!("{} us/message", server.value(total));
    let sql = format!(
        "SELECT format('%7s us/message %7s planned %8s calls %8s us/call  %s',
                round((total_exec_time * 1000 / {MESSAGES})::numeric, 2),
                round((total_plan_time * 1000 / {MESSAGES})::numeric, 2),
                calls, round(mean_exec_time::numeric * 1000), left(regexp_replace(query, '\\s+', ' ', 'g'), 90))
         FROM pg_stat_statements WHERE calls > 5 ORDER BY total_exec_time DESC LIMIT 14"
    );
    println!("{}", server.value(&sql));
    Ok(())
}

/// Messages a second of all members together.
fn rate(members: Vec<Inbox>, messages: usize, batch: usize) -> Result<f64, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let start = Instant::now();
        let share = messages / members.len();
        let mut work = tokio::task::JoinSet::new();
        for (at, inbox) in members.iter().enumerate() {
            work.spawn(feed(inbox.clone(), at * share..(at + 1) * share, batch));
            work.spawn(drain(inbox.clone(), share, batch));
        }
        while let Some(ended) = work.join_next().await {
            ended??;
        }
        let elapsed = start.elapsed();
        let counted = members[0].statistics().await?;
        assert_eq!((counted.processed, counted.unsettled), ((share * members.len()) as u64, 0));
        for inbox in members {
            inbox.close().await;
        }
        Ok(messages as f64 / elapsed.as_secs_f64())
    })
}

async fn feed(inbox: Inbox, numbers: std::ops::Range<usize>, batch: usize) -> Result<(), InboxError> {
    let mut in_flight = VecDeque::new();
    for first in numbers.clone().step_by(batch) {
        let arrivals = (first..(first + batch).min(numbers.end)).map(|n| arrival(n as u64)).collect();
        in_flight.push_back(inbox.submit(arrivals).await?);
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.durable().await?;
        }
    }
    for submitted in in_flight {
        submitted.durable().await?;
    }
    Ok(())
}

/// Takes its share: with several members whose messages these are is chance.
async fn drain(inbox: Inbox, share: usize, batch: usize) -> Result<(), InboxError> {
    let mut settled = 0;
    while settled < share {
        let claimed = inbox.claim(0, batch.min(share - settled)).await?;
        settled += claimed.len();
        let settlements = claimed.iter().map(|delivery| (delivery.lease(), Outcome::Done)).collect();
        inbox.settle_all(settlements).await?;
    }
    Ok(())
}

fn arrival(n: u64) -> Arrival {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    Arrival {
        qos: Qos::AtLeastOnce,
        key: Some(Key { id, text: format!("0192f0c1-7a1b-7000-8000-{n:012x}"), also: Vec::new() }),
        topic: format!("plant/line-{}/temperature", n % 64).into(),
        payload: vec![n as u8; PAYLOAD_BYTES].into(),
        ..Arrival::default()
    }
}
