//! Who takes part in a strike: the proxy, the clients, and what is told of it.

use super::client::Client;
use super::traffic::{Phase, Traffic};
use crate::nemesis::{Deed, Load, Strike};
use crate::process::READY_LIMIT;
use crate::proxy::{self, Note, Proxy, ProxyOptions, RuleId, Watch};
use crate::recorder::Recorder;
use crate::workload::scene::Lifetime;
use crate::workload::subscriber::Subscriber;
use crate::workload::{Publisher, Scene, Trouble};
use mqtally_proto::packet::Qos;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The clients of a stage, with the proxy in front of the broker.
pub(super) struct Theatre {
    traffic: Traffic,
    pub(super) cast: Cast,
}

/// All but the traffic.
pub(super) struct Cast {
    pub(super) scene: Scene,
    pub(super) proxy: Proxy,
    pub(super) told: Arc<Told>,
    pub(super) publisher: Client,
    pub(super) subscriber: Client,
    witness: Client,
}

/// What the proxy tells.
pub(super) struct Told {
    recorder: Recorder,
    /// What a strike of the proxy's is called in the report, while one is awaited that is worth its name.
    name: Mutex<Option<&'static str>>,
    /// Changes with each strike.
    pub(super) strikes: watch::Sender<u64>,
}

impl Told {
    fn watch(recorder: &Recorder) -> (Arc<Self>, Watch) {
        let told = Arc::new(Self {
            recorder: recorder.clone(),
            name: Mutex::default(),
            strikes: watch::Sender::new(0),
        });
        let teller = Arc::clone(&told);
        (told, Arc::new(move |_, note| teller.note(note)))
    }

    /// Strikes from now on are of this name; `None`: they are means to an end, and not told.
    pub(super) fn call(&self, name: Option<&'static str>) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    fn note(&self, note: &Note<'_>) {
        let Note::Strike(strike) = note else { return };
        let client = strike.peer.as_ref().and_then(|peer| peer.client.as_deref());
        if let Some(name) = *self.name.lock().unwrap_or_else(PoisonError::into_inner) {
            self.recorder.fault(name, client);
        }
        if let (Some(client), Some(closing)) = (client, strike.ends_as()) {
            self.recorder.ends_as(client, closing);
        }
        self.strikes.send_modify(|strikes| *strikes += 1);
    }
}

impl Theatre {
    /// Starts the proxy and connects everybody: publisher and subscriber through it, a witness past it.
    pub(super) async fn open(scene: &Scene, number: usize, load: Load) -> Result<Self, Trouble> {
        let (told, watch) = Told::watch(&scene.recorder);
        let options = ProxyOptions::new((Ipv4Addr::LOCALHOST, 0).into(), scene.endpoint().clone());
        let proxy = Proxy::start(ProxyOptions { watch: Some(watch), ..options }).await?;
        let behind = scene.through(proxy.address());
        let topic = format!("{number}");
        let role = |who: &str| format!("{}-{number}-{who}", scene.own_name());
        let filter = scene.topic(&format!("{topic}/+"));
        let filters = [(filter.as_str(), Qos::ExactlyOnce)];
        let receive_maximum = load.receive_maximum;
        let subscriber = Subscriber::taking(&behind, &role("subscriber"), receive_maximum, &filters).await?;
        let witness = Subscriber::taking(scene, &role("witness"), None, &filters).await?;
        let mut publisher =
            Publisher::with(&behind, &role("publisher"), Lifetime::DURABLE, load.window()).await?;
        publisher.be_patient(READY_LIMIT);
        let cast = Cast {
            scene: scene.clone(),
            proxy,
            told,
            publisher: Client::publisher(&publisher.peer),
            subscriber: Client::subscriber(subscriber),
            witness: Client::subscriber(witness),
        };
        Ok(Self { traffic: Traffic::new(scene, publisher, load, &topic), cast })
    }

    /// Carries the strikes out, ends the streams, waits until the sentinels have arrived, and sends everybody home. Who
    /// keeps the clients alive does so without a break: one that is coming back must not be left half-way.
    pub(super) async fn play(mut self, strikes: &[Strike]) -> Result<(), Trouble> {
        let Self { traffic, cast } = &mut self;
        let cast = &*cast;
        let played = async {
            let struck = cast.strike_all(traffic, strikes).await;
            if struck.is_err() {
                // Whoever is answered and gets no messages has no filter any more; that much is still to be seen.
                let _ = cast.ask_aside().await;
            }
            struck?;
            cast.drain(traffic).await
        };
        cast.kept(played).await?;
        for client in cast.everybody() {
            client.peer().disconnect().await;
        }
        Ok(())
    }
}

impl Cast {
    async fn strike_all(&self, traffic: &mut Traffic, strikes: &[Strike]) -> Result<(), Trouble> {
        for strike in strikes {
            self.strike(traffic, strike).await?;
        }
        Ok(())
    }

    /// One strike in the middle of traffic, until everybody is back.
    async fn strike(&self, traffic: &mut Traffic, strike: &Strike) -> Result<(), Trouble> {
        let phase = watch::Sender::new(Phase::Flowing);
        let struck = async {
            self.carry_out(strike, &phase).await?;
            phase.send_replace(Phase::Enough);
            Ok(())
        };
        tokio::try_join!(traffic.flow(&phase), struck).map(drop)
    }

    async fn drain(&self, traffic: &mut Traffic) -> Result<(), Trouble> {
        let sentinels = traffic.end().await?;
        self.ask_aside().await?;
        let readers = [self.subscriber.name(), self.witness.name()];
        let owed = readers.into_iter().flat_map(|to| sentinels.iter().map(|id| (to.clone(), *id)));
        self.scene.drain(owed.collect()).await
    }

    /// Those who subscribe hear an answer of the broker.
    async fn ask_aside(&self) -> Result<(), Trouble> {
        self.subscriber.ask_aside(&self.scene).await?;
        self.witness.ask_aside(&self.scene).await
    }

    pub(super) fn everybody(&self) -> [&Client; 3] {
        [&self.publisher, &self.subscriber, &self.witness]
    }

    /// Does `work` while everybody is kept alive.
    async fn kept(&self, work: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
        let scene = &self.scene;
        tokio::select! {
            biased;
            done = work => done,
            trouble = self.publisher.keep(scene) => Err(trouble),
            trouble = self.subscriber.keep(scene) => Err(trouble),
            trouble = self.witness.keep(scene) => Err(trouble),
        }
    }

    /// Whether this rule has done all that it will do.
    pub(super) fn has_struck(&self, id: RuleId) -> bool {
        let rules = self.proxy.rules();
        let listed = rules.iter().find(|listed| listed.id == id);
        listed.is_some_and(|it| it.is_spent || (it.rule.fault().lasts() && it.strikes > 0))
    }

    /// The clients to which a rule applies.
    pub(super) fn struck_by<'a>(&'a self, rule: &'a proxy::Rule) -> impl Iterator<Item = &'a Client> {
        let is_meant = |client: &&Client| {
            let scope = proxy::Scope { client: rule.scope().client.clone(), ..proxy::Scope::default() };
            scope.has_peer(&proxy::Peer { client: Some((&**client.name()).into()), ..proxy::Peer::new(0) })
        };
        [&self.publisher, &self.subscriber].into_iter().filter(is_meant)
    }
}

/// What the proxy's own strikes are called, if they are told.
pub(super) fn told_as(strike: &Strike) -> Option<&'static str> {
    match &strike.deed {
        Deed::Rule(_) => Some(strike.kind().name),
        Deed::Act(..) => None,
    }
}
