//! The QoS advisor: needs that the chosen QoS, session, expiry or queue cannot meet, and the change to make.
//!
//! A pure function of the scenario. It reasons from what MQTT promises, not from what a broker happens to do: a QoS 0
//! message mostly arrives, and nobody owes it.

use super::{Need, Scenario, Session, Stream, Subscriber, qos};
pub use mqtally_history::need::{Advice, Weight};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Qos;
use mqtally_proto::topic;

/// Everything to change, what is unmet first.
pub fn advise(scenario: &Scenario) -> Vec<Advice> {
    let mut all: Vec<Advice> =
        scenario.streams.iter().flat_map(|stream| of_stream(scenario, stream)).collect();
    all.sort_by_key(|advice| std::cmp::Reverse(advice.weight));
    all
}

fn of_stream(scenario: &Scenario, stream: &Stream) -> Vec<Advice> {
    let about = About { scenario, stream };
    let receivers: Vec<_> = scenario
        .subscribers
        .iter()
        .filter_map(|subscriber| Some((subscriber, subscriber.asks_for(stream)?)))
        .collect();
    if receivers.is_empty() {
        return about.unheard().into_iter().collect();
    }
    let each = receivers.iter().flat_map(|(subscriber, asked)| {
        let effective = (*asked).min(qos(stream.qos));
        let needs = [
            about.arrival(subscriber, effective),
            about.absence(subscriber),
            about.queue(subscriber, effective),
            about.repetition(subscriber, effective),
            about.overlap(subscriber),
        ];
        needs.into_iter().flatten().collect::<Vec<_>>()
    });
    each.chain(about.newest()).chain(about.survival()).chain(about.cost()).collect()
}

struct About<'a> {
    scenario: &'a Scenario,
    stream: &'a Stream,
}

