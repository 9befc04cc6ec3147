//! A publisher: the library's client, with a number of its own and an account of what was acknowledged.

use super::Trouble;
use super::peer::{Peer, Standing};
use super::scene::{Lifetime, Scene};
use super::source::{Outgoing, Source};
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::Qos;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Messages that a publisher has in flight, where windows are not what the stage is about.
const IN_FLIGHT_MAX: u16 = 10;

/// Publishes messages that can be told apart, and knows which were acknowledged.
pub(crate) struct Publisher {
    pub(crate) peer: Arc<Peer>,
    scene: Scene,
    number: u32,
    streams: u16,
    sent: u64,
    /// How long nothing may move before it gives up.
    limit: Duration,
}

impl Publisher {
    /// Connects for one connection.
    pub(crate) async fn connect(scene: &Scene, role: &str) -> Result<Self, Trouble> {
        Self::with(scene, role, Lifetime::CLEAN, IN_FLIGHT_MAX).await
    }

    /// Connects with this lifetime and window.
    pub(crate) async fn with(
        scene: &Scene,
        role: &str,
        lifetime: Lifetime,
        window: u16,
    ) -> Result<Self, Trouble> {
        let peer = Peer::new(scene, &scene.client(role), lifetime, window, Box::new(drop));
        peer.connect().await?;
        Ok(Self {
            peer: Arc::new(peer),
            scene: scene.clone(),
            number: scene.publisher_number(),
            streams: 0,
            sent: 0,
            limit: scene.plan.answer_limit,
        })
    }

    /// From now on it waits so much longer, where the broker is away on purpose.
    pub(crate) fn be_patient(&mut self, longer: Duration) {
        self.limit += longer;
    }

    /// A new stream of this publisher.
    pub(crate) fn stream(&mut self, topic: &str, qos: Qos) -> Source {
        let stream = self.streams;
        self.streams += 1;
        Source::new(self.scene.plan.run, self.number, stream, topic, self.scene.offered(qos))
    }

    /// Hands one message to the client as soon as its window has room.
    pub(crate) async fn send(&mut self, message: Outgoing) -> Result<(), Trouble> {
        let accepted = self.peer.client.publish(self.sent, message.publish);
        let failed = |error: String| Trouble::Failed { client: self.peer.name.to_string(), error };
        match timeout(self.limit, accepted).await {
            Ok(Ok(())) => {
                self.sent += 1;
                Ok(())
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(self.unacknowledged()),
        }
    }

    /// Waits until every message sent so far was acknowledged to the end, and accepted.
    pub(crate) async fn settle(&self) -> Result<(), Trouble> {
        let settled = self.peer.until("acknowledgement", |standing| standing.completed >= self.sent);
        self.accepted(settled.await)
    }

    fn accepted(&self, settled: Result<Standing, Trouble>) -> Result<(), Trouble> {
        let why = |trouble| match trouble {
            Trouble::Fruitless { .. } => trouble,
            _ => self.unacknowledged(),
        };
        match settled.map_err(why)?.refused {
            Some(reason) => {
                Err(Trouble::NotAccepted { client: self.peer.name.to_string(), what: "PUBLISH", reason })
            }
            None => Ok(()),
        }
    }

    /// The same, however many connections that takes.
    pub(crate) async fn settle_across(&self) -> Result<(), Trouble> {
        let is_settled = |standing: &Standing| standing.completed >= self.sent;
        self.accepted(self.peer.until_across(self.limit, "acknowledgement", is_settled).await)
    }

    /// Both for a whole batch; returns what the messages are called.
    pub(crate) async fn send_and_settle(
        &mut self,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<MessageId>, Trouble> {
        let ids = messages.iter().map(|message| message.id).collect();
        for message in messages {
            self.send(message).await?;
        }
        self.settle().await?;
        Ok(ids)
    }

    /// DISCONNECT and an orderly end.
    pub(crate) async fn disconnect(self) -> Result<(), Trouble> {
        self.peer.disconnect().await;
        Ok(())
    }

    fn unacknowledged(&self) -> Trouble {
        let pending = self.sent.saturating_sub(self.peer.standing().completed);
        let seconds = self.limit.as_secs();
        Trouble::Unacknowledged { client: self.peer.name.to_string(), pending, seconds }
    }
}
