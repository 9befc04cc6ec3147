//! A broker whose deliveries are late: a strike in the middle of them has its time.

mod support;

use mqtally_harness::nemesis::Faults;
use mqtally_harness::run::Group;
use mqtally_history::event::EventKind;
use mqtally_proto::packet::Version;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use support::{Embedded, plan, play, url};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Longer than all the traffic takes that a strike may have.
const LATE: Duration = Duration::from_secs(1);

/// mosquitto leaves Nagle's algorithm on: what it has to deliver right behind SUBACK leaves when the client's system
/// acknowledges that, after 40 ms. With small windows on loopback all the traffic that a strike had was over by then,
/// and the stage gave up: "its packet did not come", no sentinel, L1 unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strike_has_its_time_where_deliveries_are_late() {
    let broker = Embedded::start().await;
    let mut plan = plan(&[Group::Faults]);
    plan.versions = vec![Version::V5_0];
    plan.faults = Faults::read("cut rst before s2c PUBLISH 1").expect("a strike");
    let played = play(plan, url(late(broker.address).await)).await;
    assert_eq!(played.troubles(), Vec::<String>::new());
    let struck = |kind: &EventKind| matches!(kind, EventKind::Fault { client: Some(client), .. } if is_late(client.as_bytes()));
    assert!(played.events.iter().any(|event| struck(&event.kind)));
}

/// A way to the broker on which everything comes late to those who subscribe.
async fn late(broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, broker));
        }
    });
    address
}

async fn relay(client: TcpStream, broker: SocketAddr) -> std::io::Result<()> {
    let broker = TcpStream::connect(broker).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let mut bytes = vec![0; 1 << 16];
    let length = from_client.read(&mut bytes).await?;
    to_broker.write_all(&bytes[..length]).await?;
    let wait = if is_late(&bytes[..length]) { LATE } else { Duration::ZERO };
    tokio::spawn(async move { copy(&mut from_client, &mut to_broker).await });
    loop {
        let length = from_broker.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        sleep(wait).await;
        to_client.write_all(&bytes[..length]).await?;
    }
}

/// Whether a CONNECT, or a name, is of the subscriber.
fn is_late(bytes: &[u8]) -> bool {
    let name = b"-0-subscriber";
    bytes.windows(name.len()).any(|window| window == name)
}