impl About<'_> {
    fn unheard(&self) -> Option<Advice> {
        self.stream.has(Need::MustArrive).then(|| {
            let why = "nobody subscribes to its topic".to_owned();
            self.unmet(
                Need::MustArrive,
                None,
                why,
                format!("a subscriber with the filter \"{}\"", self.stream.filter()),
            )
        })
    }

    /// Below QoS 1 nobody owes a delivery.
    fn arrival(&self, subscriber: &Subscriber, effective: Qos) -> Option<Advice> {
        let owed = effective > Qos::AtMostOnce;
        (self.stream.has(Need::MustArrive) && !owed).then(|| match self.stream.qos {
            0 => self.unmet(
                Need::MustArrive,
                None,
                "it must arrive and is published at QoS 0, which may be lost".to_owned(),
                "qos = 1".to_owned(),
            ),
            _ => self.unmet(
                Need::MustArrive,
                Some(subscriber),
                "it must arrive, and this subscriber asks for QoS 0".to_owned(),
                "\"…@1\" in its filters".to_owned(),
            ),
        })
    }

    /// What is sent while a subscriber is away is kept for a session that lives.
    fn absence(&self, subscriber: &Subscriber) -> Option<Advice> {
        let away = self.scenario.longest_absence(subscriber);
        if !self.stream.has(Need::MustArrive) || !self.scenario.takes_away(subscriber) {
            return None;
        }
        match (subscriber.session, subscriber.expiry) {
            (Session::Clean, _) => Some(self.unmet(Need::MustArrive,
                Some(subscriber),
                "it must arrive, and a clean session forgets what comes while the connection is gone".to_owned(),
                "session = \"persistent\"".to_owned(),
            )),
            (Session::Persistent, Some(expiry)) if expiry <= away => Some(self.unmet(Need::MustArrive,
                Some(subscriber),
                format!("it must arrive, and the session expires after {expiry}, but the subscriber is away for {away}"),
                format!("expiry longer than \"{away}\""),
            )),
            _ => self.message_expiry(subscriber, away),
        }
    }

    fn message_expiry(&self, subscriber: &Subscriber, away: super::Span) -> Option<Advice> {
        let expiry = self.stream.expiry.filter(|expiry| *expiry <= away)?;
        Some(self.unmet(
            Need::MustArrive,
            Some(subscriber),
            format!(
                "it must arrive, and a message expires after {expiry}, but the subscriber is away for {away}"
            ),
            format!("expiry longer than \"{away}\", or none"),
        ))
    }

    /// A queue with a limit drops what does not fit.
    fn queue(&self, subscriber: &Subscriber, effective: Qos) -> Option<Advice> {
        let limit = self.scenario.broker.queue_max?;
        if !self.stream.has(Need::MustArrive) || effective == Qos::AtMostOnce {
            return None;
        }
        let away = self.scenario.longest_absence(subscriber);
        let waiting = self.waiting(subscriber, away);
        (waiting > limit).then(|| {
            self.unmet(Need::MustArrive,
                Some(subscriber),
                format!("about {waiting} messages wait for it while it is away for {away}, and the broker keeps {limit}"),
                format!("queue-max = {waiting} or more, or fewer messages"),
            )
        })
    }

    /// Messages of all streams that come for `subscriber` in this time and are kept for it.
    fn waiting(&self, subscriber: &Subscriber, away: super::Span) -> u64 {
        let kept = self.scenario.streams.iter().filter(|stream| {
            let asked = subscriber.asks_for(stream).map(|asked| asked.min(qos(stream.qos)));
            asked.is_some_and(|effective| effective > Qos::AtMostOnce)
        });
        kept.map(|stream| u64::from(stream.devices) * away.as_ms().div_ceil(stream.every.as_ms().max(1)))
            .sum()
    }

    /// QoS 1 may deliver twice; somebody has to notice.
    fn repetition(&self, subscriber: &Subscriber, effective: Qos) -> Option<Advice> {
        if !self.stream.has(Need::MustNotHappenTwice) || subscriber.recognises(self.stream) {
            return None;
        }
        match effective {
            Qos::AtLeastOnce if subscriber.dedup => Some(self.unmet(Need::MustNotHappenTwice,
                Some(subscriber),
                "it must not happen twice, QoS 1 may deliver it again, and its payload has no message_id to recognise it by".to_owned(),
                "\"message_id\": {number} in its payload".to_owned(),
            )),
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(self.unmet(Need::MustNotHappenTwice,
                Some(subscriber),
                "it must not happen twice, and QoS 1 may deliver it again".to_owned(),
                "qos = 2 (and @2 in its filters), or dedup = true".to_owned(),
            )),
            Qos::ExactlyOnce if subscriber.session == Session::Clean => Some(self.unmet(Need::MustNotHappenTwice,
                Some(subscriber),
                "it must not happen twice, and a session that ends with its connection forgets what it has delivered".to_owned(),
                "session = \"persistent\"".to_owned(),
            )),
            Qos::ExactlyOnce => None,
        }
    }

    /// Of overlapping subscriptions a broker may serve each (3.3.5 in 3.1.1, 3.3.4 in 5.0).
    fn overlap(&self, subscriber: &Subscriber) -> Option<Advice> {
        if !self.stream.has(Need::MustNotHappenTwice) || subscriber.recognises(self.stream) {
            return None;
        }
        let filters = (1..=self.stream.devices).map(|device| {
            let topic = self.stream.topic_of(device);
            subscriber.subscriptions().filter(|(filter, _)| topic::matches(filter, &topic)).count()
        });
        let filters = filters.max().filter(|filters| *filters > 1)?;
        Some(self.unmet(
            Need::MustNotHappenTwice,
            Some(subscriber),
            format!(
                "it must not happen twice, and {filters} filters match its topic, each of which may bring a copy"
            ),
            "one filter for its topic, or dedup = true".to_owned(),
        ))
    }

    /// Whoever comes late sees the newest only where it is retained.
    fn newest(&self) -> Option<Advice> {
        (self.stream.has(Need::NewestOnly) && !self.stream.retained).then(|| {
            let why = "only the newest counts, and whoever subscribes later sees none until the next is sent"
                .to_owned();
            self.unmet(Need::NewestOnly, None, why, "retained = true".to_owned())
        })
    }

    /// A broker that forgets loses what it has acknowledged.
    fn survival(&self) -> Option<Advice> {
        let needed = self.scenario.faults.iter().filter_map(|fault| match fault.kind {
            super::FaultKind::KillBroker => Some(Profile::Durable),
            super::FaultKind::RestartBroker => Some(Profile::Graceful),
            _ => None,
        });
        let needed = needed.max()?;
        let declared = self.scenario.broker.profile.filter(|declared| *declared < needed)?;
        self.stream.has(Need::MustArrive).then(|| {
            let why = format!("it must arrive, and the broker ends, but declares to be {}", word(declared));
            self.unmet(
                Need::MustArrive,
                None,
                why,
                format!("profile = \"{}\", and a broker that is", word(needed)),
            )
        })
    }

    /// Four packets where one would do.
    fn cost(&self) -> Option<Advice> {
        let needs_nothing =
            self.stream.needs.iter().all(|need| *need == Need::MayLose) && self.stream.has(Need::MayLose);
        (needs_nothing && self.stream.qos > 0).then(|| Advice {
            weight: Weight::Hint,
            ..self.unmet(
                Need::MayLose,
                None,
                format!(
                    "it may be lost, and QoS {} sends {} packets for each",
                    self.stream.qos,
                    if self.stream.qos == 1 { 2 } else { 4 }
                ),
                "qos = 0".to_owned(),
            )
        })
    }

    fn unmet(&self, need: Need, subscriber: Option<&Subscriber>, why: String, change: String) -> Advice {
        Advice {
            weight: Weight::Unmet,
            stream: self.stream.name.as_str().into(),
            subscriber: subscriber.map(|subscriber| subscriber.name.as_str().into()),
            need: need.into(),
            why: why.into(),
            change: change.into(),
        }
    }
}

