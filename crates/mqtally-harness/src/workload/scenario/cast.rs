//! Everybody who plays: devices, subscribers and whoever looks at the end.

use super::super::application::{Application, Manner};
use super::super::peer::Peer;
use super::super::scene::Lifetime;
use super::super::source::Source;
use super::super::subscriber::Subscriber;
use super::device::{Device, IN_FLIGHT_MAX};
use super::link::End;
use super::{Link, Nemesis, Scene, Trouble};
use crate::scenario::{self, Need, Scenario, Session, Stream, advice};
use bytestring::ByteString;
use mqtally::dedup::Settings;
use mqtally_history::event::EventKind;
use mqtally_history::need::{Declaration, Receiver, ReceiverKind};
use mqtally_proto::packet::Qos;
use std::sync::Arc;

/// Who looks for the newest value.
const LATE: &str = "late-reader";

/// A subscribing application and its client.
pub(super) struct Act {
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) application: Application,
}

/// Who plays.
pub(super) struct Cast {
    scene: Scene,
    scenario: Arc<Scenario>,
    /// The first publisher number of each stream.
    publishers: Vec<u32>,
    devices: Vec<Device>,
    pub(super) acts: Vec<Act>,
    peers: Vec<(String, End)>,
}

impl Cast {
    /// Everybody connects, and who subscribes does so before anybody publishes.
    pub(super) async fn assemble(scene: &Scene, scenario: &Arc<Scenario>) -> Result<Self, Trouble> {
        let mut cast = Self {
            scene: scene.clone(),
            scenario: scenario.clone(),
            publishers: Vec::new(),
            devices: Vec::new(),
            acts: Vec::new(),
            peers: Vec::new(),
        };
        for subscriber in &scenario.subscribers {
            cast.subscribe(subscriber).await?;
        }
        for stream in &scenario.streams {
            cast.equip(stream).await?;
        }
        Ok(cast)
    }

    async fn subscribe(&mut self, it: &scenario::Subscriber) -> Result<(), Trouble> {
        let filters: Vec<(String, Qos)> =
            it.subscriptions().map(|(filter, qos)| (self.topic(filter), qos)).collect();
        let lifetime = match (it.session, it.expiry) {
            (Session::Clean, _) => Lifetime::CLEAN,
            (Session::Persistent, Some(expiry)) => Lifetime::lasting(self.scenario.whole_seconds(expiry)),
            (Session::Persistent, None) => Lifetime::lasting(u32::MAX),
        };
        let steps = self.scenario.streams.iter().filter_map(|stream| Some((stream, stream.step.clone()?)));
        let steps = steps.flat_map(|(stream, member)| {
            (1..=stream.devices).map(move |device| (stream.topic_of(device), member.clone()))
        });
        let dedup = Settings { pointers: vec![scenario::IDENTITY.to_owned()], ..Settings::default() };
        let manner = Manner {
            dedup: it.dedup.then_some(dedup),
            steps: steps.map(|(topic, member)| (ByteString::from(self.topic(&topic)), member)).collect(),
        };
        let act = self.act(&it.name, manner, lifetime, &filters).await?;
        self.peers.push((it.name.clone(), End::Subscriber(act.subscriber.clone())));
        self.acts.push(act);
        Ok(())
    }

    async fn act(
        &self,
        name: &str,
        manner: Manner,
        lifetime: Lifetime,
        filters: &[(String, Qos)],
    ) -> Result<Act, Trouble> {
        let role = self.role(name);
        let application = Application::with(&self.scene, &self.scene.client(&role), manner);
        let filters: Vec<(&str, Qos)> = filters.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
        let subscriber =
            Subscriber::with(&self.scene, &role, lifetime, &filters, application.handler()).await?;
        Ok(Act { subscriber: Arc::new(subscriber), application })
    }

    /// The devices of a stream. What may not be lost is published in a session that can be resumed.
    async fn equip(&mut self, stream: &Stream) -> Result<(), Trouble> {
        let qos = self.scene.offered(scenario::qos(stream.qos));
        let lifetime = if qos == Qos::AtMostOnce { Lifetime::CLEAN } else { Lifetime::DURABLE };
        for number in 1..=stream.devices {
            let publisher = self.scene.publisher_number();
            if number == 1 {
                self.publishers.push(publisher);
            }
            let topic = self.topic(&stream.topic_of(number));
            let source = Source::new(self.scene.plan.run, publisher, 0, &topic, qos);
            let name = self.scene.client(&self.role(&format!("{}-{number}", stream.name)));
            let peer = Peer::new(&self.scene, &name, lifetime, IN_FLIGHT_MAX, Box::new(drop));
            peer.connect().await?;
            if stream.retained {
                self.scene.leaves_retained(&name, &topic);
            }
            let device = Device::new(&self.scene, &self.scenario, stream, number, peer, source);
            self.peers.push((stream.name.clone(), End::Device(device.peer.clone())));
            self.devices.push(device);
        }
        Ok(())
    }

