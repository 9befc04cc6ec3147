//! The inbox against a map: whatever is done, in whatever order, both agree. Restarts are among what is done.
//!
//! The seed of a failure is printed by proptest and kept beside this file.

mod inbox_support;

use inbox_support::*;
use mqtally::inbox::dead_letter::{DeadLetters, Selection};
use mqtally::inbox::{Delivery, Inbox, Outcome, Verdict};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ATTEMPTS_MAX: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Messages as (key, body, lane); key 0 is none, lane 0 is none.
    Accept(Vec<(u8, u8, u8)>),
    Claim(usize),
    /// Settles the n-th of what is held.
    Settle(usize, Decision),
    Exchange(u16),
    Release(u16),
    SessionLost,
    ReplayAll,
    PurgeAll,
    Pass(u64),
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Decision {
    Done,
    Retry,
    DeadLetter,
}

fn step() -> impl Strategy<Value = Step> {
    let decision =
        prop_oneof![3 => Just(Decision::Done), 2 => Just(Decision::Retry), 1 => Just(Decision::DeadLetter)];
    let message = (0u8..12, 0u8..3, 0u8..4);
    prop_oneof![
        6 => prop::collection::vec(message, 1..6).prop_map(Step::Accept),
        6 => (1usize..4).prop_map(Step::Claim),
        8 => (0usize..8, decision).prop_map(|(n, decision)| Step::Settle(n, decision)),
        2 => (1u16..4).prop_map(Step::Exchange),
        2 => (1u16..4).prop_map(Step::Release),
        1 => Just(Step::SessionLost),
        1 => Just(Step::ReplayAll),
        1 => Just(Step::PurgeAll),
        2 => (1u64..400).prop_map(Step::Pass),
        2 => Just(Step::Restart),
    ]
}

/// What should be in the inbox.
#[derive(Default)]
struct Model {
    next: u64,
    /// Unsettled messages by number.
    inbox: BTreeMap<u64, Entry>,
    dead: BTreeMap<u64, Entry>,
    keys: BTreeSet<(u8, u8)>,
    exchanges: BTreeSet<u16>,
}

#[derive(Clone, Debug)]
struct Entry {
    payload: String,
    lane: u8,
    attempts: u32,
    held: bool,
}

impl Model {
    fn accept(&mut self, (key, body, lane): (u8, u8, u8)) -> &'static str {
        let known_key = key > 0 && self.keys.iter().any(|(known, _)| *known == key);
        if key > 0 && !self.keys.insert((key, body)) {
            return "duplicate";
        }
        self.next += 1;
        self.inbox.insert(self.next, Entry { payload: body.to_string(), lane, attempts: 0, held: false });
        if known_key { "conflict" } else { "new" }
    }

    /// Whether `sequence` may be handed out now: nobody before it in its lane.
    fn is_head(&self, sequence: u64) -> bool {
        let lane = self.inbox[&sequence].lane;
        lane == 0 || !self.inbox.range(..sequence).any(|(_, earlier)| earlier.lane == lane)
    }

    fn hand_out(&mut self, delivery: &Delivery) {
        assert!(self.is_head(delivery.sequence), "{} overtook its lane", delivery.sequence);
        let entry = self.inbox.get_mut(&delivery.sequence).expect("handed out, but not in the inbox");
        assert!(!entry.held, "{} is held by another", delivery.sequence);
        (entry.held, entry.attempts) = (true, entry.attempts + 1);
        let payload = payloads(std::slice::from_ref(delivery)).remove(0);
        assert_eq!((payload, delivery.attempt), (entry.payload.clone(), entry.attempts));
    }

    fn settle(&mut self, sequence: u64, decision: Decision) {
        let mut entry = self.inbox.remove(&sequence).expect("settled, but not in the inbox");
        entry.held = false;
        match decision {
            Decision::Done => {}
            Decision::Retry if entry.attempts < ATTEMPTS_MAX => drop(self.inbox.insert(sequence, entry)),
            Decision::Retry | Decision::DeadLetter => drop(self.dead.insert(sequence, entry)),
        }
    }

    /// What was held counts as a failed attempt.
    fn restart(&mut self) {
        let held: Vec<_> = self.inbox.iter().filter(|(_, entry)| entry.held).map(|(n, _)| *n).collect();
        held.into_iter().for_each(|sequence| self.settle(sequence, Decision::Retry));
    }

    fn replay_all(&mut self) {
        for entry in std::mem::take(&mut self.dead).into_values() {
            self.next += 1;
            self.inbox.insert(self.next, Entry { attempts: 0, ..entry });
        }
    }
}

struct Run {
    place: Place,
    inbox: Inbox,
    held: Vec<Delivery>,
    model: Model,
}