fn word(profile: Profile) -> &'static str {
    match profile {
        Profile::Volatile => "volatile",
        Profile::Graceful => "graceful",
        Profile::Durable => "durable",
        Profile::PowerSafe => "power-safe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(stream: &str, subscriber: &str, more: &str) -> Scenario {
        let text = format!(
            "name = \"s\"\nduration = \"1m\"\n[[streams]]\nname = \"it\"\ntopic = \"a\"\nevery = \"1s\"\n{stream}\n\
             [[subscribers]]\nname = \"sub\"\nfilters = [\"a@2\"]\n{subscriber}\n{more}"
        );
        Scenario::parse(&text).unwrap_or_else(|error| panic!("{error:?} in {text}"))
    }

    #[test]
    fn a_need_that_cannot_be_met_is_told_with_the_change_to_make() {
        let check = |stream: &str, subscriber: &str, more: &str, expect: &str| {
            let told: Vec<String> = advise(&scenario(stream, subscriber, more))
                .into_iter()
                .map(|advice| advice.change.to_string())
                .collect();
            match expect {
                "" => assert!(told.is_empty(), "{stream} {subscriber} {more}: {told:?}"),
                _ => assert!(
                    told.iter().any(|change| change.contains(expect)),
                    "{stream} {subscriber} {more}: {told:?}"
                ),
            }
        };
        let arrive = |qos: u8| format!("qos = {qos}\nneeds = [\"must-arrive\"]");
        let cut = "[[faults]]\nkind = \"cut\"\nof = \"sub\"\nat = \"5s\"\nlasts = \"20s\"";
        let kept = "session = \"persistent\"";
        check(&arrive(0), "", "", "qos = 1");
        check(&arrive(1), "", "", "");
        check(&arrive(1), "", cut, "session = \"persistent\"");
        check(&arrive(1), kept, cut, "");
        check(&arrive(1), &format!("{kept}\nexpiry = \"10s\""), cut, "expiry longer than \"20s\"");
        check(&format!("{}\nexpiry = \"10s\"", arrive(1)), kept, cut, "or none");
        check(&arrive(1), kept, &format!("{cut}\n[broker]\nqueue-max = 5"), "queue-max = 20 or more");
        check(&arrive(1), kept, &format!("{cut}\n[broker]\nqueue-max = 20"), "");
        let kill = "[[faults]]\nkind = \"kill-broker\"\nat = \"5s\"\n[broker]\nprofile = \"volatile\"";
        check(&arrive(1), kept, kill, "profile = \"durable\"");
        check("qos = 1\nneeds = [\"must-not-happen-twice\"]", kept, "", "dedup = true");
        check("qos = 1\nneeds = [\"must-not-happen-twice\"]", "dedup = true", "", "");
        check("qos = 2\nneeds = [\"must-not-happen-twice\"]", "", "", "session = \"persistent\"");
        check("qos = 2\nneeds = [\"must-not-happen-twice\"]", kept, "", "");
        check("needs = [\"newest-only\"]", "", "", "retained = true");
        check("retained = true\nneeds = [\"newest-only\"]", "", "", "");
        check("qos = 2\nneeds = [\"may-lose\"]", "", "", "qos = 0");
        check("qos = 1\nneeds = [\"may-lose\"]", "", "", "qos = 0");
        check("needs = [\"may-lose\"]", "", cut, "");
    }

    /// What is told of `text` with one part of it exchanged.
    fn changes(text: &str, from: &str, to: &str) -> Vec<String> {
        assert!(text.contains(from), "{from}");
        let scenario = Scenario::parse(&text.replacen(from, to, 1)).expect(to);
        advise(&scenario).iter().map(|advice| advice.change.to_string()).collect()
    }

    /// Everything about it is just enough.
    const ENOUGH: &str = r#"
