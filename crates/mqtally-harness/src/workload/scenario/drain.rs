//! The end of a scenario: everything is healed, and every stream is drained to its sentinels.

use super::cast::Cast;
use super::{Device, Scene, Trouble};
use crate::scenario::Need;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::Qos;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Times that the end of a stream is sent where it may be lost.
const SENTINELS_MAX: usize = 3;
/// How long nothing has to arrive until no more is waited for what may be lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for the devices, lets whoever looks for the newest come, and waits until everything has arrived and was acted on.
pub(super) async fn drain(
    scene: &Scene,
    cast: &mut Cast,
    publishing: JoinSet<Result<Device, Trouble>>,
) -> Result<(), Trouble> {
    cast.until_connected().await?;
    let mut devices = finished(scene, publishing).await?;
    for device in &devices {
        device.settle().await?;
    }
    look(scene, cast, &devices).await?;
    drain_owed(scene, cast, &mut devices).await?;
    for device in &mut devices {
        drain_unowed(scene, cast, device).await?;
    }
    for act in &cast.acts {
        act.application.read_positions();
        act.application.report();
    }
    Ok(())
}

/// The devices, when each has handed its last message to its client. As long as anything goes on they have time.
async fn finished(
    scene: &Scene,
    mut publishing: JoinSet<Result<Device, Trouble>>,
) -> Result<Vec<Device>, Trouble> {
    let mut devices = Vec::new();
    let mut before = scene.recorder.progress();
    loop {
        match timeout(scene.plan.drain_limit, publishing.join_next()).await {
            Ok(Some(device)) => {
                // A panic in there is a fault of ours and must not look like one of the broker's.
                devices.push(device.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
            }
            Ok(None) => return Ok(devices),
            Err(_) if scene.recorder.progress() == before => {
                let (client, seconds) =
                    (format!("{} devices", publishing.len()), scene.plan.drain_limit.as_secs());
                return Err(Trouble::Silent { client, awaited: "room in their windows", seconds });
            }
            Err(_) => before = scene.recorder.progress(),
        }
    }
}

/// Whoever comes late subscribes and has its time to be given what is retained; whether it is the history tells.
async fn look(scene: &Scene, cast: &mut Cast, devices: &[Device]) -> Result<(), Trouble> {
    let Some(name) = cast.look().await? else { return Ok(()) };
    let looked_at = devices.iter().filter(|device| device.stream.has(Need::NewestOnly));
    let newest = looked_at.filter_map(|device| Some((name.clone(), device.newest?))).collect();
    let _ = scene.recorder.await_arrivals(newest, PATIENCE).await;
    Ok(())
}

/// Streams and sessions between which every message is owed.
async fn drain_owed(scene: &Scene, cast: &Cast, devices: &mut [Device]) -> Result<(), Trouble> {
    let mut owed: Vec<(usize, MessageId)> = Vec::new();
    for device in devices.iter_mut().filter(|device| device.source.qos() > Qos::AtMostOnce) {
        let sentinel = device.send_sentinel().await?.id;
        let readers = cast.concerned(device.source.topic()).filter(|(_, asked)| *asked > Qos::AtMostOnce);
        owed.extend(readers.map(|(at, _)| (at, sentinel)));
    }
    for device in devices.iter() {
        device.settle().await?;
    }
    let name = |at: usize| cast.acts[at].subscriber.name().clone();
    scene.drain(owed.iter().map(|(at, sentinel)| (name(*at), *sentinel)).collect()).await?;
    for (at, sentinel) in owed {
        cast.acts[at].application.until_handled(sentinel).await?;
    }
    Ok(())
}

/// Streams and sessions between which anything may be lost, the end too: it is sent a few times.
async fn drain_unowed(scene: &Scene, cast: &Cast, device: &mut Device) -> Result<(), Trouble> {
    let published = device.source.qos();
    let lossy = |asked: Qos| asked.min(published) == Qos::AtMostOnce;
    let readers = cast.concerned(device.source.topic()).filter(|(_, asked)| lossy(*asked));
    let mut readers: Vec<usize> = readers.map(|(at, _)| at).collect();
    for _ in 0..SENTINELS_MAX {
        if readers.is_empty() {
            return Ok(());
        }
        let sentinel = device.send_sentinel().await?.id;
        let name = |at: usize| -> Arc<str> { cast.acts[at].subscriber.name().clone() };
        let owed = readers.iter().map(|at| (name(*at), sentinel)).collect();
        let missing = scene.recorder.await_arrivals(owed, PATIENCE).await.err().unwrap_or_default();
        let (late, there): (Vec<usize>, Vec<usize>) =
            readers.into_iter().partition(|at| missing.iter().any(|(client, _)| *client == name(*at)));
        for at in there {
            cast.acts[at].application.until_handled(sentinel).await?;
        }
        readers = late;
    }
    Ok(())
}
