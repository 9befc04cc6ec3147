//! Broken on purpose: brokers, by a hook on the packets, and stores.

#![expect(clippy::print_stdout, reason = "the kill matrix is for people")]

use mqtally_harness::sim::{Crossing, Defect, Passed, Simulation, Tamper, Toward};
use mqtally_history::profile::Profile;
use mqtally_history::report::{Report, Severity, Verdict};
use mqtally_proto::packet::{Ack, Packet, Publish, Qos};
use std::collections::BTreeSet;

/// Far more than are needed: what is broken shows within some tens.
const SEEDS_MAX: u64 = 400;
/// A packet id that the broker never reaches.
const OWN_PACKET_ID: u16 = 60_000;

fn broken(report: &Report) -> Vec<(&'static str, Severity)> {
    let broken = report.promises.iter().filter(|promise| promise.verdict == Verdict::Broken);
    broken.map(|promise| (promise.id, promise.severity)).collect()
}

/// A seed shows this promise broken, and none before it another one of severity S1.
fn check<T: Tamper>(mutant: impl Fn() -> T, promise: &str) {
    let flagged = (0..SEEDS_MAX).any(|seed| {
        let broken = broken(&Simulation::new(seed).run_through(&mut mutant()).report());
        let others = broken.iter().filter(|(id, severity)| *id != promise && *severity == Severity::S1);
        assert_eq!(others.count(), 0, "seed {seed} broke {broken:?}");
        broken.iter().any(|(id, _)| *id == promise)
    });
    assert!(flagged, "{promise} was never broken");
    println!(
        "{:>20} broken [{promise:?}]",
        std::any::type_name::<T>().rsplit("::").next().unwrap_or_default()
    );
}

/// Acknowledges every seventh QoS 1 delivery in the subscriber's stead and drops it.
#[derive(Default)]
struct DropsQos1(u32);

impl Tamper for DropsQos1 {
    fn pass(&mut self, crossing: &Crossing<'_>, packet: Packet) -> Passed {
        match packet {
            Packet::Publish(Publish {
                qos: Qos::AtLeastOnce,
                packet_id: Some(id),
                retain: false,
                dup: false,
                ..
            }) if crossing.toward == Toward::Client => {
                self.0 += 1;
                if self.0.is_multiple_of(7) {
                    Passed::answer(Packet::Puback(Ack::success(id)))
                } else {
                    Passed::on(packet)
                }
            }
            other => Passed::on(other),
        }
    }
}

/// Delivers every fifth QoS 2 message again as a new one, and carries its handshake through.
#[derive(Default)]
struct DeliversQos2Twice(u32);

impl Tamper for DeliversQos2Twice {
    fn pass(&mut self, crossing: &Crossing<'_>, packet: Packet) -> Passed {
        match (crossing.toward, packet) {
            (Toward::Client, Packet::Publish(publish))
                if publish.qos == Qos::ExactlyOnce && !publish.retain =>
            {
                self.0 += 1;
                let again = Publish { packet_id: Some(OWN_PACKET_ID), dup: false, ..publish.clone() };
                let copies = if self.0.is_multiple_of(5) { vec![publish, again] } else { vec![publish] };
                Passed::all(copies.into_iter().map(Packet::Publish).collect())
            }
            (Toward::Broker, Packet::Pubrec(ack)) if ack.packet_id == OWN_PACKET_ID => {
                Passed::answer(Packet::Pubrel(ack))
            }
            (Toward::Broker, Packet::Pubcomp(ack)) if ack.packet_id == OWN_PACKET_ID => Passed::default(),
            (_, other) => Passed::on(other),
        }
    }
}

/// Forgets on a new connection which messages had been released: their PUBREL is not sent again.
#[derive(Default)]
struct ForgetsPubrel {
    /// Deliveries begun on a connection.
    begun: BTreeSet<(String, u32, u16)>,
}

impl Tamper for ForgetsPubrel {
    fn pass(&mut self, crossing: &Crossing<'_>, packet: Packet) -> Passed {
        let exchange = |id| (crossing.client.to_owned(), crossing.connection, id);
        match (crossing.toward, &packet) {
            (Toward::Client, Packet::Publish(Publish { packet_id: Some(id), .. })) => {
                self.begun.insert(exchange(*id));
                Passed::on(packet)
            }
            (Toward::Client, Packet::Pubrel(ack)) if !self.begun.contains(&exchange(ack.packet_id)) => {
                Passed::answer(Packet::Pubcomp(Ack::success(ack.packet_id)))
            }
            _ => Passed::on(packet),
        }
    }
}

#[test]
fn a_broker_that_acknowledges_for_its_subscriber_and_drops_loses_messages() {
    check(DropsQos1::default, "D1");
}

#[test]
fn a_broker_that_delivers_qos_2_twice_is_caught() {
    check(DeliversQos2Twice::default, "D3");
}

#[test]
fn a_broker_that_forgets_pubrel_on_resumption_is_caught() {
    check(ForgetsPubrel::default, "R2");
}

#[test]
fn a_broker_that_acknowledges_before_it_has_synced_is_caught() {
    let is_broken = |seed| {
        let simulated = Simulation::new(seed).with(Defect::BrokerAcknowledgesBeforeSync).run();
        simulated.report().verdict == Verdict::Broken
    };
    assert!((0..SEEDS_MAX).any(is_broken));
}

/// Promises of severity S1 that are broken in a run of a broker that never syncs, which is held to `profile`.
fn lost_without_sync(simulation: Simulation, profile: Profile) -> Vec<&'static str> {
    let mut simulated = simulation.with(Defect::BrokerNeverSyncs).run();
    simulated.header.profile = profile;
    let broken = broken(&simulated.report()).into_iter();
    broken.filter(|(_, severity)| *severity == Severity::S1).map(|(id, _)| id).collect()
}

#[test]
fn a_broker_that_never_syncs_is_caught_where_the_power_fails() {
    let lost =
        |seed: &u64| lost_without_sync(Simulation::new(*seed).without_power(), Profile::PowerSafe) == ["D1"];
    let seed = (0..SEEDS_MAX).find(lost).expect("D1 alone was never broken");
    println!("{:>20} power lost: seed {seed} broken [\"D1\"]", "BrokerNeverSyncs");
    let none: [&str; 0] = [];
    let unpromised = lost_without_sync(Simulation::new(seed).without_power(), Profile::Durable);
    assert_eq!(unpromised, none, "the profile ends before that");
    for seed in seed..seed + 40 {
        let killed = lost_without_sync(Simulation::new(seed), Profile::PowerSafe);
        assert_eq!(killed, none, "seed {seed}: kill -9 leaves the machine what was written");
    }
}

/// The control: a broker that syncs keeps its promise.
#[test]
fn a_broker_that_syncs_survives_the_loss_of_power() {
    let lost = (0..60).map(|seed| Simulation::new(seed).without_power().run().report());
    let lost: Vec<Report> = lost.collect();
    assert!(lost.iter().any(|report| report.faults.iter().any(|fault| fault.kind == "power-loss")));
    for report in lost {
        assert_eq!(report.verdict, Verdict::Kept, "seed {}: {:#?}", report.seed, report.findings);
    }
}

#[test]
fn an_endpoint_that_promises_before_it_has_synced_is_caught() {
    for defect in [Defect::SubscriberAcknowledgesBeforeSync, Defect::PublisherAcceptsBeforeSync] {
        let is_broken = |seed| !Simulation::new(seed).with(defect).run().broken_stores().is_empty();
        assert!((0..SEEDS_MAX).any(is_broken), "{defect:?}");
    }
}
