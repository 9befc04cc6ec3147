//! Who breaks what, and when.

use super::link::Plight;
use super::{Scene, Trouble};
use crate::scenario::{Fault, FaultKind, Scenario, Turn};
use mqtally_history::event::BrokerEvent;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Strikes as the scenario says.
pub(super) struct Nemesis {
    scene: Scene,
    scenario: Arc<Scenario>,
    began: Instant,
    plights: FxHashMap<String, watch::Sender<Plight>>,
    up: watch::Sender<bool>,
}

impl Nemesis {
    pub(super) fn new(scene: &Scene, scenario: &Arc<Scenario>, began: Instant) -> Self {
        let streams = scenario.streams.iter().map(|stream| stream.name.clone());
        let names = streams.chain(scenario.subscribers.iter().map(|subscriber| subscriber.name.clone()));
        let plights = names.map(|name| (name, watch::Sender::default())).collect();
        let (scene, scenario, up) = (scene.clone(), scenario.clone(), watch::Sender::new(true));
        Self { scene, scenario, began, plights, up }
    }

    /// What becomes of the clients of the stream or subscriber `name`.
    pub(super) fn plight(&self, name: &str) -> watch::Receiver<Plight> {
        self.plights[name].subscribe()
    }

    /// Whether the broker runs.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Strikes in turn; ready when the last fault is over. A broker that is not ours is left alone.
    pub(super) async fn strike(&self) -> Result<(), Trouble> {
        let can_restart = self.scene.broker.lock().await.can_restart();
        let mut down = 0_u32;
        for (at, turn) in self.scenario.turns() {
            sleep_until(self.began + self.scenario.compressed(at)).await;
            match turn {
                Turn::Begins(fault) if !fault.kind.strikes_broker() => self.plague(fault, true),
                Turn::Ends(fault) if !fault.kind.strikes_broker() => self.plague(fault, false),
                _ if !can_restart => {}
                // Where two of them overlap the broker is gone from the beginning of one to the end of the other.
                Turn::Begins(fault) => {
                    down += 1;
                    if down == 1 {
                        self.take_down(fault.kind).await?;
                    }
                }
                Turn::Ends(_) => {
                    down -= 1;
                    if down == 0 {
                        self.bring_up().await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn plague(&self, fault: &Fault, begins: bool) {
        let Some(plight) = fault.of.as_ref().and_then(|name| self.plights.get(name)) else { return };
        let count = |number: &mut u32| *number = if begins { *number + 1 } else { number.saturating_sub(1) };
        plight.send_modify(|plight| match fault.kind {
            FaultKind::Stall => count(&mut plight.stalled),
            kind => {
                plight.strikes += u64::from(begins);
                plight.leaves = kind == FaultKind::Leave;
                count(&mut plight.away);
            }
        });
    }

    async fn take_down(&self, kind: FaultKind) -> Result<(), Trouble> {
        self.up.send_replace(false);
        let mut broker = self.scene.broker.lock().await;
        match kind {
            FaultKind::KillBroker => {
                broker.kill_9().await?;
                self.scene.recorder.broker(BrokerEvent::Killed);
            }
            _ => {
                // Connections that it closes while it stops are explained by this.
                self.scene.recorder.broker(BrokerEvent::Terminated);
                broker.terminate().await?;
            }
        }
        Ok(())
    }

    async fn bring_up(&self) -> Result<(), Trouble> {
        self.scene.broker.lock().await.restart().await?;
        self.scene.recorder.broker(BrokerEvent::Started);
        self.up.send_replace(true);
        Ok(())
    }
}
