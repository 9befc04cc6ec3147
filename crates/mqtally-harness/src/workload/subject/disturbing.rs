//! What is done to a program under test beside cutting its link and killing it: its session is taken over, its broker
//! restarted, it is made to connect in quick succession, and asked about an exchange that it has never seen.

use super::{Bench, Waited};
use crate::proxy::RuleId;
use crate::workload::probe::pubrel;
use crate::workload::restart::end_and_start;
use crate::workload::scene::Lifetime;
use crate::workload::{Probe, Trouble};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::{Ack, Packet, Publish, Qos};
use std::time::Duration;

/// How long it may take to take its session back.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(15);
/// Other connections under its client id, just before its own.
const STORM: &str = "storm 3 within 10ms";
/// Its own ones end as soon as they are accepted, so often.
const SHORT_LIVED: &str = "cut fin after s2c CONNACK times 2";
const SHORT_LIVED_TIMES: u32 = 2;

/// Moments at which the program has something unfinished and hears what the broker says, while the broker does not hear
/// it; with the QoS that has them.
pub(super) const UNFINISHED_OUTWARD: [(&str, Qos); 2] = [
    ("stall c2s after c2s PUBLISH K qos=2", Qos::ExactlyOnce),
    ("stall c2s after c2s PUBLISH K qos=1", Qos::AtLeastOnce),
];
/// The same of messages to it.
pub(super) const UNFINISHED_INWARD: [(&str, Qos); 2] = [
    ("stall c2s after s2c PUBLISH K qos=2", Qos::ExactlyOnce),
    ("stall c2s after s2c PUBLISH K qos=1", Qos::AtLeastOnce),
];

/// How a broker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokerEnd {
    /// SIGTERM.
    Asked,
    /// SIGKILL.
    Killed,
}

/// The moment that a program with these QoS has.
pub(super) fn moment(of: &[(&'static str, Qos)], has: impl Fn(Qos) -> bool) -> Option<&'static str> {
    of.iter().find(|(_, qos)| has(*qos)).map(|(rule, _)| *rule)
}

impl Bench {
    /// The ends of the broker that it has to survive with everything that it acknowledged. Behind others it may do what
    /// it likes, and a client cannot be judged by what comes of that.
    pub(super) async fn broker_ends(&self) -> Vec<BrokerEnd> {
        if !self.scene.broker.lock().await.can_restart() {
            return Vec::new();
        }
        let profile = self.scene.recorder.profile();
        let ends = [(BrokerEnd::Asked, Profile::Graceful), (BrokerEnd::Killed, Profile::Durable)];
        ends.into_iter().filter(|(_, least)| profile >= *least).map(|(end, _)| end).collect()
    }

    /// Somebody else connects under its client id, past the proxy, and acknowledges nothing, until the program takes its
    /// session back. One that leaves it is started again: it need not come back by itself.
    pub(super) async fn take_over(&mut self, accepted: u64) -> Result<(), Trouble> {
        let Some(client) = self.tap.client() else { return Ok(()) };
        self.scene.recorder.fault("takeover", Some(&client));
        let mut intruder = Probe::open(&self.scene, &client, Lifetime::DURABLE).await?;
        intruder.hold();
        self.let_in();
        let took_back = async {
            intruder.until_ended(TAKEOVER_LIMIT).await;
            Ok::<(), Trouble>(())
        };
        let back = self.until(TAKEOVER_LIMIT, |now| now.accepted > accepted && now.connected);
        let (_, back) = tokio::try_join!(took_back, back)?;
        if back == Waited::Late {
            self.kill().await?;
            self.start()?;
        }
        Ok(())
    }

    /// While the program is away somebody else takes one of its QoS 2 messages up to PUBREL, and goes. The PUBREL that
    /// the program gets then names an exchange that it has never seen, and has to be answered all the same.
    pub(super) async fn take_up_to_pubrel(&mut self) -> Result<(), Trouble> {
        let Some(client) = self.tap.client() else { return Ok(()) };
        let mut intruder = Probe::open(&self.scene, &client, Lifetime::DURABLE).await?;
        if !intruder.session_present() {
            intruder.disconnect().await?;
            // There is none again, so that the program subscribes anew.
            return self.lose_session().await;
        }
        self.scene.recorder.fault("stray-pubrel", Some(&client));
        intruder.hold();
        let id = intruder.expect("PUBLISH at QoS 2", qos_2).await?;
        intruder.send(Packet::Pubrec(Ack::success(id))).await?;
        intruder.expect_ack("PUBREL", id, pubrel).await?;
        intruder.disconnect().await
    }

    /// Others connect under its client id just before it does, and its own connections end as soon as they are accepted.
    pub(super) fn make_a_storm(&self) -> Result<[RuleId; 2], Trouble> {
        Ok([self.rule(STORM)?, self.rule(SHORT_LIVED)?])
    }

    /// Waits until it has lived through a storm.
    pub(super) async fn ride_out(&mut self, [storm, short_lived]: [RuleId; 2]) -> Result<(), Trouble> {
        self.struck(storm).await?;
        self.struck_times(short_lived, SHORT_LIVED_TIMES).await
    }

    /// The broker ends and is started again, while the program is shut out.
    pub(super) async fn restart_broker(&mut self, end: BrokerEnd) -> Result<(), Trouble> {
        self.rule("refuse rst")?;
        end_and_start(&self.scene, end == BrokerEnd::Asked).await
    }
}

fn qos_2(packet: &Packet) -> Option<u16> {
    match packet {
        Packet::Publish(Publish { qos: Qos::ExactlyOnce, packet_id, .. }) => *packet_id,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Rule;

    #[test]
    fn every_rule_can_be_read() {
        let moments = UNFINISHED_INWARD.into_iter().chain(UNFINISHED_OUTWARD).map(|(rule, _)| rule);
        for rule in moments.chain([STORM, SHORT_LIVED]) {
            let text = rule.replace(" K", " 2");
            assert!(text.parse::<Rule>().is_ok(), "{text}");
        }
    }
}
