//! A device: it publishes on a timetable, whatever becomes of its connection.

use super::super::peer::{Peer, Standing};
use super::super::source::{Outgoing, Source};
use super::{Scene, Trouble};
use crate::scenario::{Scenario, Stream};
use mqtally_history::event::EventKind;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Property, Qos};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Messages that a device has in flight.
pub(super) const IN_FLIGHT_MAX: u16 = 20;
/// Messages that a device keeps for its connection; with more, its timetable has to wait.
const KEPT_MAX: usize = 10_000;

/// One device of a stream.
pub(super) struct Device {
    pub(super) peer: Arc<Peer>,
    pub(super) source: Source,
    /// The message that it took on last.
    pub(super) newest: Option<MessageId>,
    scene: Scene,
    pub(super) stream: Stream,
    /// Its number among the devices of its stream, from 1.
    number: u32,
    messages: u32,
    /// When its first message is due, since the story began, and the time between two.
    first: Duration,
    every: Duration,
    expiry_s: Option<u32>,
    /// Messages that wait for room in its window.
    kept: VecDeque<Outgoing>,
    /// Messages that its client took.
    submitted: u64,
}

impl Device {
    pub(super) fn new(
        scene: &Scene,
        scenario: &Scenario,
        stream: &Stream,
        number: u32,
        peer: Peer,
        source: Source,
    ) -> Self {
        // Devices do not speak in chorus; where in its interval one does the seed decides.
        let mut random = scene.random(&format!("device/{}/{number}", stream.name));
        let slack = scenario.compressed(scenario.slack(stream));
        let every = scenario.compressed(stream.every);
        Self {
            peer: Arc::new(peer),
            source,
            newest: None,
            scene: scene.clone(),
            stream: stream.clone(),
            number,
            messages: scenario.count_of(stream),
            first: scenario.compressed(stream.from) + slack.min(every).mul_f64(random.f64()),
            every,
            expiry_s: stream.expiry.map(|expiry| scenario.whole_seconds(expiry)),
            kept: VecDeque::new(),
            submitted: 0,
        }
    }

    /// Publishes everything; ready when its client has taken the last message.
    pub(super) async fn publish(mut self, began: Instant) -> Result<Self, Trouble> {
        for number in 0..self.messages {
            let due = began + self.first + self.every.saturating_mul(number);
            self.until(due).await?;
            self.accept(number, due).await?;
        }
        while !self.kept.is_empty() {
            self.submit_next().await?;
        }
        Ok(self)
    }

    /// Submits what is kept until the next message is due.
    async fn until(&mut self, due: Instant) -> Result<(), Trouble> {
        loop {
            if self.kept.is_empty() {
                sleep_until(due).await;
                return Ok(());
            }
            let full = self.kept.len() >= KEPT_MAX;
            tokio::select! {
                biased;
                submitted = self.submit_next() => submitted?,
                () = sleep_until(due), if !full => return Ok(()),
            }
        }
    }

    /// Takes a message on. At QoS 0 it is sent or lost there and then, above it is kept until it can be sent.
    async fn accept(&mut self, number: u32, due: Instant) -> Result<(), Trouble> {
        let payload = self.stream.payload_of(self.number, u64::from(number) + 1);
        let mut message = self.source.text(&payload);
        message.publish.retain = self.stream.retained;
        if let Some(seconds) = self.expiry_s.filter(|_| self.scene.is_v5()) {
            message = message.with(Property::MessageExpiryInterval(seconds));
        }
        let late_ns = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.newest = Some(message.id);
        self.scene.recorder.record(EventKind::Accepted { message: message.id, late_ns });
        if self.source.qos() > Qos::AtMostOnce || !self.peer.standing().closed {
            self.kept.push_back(message);
        }
        Ok(())
    }

    /// Hands the oldest message to the client as soon as its window has room. Cancel-safe.
    async fn submit_next(&mut self) -> Result<(), Trouble> {
        let Some(next) = self.kept.front() else { return Ok(()) };
        let taken = self.peer.client.publish(self.submitted, next.publish.clone()).await;
        taken.map_err(|error| Trouble::Failed {
            client: self.peer.name.to_string(),
            error: error.to_string(),
        })?;
        self.kept.pop_front();
        self.submitted += 1;
        Ok(())
    }

    /// Ends its stream.
    pub(super) async fn send_sentinel(&mut self) -> Result<Outgoing, Trouble> {
        let sentinel = self.source.sentinel();
        self.kept.push_back(sentinel.clone());
        self.submit_next().await?;
        Ok(sentinel)
    }

    /// Waits until everything that can be acknowledged is, over as many connections as that takes.
    pub(super) async fn settle(&self) -> Result<(), Trouble> {
        if self.source.qos() == Qos::AtMostOnce {
            return Ok(());
        }
        let wanted = self.submitted;
        let limit = self.scene.plan.answer_limit;
        let settled = |standing: &Standing| standing.completed >= wanted;
        self.peer.until_across(limit, "acknowledgement", settled).await.map(drop)
    }
}
