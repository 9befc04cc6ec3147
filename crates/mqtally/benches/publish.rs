//! CPU time of the client's thread per published message: window 100, payload 100 bytes, QoS 1 and 2, over loopback.
//!
//! The peer runs on a thread of its own and answers whatever is there in one write. Linux only: the time comes from
//! `/proc/thread-self/schedstat`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use bytes::BytesMut;
use mqtally::client::{Client, Event, Settings};
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{
    Ack, Connack, Decoder, Packet, Properties, Publish, Qos, ReasonCode, Version, encode,
};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

const MESSAGES: u64 = 500_000;
const EVENTS_AT_ONCE: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let endpoint = Endpoint::new("127.0.0.1", listener.local_addr()?.port());
        let peer = std::thread::spawn(move || answer(&listener));
        let (started, cpu_ns) = (Instant::now(), thread_cpu_ns()?);
        runtime.block_on(publish(endpoint, qos))?;
        let (elapsed, cpu_ns) = (started.elapsed(), thread_cpu_ns()? - cpu_ns);
        let (cpu_us, rate) = (cpu_ns as f64 / 1e3 / MESSAGES as f64, MESSAGES as f64 / elapsed.as_secs_f64());
        println!("{qos:?}: {cpu_us:.2} µs CPU a message, {rate:.0} messages a second");
        peer.join().map_err(|_| "the peer failed")??;
    }
    Ok(())
}

async fn publish(endpoint: Endpoint, qos: Qos) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options { in_flight_max: 100, ..Options::new(Version::V5_0, "bench") };
    let (client, mut events) = Client::start(Settings::new(endpoint, options));
    client.connect().await?;
    let publisher = tokio::spawn({
        let client = client.clone();
        async move {
            let message = Publish {
                qos,
                topic: "bench/topic".into(),
                payload: vec![b'x'; 100].into(),
                ..Publish::default()
            };
            for token in 0..MESSAGES {
                client.publish(token, message.clone()).await?;
            }
            Ok::<(), mqtally_proto::session::PublishError>(())
        }
    });
    let (mut batch, mut completed) = (Vec::new(), 0);
    while completed < MESSAGES && events.recv_many(&mut batch, EVENTS_AT_ONCE).await > 0 {
        completed += batch.drain(..).filter(is_completion).count() as u64;
    }
    publisher.await??;
    client.disconnect(ReasonCode::SUCCESS, None).await;
    Ok(())
}

fn is_completion(event: &Event) -> bool {
    matches!(event, Event::Session(SessionEvent::Completed { .. }))
}

fn answer(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let (mut decoder, mut input, mut output) = (Decoder::server(1 << 20), BytesMut::new(), BytesMut::new());
    let mut chunk = vec![0; 1 << 16];
    loop {
        let bytes = read(&mut stream, &mut chunk)?;
        if bytes == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..bytes]);
        while let Some(packet) = decoder.decode(&mut input).map_err(std::io::Error::other)? {
            if let Some(answer) = answer_to(&packet) {
                encode(&answer, Version::V5_0, &mut output).map_err(std::io::Error::other)?;
            }
        }
        stream.write_all(&output.split())?;
    }
}

/// A reset is an end, too.
fn read(stream: &mut TcpStream, chunk: &mut [u8]) -> std::io::Result<usize> {
    stream
        .read(chunk)
        .or_else(|error| if error.kind() == std::io::ErrorKind::ConnectionReset { Ok(0) } else { Err(error) })
}

fn answer_to(packet: &Packet) -> Option<Packet> {
    match *packet {
        Packet::Connect(_) => {
            let properties = Properties::default();
            Some(Packet::Connack(Connack { session_present: false, reason: ReasonCode::SUCCESS, properties }))
        }
        Packet::Publish(Publish { qos: Qos::AtLeastOnce, packet_id: Some(id), .. }) => {
            Some(Packet::Puback(Ack::success(id)))
        }
        Packet::Publish(Publish { packet_id: Some(id), .. }) => Some(Packet::Pubrec(Ack::success(id))),
        Packet::Pubrel(Ack { packet_id, .. }) => Some(Packet::Pubcomp(Ack::success(packet_id))),
        _ => None,
    }
}

fn thread_cpu_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(schedstat.split(' ').next().ok_or("no schedstat")?.parse()?)
}
