//! What goes on while a strike is awaited: messages, in batches that each settle.

use crate::nemesis::Load;
use crate::workload::publisher::Publisher;
use crate::workload::{Scene, Source, Trouble};
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::Qos;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Batches in which a strike has to happen.
const BATCHES_MAX: usize = 60;

/// How far the traffic and the strike in it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Flowing,
    /// The strike is over: no more is needed.
    Enough,
    /// So much has flown, its deliveries had their time, and nothing struck.
    Exhausted,
}

/// A publisher and its streams.
pub(super) struct Traffic {
    publisher: Publisher,
    streams: Vec<Source>,
    load: Load,
    /// How long nothing may strike when everything has flown.
    limit: Duration,
}

impl Traffic {
    pub(super) fn new(scene: &Scene, mut publisher: Publisher, load: Load, topic: &str) -> Self {
        let stream = |qos| publisher.stream(&scene.topic(&format!("{topic}/qos{}", qos as u8)), qos);
        let streams = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(stream).into();
        Self { publisher, streams, load, limit: scene.plan.answer_limit }
    }

    /// Sends until it is enough, or for long enough. A broker may be slower with deliveries than with acknowledgements, so
    /// what a strike waits for may still be on its way then.
    pub(super) async fn flow(&mut self, phase: &watch::Sender<Phase>) -> Result<(), Trouble> {
        for _ in 0..BATCHES_MAX {
            self.batch().await?;
            if *phase.borrow() == Phase::Enough {
                return Ok(());
            }
        }
        let mut struck = phase.subscribe();
        if timeout(self.limit, struck.wait_for(|phase| *phase == Phase::Enough)).await.is_err() {
            phase.send_replace(Phase::Exhausted);
        }
        Ok(())
    }

    async fn batch(&mut self) -> Result<(), Trouble> {
        let body = self.load.body();
        for _ in 0..self.load.batch() {
            for stream in &mut self.streams {
                self.publisher.send(stream.load(&body)).await?;
            }
        }
        self.publisher.settle_across().await
    }

    /// Ends the streams, one batch behind the last strike: what that has broken may show in what comes next. Returns the
    /// sentinels.
    pub(super) async fn end(&mut self) -> Result<Vec<MessageId>, Trouble> {
        self.batch().await?;
        let mut ids = Vec::new();
        for stream in &mut self.streams {
            let sentinel = stream.sentinel();
            ids.push(sentinel.id);
            self.publisher.send(sentinel).await?;
        }
        self.publisher.settle_across().await?;
        Ok(ids)
    }
}
