//! Carrying out one strike.

use super::client::Client;
use super::theatre::{Cast, told_as};
use super::traffic::Phase;
use crate::nemesis::{Act, Deed, Strike, is_of_publisher};
use crate::proxy::{Rule, RuleId};
use crate::workload::restart::end_and_start;
use crate::workload::scene::Lifetime;
use crate::workload::{Probe, Trouble};
use mqtally::connection::Closing;
use mqtally_history::event::BrokerEvent;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a broker may take to close the connection of a client that was taken over.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);
/// How long a broker is paused, unless the strike says so.
const PAUSE_MS: u64 = 100;
/// How often clients connect for a rule that waits for it.
const CONNECTS_MAX: usize = 10;

impl Cast {
    /// Does what `strike` says, and waits until everybody is back. The traffic goes on beside it.
    pub(super) async fn carry_out(
        &self,
        strike: &Strike,
        phase: &watch::Sender<Phase>,
    ) -> Result<(), Trouble> {
        let rule = strike.proxied();
        self.told.call(told_as(strike));
        let id = self.proxy.add(rule.clone()).map_err(|error| not_struck(strike, &error.to_string()))?;
        if strike.awaits_connect() {
            self.provoke(rule, id).await?;
        }
        self.until_struck(strike, id, phase).await?;
        match &strike.deed {
            Deed::Rule(rule) => self.let_it_last(rule).await,
            Deed::Act(act, rule) => self.act(*act, rule, id).await?,
        }
        self.proxy.remove(id);
        for client in self.everybody() {
            client.until_back().await?;
        }
        Ok(())
    }

    /// Lets the clients connect that the rule waits for.
    async fn provoke(&self, rule: &Rule, id: RuleId) -> Result<(), Trouble> {
        for _ in 0..CONNECTS_MAX {
            for client in self.struck_by(rule) {
                client.connect_again(Closing::Fin).await?;
            }
            if self.has_struck(id) {
                break;
            }
        }
        Ok(())
    }

    async fn until_struck(
        &self,
        strike: &Strike,
        id: RuleId,
        phase: &watch::Sender<Phase>,
    ) -> Result<(), Trouble> {
        let (mut strikes, mut phase) = (self.told.strikes.subscribe(), phase.subscribe());
        loop {
            strikes.mark_unchanged();
            if self.has_struck(id) {
                return Ok(());
            }
            if *phase.borrow_and_update() == Phase::Exhausted {
                return Err(not_struck(strike, "its packet did not come"));
            }
            // Both senders live as long as the strike.
            tokio::select! {
                _ = strikes.changed() => {}
                _ = phase.changed() => {}
            }
        }
    }

    /// What lasts for a time has it; what has no end of its own ends with the batch that is under way.
    async fn let_it_last(&self, rule: &Rule) {
        if let Some(ms) = rule.duration_ms().filter(|_| rule.fault().lasts()) {
            sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Does a deed while the rule `id` holds the link still, and lets it go in time.
    async fn act(&self, act: Act, rule: &Rule, id: RuleId) -> Result<(), Trouble> {
        let client = self.client_at(rule);
        match act {
            Act::HalfOpen => {
                self.scene.recorder.fault("half-open", Some(client.name()));
                // Nobody will answer a FIN.
                client.connect_again(Closing::Rst).await?;
            }
            Act::Takeover => self.take_over(client, id).await?,
            Act::KillClient => {
                self.scene.recorder.fault("kill-client", Some(client.name()));
                client.connect_again(Closing::Rst).await?;
            }
            Act::WipeClient => {
                self.scene.recorder.fault("wipe-client", Some(client.name()));
                client.forget(&self.scene).await?;
            }
            // These are played elsewhere, with processes.
            Act::KillProcess | Act::WipeProcess => {
                let why = "no process takes part".to_owned();
                return Err(Trouble::NotStruck { strike: act.name().to_owned(), why });
            }
            Act::PauseBroker => self.pause_broker(rule, id).await?,
            Act::TerminateBroker | Act::KillBroker => self.restart_broker(act, id).await?,
        }
        Ok(())
    }

    /// On whose link such a packet is.
    fn client_at(&self, rule: &Rule) -> &Client {
        let is_publisher = rule.moment().is_some_and(|moment| is_of_publisher(moment.direction, moment.kind));
        if is_publisher { &self.publisher } else { &self.subscriber }
    }

    /// Somebody connects under the client's id, past the proxy, and acknowledges nothing. The client finds its
    /// connection closed and takes its session back.
    async fn take_over(&self, client: &Client, id: RuleId) -> Result<(), Trouble> {
        self.scene.recorder.fault("takeover", Some(client.name()));
        let mut intruder = Probe::open(&self.scene, client.name(), Lifetime::DURABLE).await?;
        intruder.hold();
        self.proxy.remove(id);
        intruder.until_ended(TAKEOVER_LIMIT).await;
        Ok(())
    }

    async fn pause_broker(&self, rule: &Rule, id: RuleId) -> Result<(), Trouble> {
        let broker = self.scene.broker.lock().await;
        broker.pause()?;
        self.scene.recorder.broker(BrokerEvent::Paused);
        self.proxy.remove(id);
        sleep(Duration::from_millis(rule.duration_ms().unwrap_or(PAUSE_MS))).await;
        broker.resume()?;
        self.scene.recorder.broker(BrokerEvent::Resumed);
        Ok(())
    }

    /// Everybody loses a connection, and maybe a session: what is sent before all are back may be owed to nobody.
    async fn restart_broker(&self, act: Act, id: RuleId) -> Result<(), Trouble> {
        let before = self.everybody().map(|client| client.peer().standing().connections);
        end_and_start(&self.scene, act == Act::TerminateBroker).await?;
        self.proxy.remove(id);
        for (client, before) in self.everybody().into_iter().zip(before) {
            client.until_connected_since(before).await?;
        }
        Ok(())
    }
}

fn not_struck(strike: &Strike, why: &str) -> Trouble {
    Trouble::NotStruck { strike: strike.to_string(), why: why.to_owned() }
}
