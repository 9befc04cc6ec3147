//! A subscriber: the library's client, acknowledging by itself.

use super::Trouble;
use super::peer::{Handler, Peer};
use super::scene::{Lifetime, Scene};
use mqtally_proto::packet::{Properties, Qos, Subscription};
use mqtally_proto::topic;
use std::sync::Arc;

/// Messages that a subscriber would have in flight if it published.
const IN_FLIGHT_MAX: u16 = 10;

/// A subscriber with its filters.
pub(crate) struct Subscriber {
    pub(crate) peer: Arc<Peer>,
    filters: Vec<(String, Qos)>,
}

impl Subscriber {
    /// Connects and subscribes; every filter has to be granted.
    pub(crate) async fn connect(
        scene: &Scene,
        role: &str,
        lifetime: Lifetime,
        filters: &[(&str, Qos)],
    ) -> Result<Self, Trouble> {
        Self::with(scene, role, lifetime, filters, Box::new(drop)).await
    }

    /// The same, with something to do for each message.
    pub(crate) async fn with(
        scene: &Scene,
        role: &str,
        lifetime: Lifetime,
        filters: &[(&str, Qos)],
        handler: Handler,
    ) -> Result<Self, Trouble> {
        let peer = Peer::new(scene, &scene.client(role), lifetime, IN_FLIGHT_MAX, handler);
        Self::subscribed(peer, filters).await
    }

    /// Connects for a lasting session, taking so many messages at a time, and subscribes.
    pub(crate) async fn taking(
        scene: &Scene,
        role: &str,
        receive_maximum: Option<u16>,
        filters: &[(&str, Qos)],
    ) -> Result<Self, Trouble> {
        let name = scene.client(role);
        let peer = match receive_maximum {
            None => Peer::new(scene, &name, Lifetime::DURABLE, IN_FLIGHT_MAX, Box::new(drop)),
            Some(receive_maximum) => {
                let drop = Box::new(drop);
                Peer::taking(scene, &name, Lifetime::DURABLE, IN_FLIGHT_MAX, receive_maximum, drop)
            }
        };
        Self::subscribed(peer, filters).await
    }

    async fn subscribed(peer: Peer, filters: &[(&str, Qos)]) -> Result<Self, Trouble> {
        peer.connect().await?;
        let filters = filters.iter().map(|(filter, qos)| ((*filter).to_owned(), *qos)).collect();
        let subscriber = Self { peer: Arc::new(peer), filters };
        subscriber.subscribe().await?;
        Ok(subscriber)
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.peer.name
    }

    /// The highest QoS at which it asks for messages of `topic`; none when it does not.
    pub(crate) fn asks_for(&self, topic: &str) -> Option<Qos> {
        let matching = self.filters.iter().filter(|(filter, _)| topic::matches(filter, topic));
        matching.map(|(_, qos)| *qos).max()
    }

    /// Connects again, and subscribes again where the broker has lost the session.
    pub(crate) async fn back(&self) -> Result<(), Trouble> {
        if self.peer.connect().await? { Ok(()) } else { self.subscribe().await }
    }

    /// Asks for its filters.
    pub(crate) async fn subscribe(&self) -> Result<(), Trouble> {
        let filters = self.filters.iter().map(|(filter, qos)| Subscription::new(filter.as_str(), *qos));
        self.ask_for(filters.collect()).await
    }

    /// Asks for something that nobody sends, and waits for the answer: who hears that and not what it is owed shows a
    /// filter that is dead, and not a broker that is slow.
    pub(crate) async fn ask_aside(&self, scene: &Scene) -> Result<(), Trouble> {
        let aside = scene.topic(&format!("aside/{}", self.name()));
        self.ask_for(vec![Subscription::new(aside, Qos::AtMostOnce)]).await
    }

    async fn ask_for(&self, filters: Vec<Subscription>) -> Result<(), Trouble> {
        let asked = self.peer.client.subscribe(filters, Properties::default());
        let failed = |error: &dyn std::fmt::Display| Trouble::Failed {
            client: self.peer.name.to_string(),
            error: error.to_string(),
        };
        let packet_id = asked.map_err(|error| failed(&error))?;
        let answered = self.peer.until("SUBACK", |standing| {
            standing.suback.as_ref().is_some_and(|suback| suback.packet_id == packet_id)
        });
        let refused =
            answered.await?.suback.and_then(|suback| suback.reasons.into_iter().find(|code| code.is_error()));
        match refused {
            Some(reason) => {
                Err(Trouble::NotAccepted { client: self.peer.name.to_string(), what: "SUBSCRIBE", reason })
            }
            None => Ok(()),
        }
    }

    /// Nothing more is wanted of it, but what it was owed is still to be judged: it stays until the group is over.
    pub(crate) fn stay(self, scene: &Scene) {
        scene.leaves_connected(self.peer);
    }
}
