//! Traffic in the middle of which the broker ends.
//!
//! A broker that acknowledges before it writes is found out only where its writes queue up, so many messages are under
//! way at once: several publishers, each with a window that no broker's default limit cuts.

use super::{ANSWER_LIMIT, Acknowledged, Link, Names, PACED, ROUND_LIMIT};
use mqtally::client::{Client, Event};
use mqtally_proto::packet::{Publish, Qos};
use mqtally_proto::session;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many publishers.
const PUBLISHERS: u32 = 4;
/// Messages that each has under way: some brokers take 20 of a client by default, and lose what is above.
const WINDOW: u16 = 16;
/// Messages that each sends unless the broker ends: with [`PACED`] fewer than the 1,000 that some brokers keep for a
/// session by default.
const MESSAGES: u32 = 200;
/// How many of all have to be acknowledged before the broker ends: twice what can be under way at a time.
const UNDER_WAY: u32 = 2 * PUBLISHERS * WINDOW as u32;

/// The publishers at work.
pub(super) struct Burst {
    publishers: JoinSet<Acknowledged>,
    count: watch::Receiver<u32>,
}

impl Burst {
    /// Connects them, and lets them go.
    pub(super) async fn start(names: &Names, highest: Qos) -> Result<Self, String> {
        let (count, counted) = watch::channel(0);
        let mut links = Vec::new();
        for publisher in 0..PUBLISHERS {
            links.push(names.connect_with(&format!("burst-{publisher}"), true, WINDOW).await?);
        }
        let mut publishers = JoinSet::new();
        for (publisher, link) in (0..).zip(links) {
            let first = PACED + publisher * MESSAGES;
            let numbers = first..first + MESSAGES;
            let messages = numbers.map(|number| (number, names.message(number, highest))).collect();
            publishers.spawn(pour(link, messages, count.clone()));
        }
        Ok(Self { publishers, count: counted })
    }

    /// Waits until it is in full flow. A slow broker may take its time, as long as it goes on.
    pub(super) async fn is_under_way(&mut self) -> Result<(), String> {
        loop {
            let count = *self.count.borrow_and_update();
            if count >= UNDER_WAY {
                return Ok(());
            }
            match timeout(ANSWER_LIMIT, self.count.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the broker ended a connection in the middle of traffic".to_owned()),
                Err(_) => return Err(stalled(count)),
            }
        }
    }

    /// What the broker had acknowledged when it ended. An acknowledgement that is read only now had left it before.
    pub(super) async fn acknowledged(self) -> Result<Acknowledged, String> {
        let all = timeout(ROUND_LIMIT, self.publishers.join_all()).await;
        let all = all.map_err(|_| "a connection outlived the broker's end".to_owned())?;
        Ok(all.into_iter().flatten().collect())
    }
}

fn stalled(count: u32) -> String {
    format!(
        "no acknowledgement within {} s behind the first {count}, up to {} messages being under way",
        ANSWER_LIMIT.as_secs(),
        PUBLISHERS * u32::from(WINDOW)
    )
}

/// Publishes until the connection ends.
async fn pour(mut link: Link, messages: Vec<(u32, Publish)>, count: watch::Sender<u32>) -> Acknowledged {
    let sending = tokio::spawn(send(link.client.clone(), messages));
    let mut acknowledged = Acknowledged::new();
    while let Some(event) = link.events.recv().await {
        match event {
            Event::Session(session::Event::Completed { token, reason }) if !reason.is_error() => {
                acknowledged.extend(u32::try_from(token).map(|number| (number, Instant::now())));
                count.send_modify(|count| *count += 1);
            }
            Event::Session(_) => {}
            Event::Closed { .. } => break,
        }
    }
    sending.abort();
    acknowledged
}

async fn send(client: Client, messages: Vec<(u32, Publish)>) {
    for (number, publish) in messages {
        if client.publish(number.into(), publish).await.is_err() {
            break;
        }
    }
}