name = "s"
duration = "1m"
[broker]
profile = "graceful"
queue-max = 20
[[streams]]
name = "it"
topic = "a/{device}"
devices = 2
qos = 1
every = "2s"
expiry = "21s"
needs = ["must-arrive", "must-not-happen-twice"]
[[streams]]
name = "other"
topic = "a/b/c"
every = "1s"
[[subscribers]]
name = "sub"
filters = ["a/+@1", "a/b/c@2"]
session = "persistent"
expiry = "21s"
dedup = true
[[faults]]
kind = "leave"
of = "sub"
at = "1s"
lasts = "20s"
[[faults]]
kind = "restart-broker"
at = "50s"
"#;

    #[test]
    fn what_is_just_enough_is_enough_and_a_little_less_is_not() {
        let check = |from: &str, to: &str, expect: &str| {
            let told = changes(ENOUGH, from, to);
            assert!(matches!(&told[..], [one] if one.contains(expect)), "{from} → {to}: {told:?}");
        };
        assert_eq!(advise(&Scenario::parse(ENOUGH).expect("a scenario")), []);
        check("queue-max = 20", "queue-max = 19", "queue-max = 20 or more");
        // What comes at QoS 0 is not kept for who is away.
        check("topic = \"a/b/c\"", "topic = \"a/b/c\"\nqos = 1", "queue-max = 40 or more");
        check("expiry = \"21s\"\nneeds", "expiry = \"20s\"\nneeds", "or none");
        check("expiry = \"21s\"\ndedup", "expiry = \"20s\"\ndedup", "expiry longer than \"20s\"");
        check("\"a/+@1\"", "\"a/+@0\"", "\"…@1\" in its filters");
        check("qos = 1", "qos = 0", "qos = 1");
        check("\"graceful\"", "\"volatile\"", "profile = \"graceful\"");
        check("restart-broker", "kill-broker", "profile = \"durable\"");
        check("dedup = true", "dedup = false", "or dedup = true");
        check("qos = 1", "qos = 1\npayload = '{\"n\": 1}'", "\"message_id\": {number} in its payload");
    }

    #[test]
    fn filters_that_overlap_may_bring_a_message_several_times() {
        // On a stream at QoS 0 as well: the copies are those of the subscriptions, and no second delivery of one.
        for qos in ["0", "1", "2"] {
            let text = ENOUGH.replace("\"must-arrive\", ", "").replace("qos = 1", &format!("qos = {qos}"));
            let expect = ["one filter for its topic, or dedup = true"];
            let alone = text.replace("dedup = true", "dedup = false");
            // Of all devices the second alone has two filters.
            let told = changes(&alone, "\"a/b/c@2\"", "\"a/2@2\"");
            assert!(told.iter().any(|change| change == expect[0]), "{qos}: {told:?}");
            assert!(!changes(&alone, "a/b/c@2", "a/3@2").contains(&expect[0].to_owned()), "{qos}");
            assert_eq!(changes(&text, "\"a/b/c@2\"", "\"a/2@2\""), [""; 0], "{qos}: it recognises them");
        }
    }

    #[test]
    fn a_stream_that_nobody_hears_cannot_arrive() {
        let text = "name = \"s\"\nduration = \"1m\"\n[[streams]]\nname = \"it\"\ntopic = \"a/{device}\"\nevery = \"1s\"\n\
                    qos = 1\nneeds = [\"must-arrive\"]";
        let advice = advise(&Scenario::parse(text).expect("a scenario"));
        assert!(advice[0].change.contains("\"a/+\""), "{advice:?}");
    }
}
