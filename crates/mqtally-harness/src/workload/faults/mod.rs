//! Group `faults`: a publisher and a subscriber behind the fault proxy, a witness beside it, traffic at QoS 1 and 2, and
//! one strike after the other, each in the middle of it.
//!
//! What strikes the nemesis says ([`crate::nemesis`]); here it is carried out. Behind every strike both clients find back
//! to their sessions; at the end sentinels go out, to the subscriber and to the witness.

mod acting;
mod client;
mod theatre;
mod traffic;

use super::{Scene, Trouble};
use crate::nemesis::Strike;
use theatre::Theatre;

/// The strikes of the scene's stage, those under the same load after each other.
pub(crate) async fn play(scene: Scene) -> Result<(), Trouble> {
    let strikes = scene.strikes();
    for (number, strikes) in strikes.chunk_by(|a, b| a.load == b.load).enumerate() {
        under_one_load(&scene, number, strikes).await?;
    }
    Ok(())
}

async fn under_one_load(scene: &Scene, number: usize, strikes: &[Strike]) -> Result<(), Trouble> {
    let Some(load) = strikes.first().map(|strike| strike.load) else { return Ok(()) };
    Theatre::open(scene, number, load).await?.play(strikes).await
}