impl Run {
    fn new() -> Self {
        let place = Place::new();
        let inbox = place.open();
        Self { place, inbox, held: Vec::new(), model: Model::default() }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Accept(messages) => self.accept(messages).await,
            Step::Claim(max) => self.claim(max).await,
            Step::Settle(n, decision) => self.settle(n, decision).await,
            Step::Exchange(packet_id) => self.exchange(packet_id).await,
            Step::Release(packet_id) => {
                let known = self.inbox.release(packet_id).await.unwrap();
                assert_eq!(known, self.model.exchanges.remove(&packet_id));
            }
            Step::SessionLost => {
                let dropped = self.inbox.session_lost().await.unwrap();
                assert_eq!(dropped as usize, std::mem::take(&mut self.model.exchanges).len());
            }
            Step::ReplayAll => self.replay_all().await,
            Step::PurgeAll => {
                let sequences: Vec<_> = std::mem::take(&mut self.model.dead).into_keys().collect();
                let purged = DeadLetters::attach(&self.place.store()).unwrap().purge(&sequences).unwrap();
                assert_eq!(purged, sequences.len());
            }
            Step::Pass(ms) => self.place.clock.pass(ms),
            Step::Restart => {
                self.inbox.close().await;
                self.inbox = self.place.open();
                self.held.clear();
                self.model.restart();
            }
        }
    }

    async fn accept(&mut self, messages: Vec<(u8, u8, u8)>) {
        let expected: Vec<_> = messages.iter().map(|message| self.model.accept(*message)).collect();
        let arrivals = messages.into_iter().map(|(key, body, lane)| {
            let key = if key == 0 { String::new() } else { key.to_string() };
            let arrival = message(&key, &body.to_string());
            if lane == 0 { arrival } else { in_lane(&lane.to_string(), arrival) }
        });
        let accepted = accept_all(&self.inbox, arrivals.collect()).await;
        let found = accepted.iter().map(|accepted| match accepted.verdict {
            Verdict::New => "new",
            Verdict::Conflict(_) => "conflict",
            Verdict::Duplicate(_) | Verdict::ExchangeOpen => "duplicate",
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    async fn claim(&mut self, max: usize) {
        let claimed = claim_now(&self.inbox, max).await;
        claimed.iter().for_each(|delivery| self.model.hand_out(delivery));
        self.held.extend(claimed);
    }

    async fn settle(&mut self, n: usize, decision: Decision) {
        if n >= self.held.len() {
            return;
        }
        let delivery = self.held.remove(n);
        let outcome = match decision {
            Decision::Done => Outcome::Done,
            Decision::Retry => retry("no"),
            Decision::DeadLetter => Outcome::DeadLetter { error: "no".into() },
        };
        self.inbox.settle(delivery.lease(), outcome).await.unwrap().unwrap();
        self.model.settle(delivery.sequence, decision);
    }

    async fn exchange(&mut self, packet_id: u16) {
        let (session, open) = self.inbox.session().await.unwrap();
        assert_eq!(open, self.model.exchanges.iter().copied().collect::<Vec<_>>());
        let verdict = accept(&self.inbox, qos_2(session, packet_id, message("", "0"))).await;
        if self.model.exchanges.insert(packet_id) {
            assert_eq!((verdict, self.model.accept((0, 0, 0))), (Verdict::New, "new"));
        } else {
            assert_eq!(verdict, Verdict::ExchangeOpen);
        }
    }

    async fn replay_all(&mut self) {
        let mut letters = DeadLetters::attach(&self.place.store()).unwrap();
        let sequences: Vec<_> = self.model.dead.keys().copied().collect();
        assert_eq!(letters.replay(&sequences, false).unwrap(), sequences);
        while statistics(&self.inbox).await.dead > 0 {
            tokio::task::yield_now().await;
        }
        self.model.replay_all();
    }

    /// Works off everything, and then nothing may be left or missing.
    async fn finish(mut self) {
        for delivery in std::mem::take(&mut self.held) {
            self.inbox.settle(delivery.lease(), Outcome::Done).await.unwrap().unwrap();
            self.model.settle(delivery.sequence, Decision::Done);
        }
        while !self.model.inbox.is_empty() {
            self.place.clock.pass(1_000);
            let delivery = next(&self.inbox).await;
            self.model.hand_out(&delivery);
            done(&self.inbox, std::slice::from_ref(&delivery)).await;
            self.model.settle(delivery.sequence, Decision::Done);
        }
        let counted = statistics(&self.inbox).await;
        assert_eq!((counted.unsettled, counted.waiting, counted.leased), (0, 0, 0));
        assert_eq!(
            (counted.keys as usize, counted.dead as usize),
            (self.model.keys.len(), self.model.dead.len())
        );
        let page =
            DeadLetters::attach(&self.place.store()).unwrap().list(&Selection::default(), 0, 999).unwrap();
        let dead: Vec<_> = page.letters.iter().map(|letter| letter.sequence).collect();
        assert_eq!(dead, self.model.dead.keys().copied().collect::<Vec<_>>());
    }
}

/// Claims what is ready now: the claim is queued before the statistics, so their answer ends the wait.
async fn claim_now(inbox: &Inbox, max: usize) -> Vec<Delivery> {
    let mut claim = std::pin::pin!(inbox.claim(0, max));
    tokio::select! {
        biased;
        claimed = &mut claim => claimed.unwrap(),
        _ = statistics(inbox) => futures_ready(claim).await,
    }
}

/// The claim's answer, if it is there.
async fn futures_ready<T, E: std::fmt::Debug>(claim: impl Future<Output = Result<Vec<T>, E>>) -> Vec<T> {
    tokio::select! {
        biased;
        claimed = claim => claimed.unwrap(),
        () = std::future::ready(()) => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_inbox_and_a_map_agree(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for step in steps {
                run.step(step).await;
            }
            run.finish().await;
        });
    }
}
