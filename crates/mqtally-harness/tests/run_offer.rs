//! What a broker may lawfully be without is left out of the run and said, and nothing else suffers.

mod support;

use bytes::BytesMut;
use mqtally_harness::broker::{Durability, Options};
use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::{Group, RunEvent};
use mqtally_history::profile::Profile;
use mqtally_history::report::Verdict;
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::{Connack, Decoder, Packet, Properties, Qos, ReasonCode, Version, encode};
use std::net::{Ipv4Addr, SocketAddr};
use support::{Embedded, Played, plan, play_until, url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What the one in front of a good broker does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lawful {
    /// It refuses 3.1.1.
    Only5,
    /// It grants QoS 1 to whoever asks for 2.
    GrantOne,
    /// It closes instead of saying what it refuses.
    RefuseSilently,
}

/// Plays these groups through it: nothing may be broken, unknown or in the way.
async fn kept(lawful: Lawful, groups: &[Group]) -> Played {
    let broker = Embedded::start().await;
    played(url(relay(broker.address, lawful).await), groups).await
}

async fn played(source: BrokerSource, groups: &[Group]) -> Played {
    let played = play_until(plan(groups), source, Profile::Volatile, |_| false).await;
    let report = played.report();
    assert_eq!(played.troubles(), Vec::<String>::new());
    assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
    played
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_speaks_only_5_is_judged_on_5() {
    let played = kept(Lawful::Only5, &[Group::Session]).await;
    assert_eq!(played.report().broker.protocols, ["5"]);
    let left_out =
        |event: &RunEvent| matches!(event, RunEvent::VersionSkipped { version: Version::V3_1_1, .. });
    assert!(played.told.iter().any(left_out), "{:?}", played.told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_grants_qos_1_owes_nothing_at_qos_2() {
    let played = kept(Lawful::GrantOne, &[Group::Qos, Group::Session]).await;
    let of = |id| played.report().promises.into_iter().find(|it| it.id == id).expect("a promise").obligations;
    assert!(of("D1") > 0 && of("D2") == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_refuses_by_closing_is_not_required_to_say_it() {
    kept(Lawful::RefuseSilently, &[Group::Session]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_ends_sessions_early_and_says_so_is_kept() {
    let limits = Limits { session_expiry_max: 3, ..Limits::default() };
    let options = Options { limits, ..Options::new((Ipv4Addr::LOCALHOST, 0).into(), Durability::Volatile) };
    let broker = Embedded::serving(options).await;
    played(broker.source(), &[Group::Session, Group::Options]).await;
}

async fn relay(broker: SocketAddr, lawful: Lawful) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("no port");
    let address = listener.local_addr().expect("no address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, broker, lawful));
        }
    });
    address
}

async fn pass(mut client: TcpStream, broker: SocketAddr, lawful: Lawful) -> std::io::Result<()> {
    let (mut decoder, mut bytes) = (Decoder::server(1 << 20), BytesMut::new());
    let connect = loop {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if let Ok(Some(Packet::Connect(connect))) = decoder.decode(&mut bytes) {
            break connect;
        }
    };
    let version = connect.version;
    if lawful == Lawful::Only5 && version == Version::V3_1_1 {
        let reason = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
        let refusal = Connack { session_present: false, reason, properties: Properties::default() };
        return client.write_all(&bytes_of(&Packet::Connack(refusal), version)).await;
    }
    let mut broker = TcpStream::connect(broker).await?;
    broker.write_all(&bytes_of(&Packet::Connect(connect), version)).await?;
    let ((from_client, to_client), (from_broker, to_broker)) = (client.split(), broker.split());
    let change = |packet| changed(packet, lawful);
    tokio::select! {
        passed = forward((from_client, bytes), to_broker, (decoder, version), change) => passed,
        passed = forward((from_broker, BytesMut::new()), to_client, (Decoder::client(version, 1 << 20), version), change) => passed,
    }
}

/// Until one end closes, or there is a packet that `change` does not let pass.
async fn forward(
    (mut from, mut bytes): (ReadHalf<'_>, BytesMut),
    mut to: WriteHalf<'_>,
    (mut decoder, version): (Decoder, Version),
    change: impl Fn(Packet) -> Option<Packet>,
) -> std::io::Result<()> {
    loop {
        while let Ok(Some(packet)) = decoder.decode(&mut bytes) {
            let Some(packet) = change(packet) else { return Ok(()) };
            to.write_all(&bytes_of(&packet, version)).await?;
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// `None` where the connection is to be closed instead.
fn changed(packet: Packet, lawful: Lawful) -> Option<Packet> {
    match packet {
        Packet::Connack(connack) if lawful == Lawful::RefuseSilently && connack.reason.is_error() => None,
        Packet::Subscribe(mut subscribe) if lawful == Lawful::GrantOne => {
            subscribe.filters.iter_mut().for_each(|it| it.qos = it.qos.min(Qos::AtLeastOnce));
            Some(Packet::Subscribe(subscribe))
        }
        packet => Some(packet),
    }
}

fn bytes_of(packet: &Packet, version: Version) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).expect("encoded");
    bytes
}