    /// Puts what is needed of each stream into the history, and what the advisor says to it.
    pub(super) fn declare(&self) {
        for (stream, publisher) in self.scenario.streams.iter().zip(&self.publishers) {
            let declaration = self.declaration(stream, *publisher);
            self.scene.recorder.record(EventKind::Declared(Box::new(declaration)));
        }
        for advice in advice::advise(&self.scenario) {
            self.scene.recorder.record(EventKind::Advised(Box::new(advice)));
        }
    }

    fn declaration(&self, stream: &Stream, publisher: u32) -> Declaration {
        let steady = self.scenario.subscribers.iter().filter(|it| it.asks_for(stream).is_some());
        let steady = steady.map(|it| Receiver {
            client: self.scene.client(&self.role(&it.name)),
            kind: ReceiverKind::Steady,
            dedup: it.recognises(stream),
        });
        let late = stream.has(Need::NewestOnly).then(|| Receiver {
            client: self.scene.client(&self.role(LATE)),
            kind: ReceiverKind::Late,
            dedup: false,
        });
        Declaration {
            stream: stream.name.as_str().into(),
            qos: stream.qos,
            needs: stream.needs.iter().map(|need| (*need).into()).collect(),
            publisher,
            devices: stream.devices,
            messages: self.scenario.count_of(stream),
            every_ns: u64::try_from(self.scenario.compressed(stream.every).as_nanos()).unwrap_or(u64::MAX),
            step: stream.step_size(),
            receivers: steady.chain(late).collect(),
        }
    }

    /// The connection of everybody, to be kept.
    pub(super) fn links(&self, nemesis: &Nemesis) -> Vec<Link> {
        let link = |(name, end): &(String, End)| {
            Link::new(&self.scene, end.clone(), nemesis.plight(name), nemesis.up())
        };
        self.peers.iter().map(link).collect()
    }

    pub(super) fn take_devices(&mut self) -> Vec<Device> {
        std::mem::take(&mut self.devices)
    }

    /// Waits until everybody is connected.
    pub(super) async fn until_connected(&self) -> Result<(), Trouble> {
        for (_, end) in &self.peers {
            end.peer().until_connected().await?;
        }
        Ok(())
    }

    /// Whoever comes late subscribes to what only the newest message counts of; its name, if there is such a stream.
    pub(super) async fn look(&mut self) -> Result<Option<Arc<str>>, Trouble> {
        let streams = self.scenario.streams.iter().filter(|stream| stream.has(Need::NewestOnly));
        let filters: Vec<(String, Qos)> = streams
            .flat_map(|stream| {
                let qos = scenario::qos(stream.qos);
                (1..=stream.devices).map(move |device| (stream.topic_of(device), qos))
            })
            .map(|(topic, qos)| (self.topic(&topic), qos))
            .collect();
        if filters.is_empty() {
            return Ok(None);
        }
        let act = self.act(LATE, Manner::default(), Lifetime::CLEAN, &filters).await?;
        let name = act.subscriber.name().clone();
        self.acts.push(act);
        Ok(Some(name))
    }

    /// The acts that a topic concerns, with the QoS that each asked for.
    pub(super) fn concerned(&self, topic: &str) -> impl Iterator<Item = (usize, Qos)> {
        self.acts.iter().enumerate().filter_map(move |(at, act)| Some((at, act.subscriber.asks_for(topic)?)))
    }

    /// Everybody stays until what is owed has been judged.
    pub(super) fn stay(self) {
        for (_, end) in self.peers {
            self.scene.leaves_connected(end.into_peer());
        }
        for act in self.acts.into_iter().skip(self.scenario.subscribers.len()) {
            self.scene.leaves_connected(act.subscriber.peer.clone());
        }
    }

    fn role(&self, name: &str) -> String {
        format!("{}-{name}", self.scenario.name)
    }

    /// A topic or filter of the file, below a root of this scenario.
    fn topic(&self, tail: &str) -> String {
        self.scene.lesson_topic(&format!("{}/{tail}", self.scenario.name))
    }
}
