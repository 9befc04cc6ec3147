//! A broker that clients cannot work with is given up, however willingly it accepts the next connection.

mod support;

use bytes::BytesMut;
use mqtally_harness::nemesis::Faults;
use mqtally_harness::run::Group;
use mqtally_proto::packet::{
    Ack, Connack, Decoder, Packet, Properties, Publish, Qos, ReasonCode, Suback, Version, encode,
};
use std::net::{Ipv4Addr, SocketAddr};
use support::{plan, play, url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One real broker answers a QoS 2 PUBLISH with PUBACK. That is an end of the connection to a client, which came back and
/// sent the message again, and again: a hundred thousand times before somebody ended the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_does_not_come_back_for_ever_to_be_answered_wrongly() {
    let mut plan = plan(&[Group::Faults]);
    plan.versions = vec![Version::V3_1_1];
    plan.faults = Faults::read("cut-publisher").expect("a kind");
    let played = play(plan, url(broker_without_qos_2().await)).await;
    let troubles = played.troubles();
    let fruitless = troubles.iter().any(|it| it.contains("connections in a row, and no acknowledgement"));
    assert!(fruitless, "{troubles:#?}");
}

async fn broker_without_qos_2() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("no port");
    let address = listener.local_addr().expect("no address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut decoder, mut buffer) = (Decoder::server(1 << 20), BytesMut::new());
    while stream.read_buf(&mut buffer).await? > 0 {
        let mut answers = BytesMut::new();
        while let Ok(Some(packet)) = decoder.decode(&mut buffer) {
            if let Some(answer) = answer(packet) {
                encode(&answer, Version::V3_1_1, &mut answers).expect("encoded");
            }
        }
        stream.write_all(&answers).await?;
    }
    Ok(())
}

fn answer(packet: Packet) -> Option<Packet> {
    let properties = Properties::default();
    match packet {
        Packet::Connect(_) => {
            Some(Packet::Connack(Connack { session_present: false, reason: ReasonCode::SUCCESS, properties }))
        }
        Packet::Subscribe(it) => {
            let reasons = it.filters.iter().map(|filter| ReasonCode(filter.qos.as_u8())).collect();
            Some(Packet::Suback(Suback { packet_id: it.packet_id, properties, reasons }))
        }
        Packet::Publish(Publish {
            qos: Qos::AtLeastOnce | Qos::ExactlyOnce, packet_id: Some(id), ..
        }) => Some(Packet::Puback(Ack::success(id))),
        Packet::Pingreq => Some(Packet::Pingresp),
        _ => None,
    }
}
