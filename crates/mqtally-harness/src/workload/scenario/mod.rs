//! A scenario, played: its devices publish on their timetable, its subscribers act, and the nemesis strikes.
//!
//! The story lasts as long as the file says, divided by its speed. Then everything is healed, whoever looks for the
//! newest value comes, and every stream is drained to its sentinels.

mod cast;
mod device;
mod drain;
mod link;
mod nemesis;

use super::{Scene, Stage, Trouble};
use crate::run::{Feature, Offer};
use crate::scenario::{Need, Scenario};
use cast::Cast;
use device::Device;
use link::Link;
use nemesis::Nemesis;
use std::convert::Infallible;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The one stage of a scenario.
pub(crate) static STAGE: Stage = Stage::new_scenario("scenario", |scene| Box::pin(play(scene)));

/// Messages of a device from which on a subscriber that is there certainly has to hear some.
const HEARD_FROM: u32 = 10;

/// The promises that a scenario puts to the test on a broker with this offer: its needs.
pub(crate) fn exercises(scenario: &Scenario, offer: &Offer) -> Vec<&'static str> {
    if lacks(scenario, offer).is_some() {
        return Vec::new();
    }
    let needed = |need: Need| {
        let streams = scenario.streams.iter().filter(move |stream| stream.has(need));
        streams.filter(|stream| scenario.subscribers.iter().any(|it| it.asks_for(stream).is_some()))
    };
    // One that is away for most of the time may hear nothing of what may be lost.
    let heard = needed(Need::MayLose).any(|stream| {
        let hearers = scenario.subscribers.iter().filter(|it| it.asks_for(stream).is_some());
        scenario.count_of(stream) >= HEARD_FROM && hearers.clone().any(|it| !scenario.is_mostly_away(it))
    });
    let all = [
        ("N1", heard),
        ("N2", needed(Need::MustArrive).next().is_some()),
        ("N3", needed(Need::MustNotHappenTwice).next().is_some()),
        ("N4", scenario.streams.iter().any(|stream| stream.has(Need::NewestOnly))),
    ];
    all.into_iter().filter(|(_, exercised)| *exercised).map(|(promise, _)| promise).collect()
}

/// What a broker with this offer lacks to have the scenario played.
pub(crate) fn lacks(scenario: &Scenario, offer: &Offer) -> Option<Feature> {
    let retains = scenario.streams.iter().any(|stream| stream.retained);
    (retains && !offer.has(Feature::Retain)).then_some(Feature::Retain)
}

async fn play(scene: Scene) -> Result<(), Trouble> {
    let Some(scenario) = scene.scenario().cloned() else { return Ok(()) };
    let mut cast = Cast::assemble(&scene, &scenario).await?;
    cast.declare();
    let began = Instant::now();
    let nemesis = Nemesis::new(&scene, &scenario, began);
    let mut keepers = JoinSet::new();
    for link in cast.links(&nemesis) {
        keepers.spawn(link.keep());
    }
    let story = async {
        let mut publishing = JoinSet::new();
        for device in cast.take_devices() {
            publishing.spawn(device.publish(began));
        }
        nemesis.strike().await?;
        sleep_until(began + scenario.compressed(scenario.duration)).await;
        drain::drain(&scene, &mut cast, publishing).await
    };
    tokio::select! {
        drained = story => drained?,
        trouble = first(&mut keepers) => return Err(trouble),
    }
    keepers.shutdown().await;
    cast.stay();
    Ok(())
}

/// The first link that cannot be kept.
async fn first(keepers: &mut JoinSet<Result<Infallible, Trouble>>) -> Trouble {
    loop {
        match keepers.join_next().await {
            Some(Ok(Err(trouble))) => return trouble,
            // A panic in there is a fault of ours and must not look like one of the broker's.
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}
