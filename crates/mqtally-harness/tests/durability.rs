//! What a started broker is found to keep. The broker is this test program again, in a process of its own.

use bytes::BytesMut;
use mqtally_harness::broker::store::{Store, Sync};
use mqtally_harness::durability::measure;
use mqtally_harness::process::BrokerSource;
use mqtally_history::profile::{Measured, Profile};
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId, Output};
use mqtally_proto::packet::{Decoder, Packet, Publish, Qos, Version, encode};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

async fn measured(writes: &str) -> Measured {
    let directory = tempfile::tempdir().expect("no directory");
    let program = std::env::current_exe().expect("this program has no path");
    let template = format!(
        "env TEST_BROKER_PORT={{port}} TEST_BROKER={writes} '{}' --ignored --exact --nocapture the_broker_itself",
        program.display()
    );
    let source = BrokerSource::Command { template, directory: directory.path().to_owned(), login: None };
    measure(source, Qos::ExactlyOnce, 7).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_writes_before_it_acknowledges_is_durable() {
    let found = measured("before").await;
    assert_eq!(found.profile, Some(Profile::Durable), "{found:?}");
}

/// With one message under way at a time it lost nothing, and was called durable; the run's traffic then lost what it
/// had acknowledged. A broker whose writes queue up behind its event loop is like that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_writes_behind_its_acknowledgements_under_traffic_is_not_durable() {
    let found = measured("behind").await;
    assert_eq!(found.profile, Some(Profile::Graceful), "{found:?}");
}

#[tokio::test]
#[ignore = "the broker that the other tests start and kill"]
async fn the_broker_itself() {
    let port = std::env::var("TEST_BROKER_PORT").ok().and_then(|port| port.parse().ok());
    let Some(port) = port else { return };
    let behind = std::env::var("TEST_BROKER").is_ok_and(|word| word == "behind");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is taken");
    Engine::open(behind).run(listener).await;
}

/// A broker that writes a change before it answers it, except where it writes `behind`: from the first message that
/// comes before the QoS 2 one in front of it is finished until the connections are gone, or it is asked to stop.
struct Engine {
    broker: Broker,
    store: Store,
    links: HashMap<ConnectionId, Link>,
    behind: bool,
}

struct Link {
    writer: OwnedWriteHalf,
    /// QoS 2 messages of the client that are not released.
    unfinished: usize,
    pipelines: bool,
}

impl Engine {
    fn open(behind: bool) -> Self {
        let (store, stored) = Store::open(Path::new("state"), Sync::Off).expect("no store");
        Self {
            broker: Broker::restore(Config::default(), stored, now()),
            store,
            links: HashMap::new(),
            behind,
        }
    }

    async fn run(mut self, listener: TcpListener) {
        let (sender, mut packets) = mpsc::channel(100);
        let mut stop = signal(SignalKind::terminate()).expect("no signals");
        let mut last = 0;
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    last += 1;
                    self.open_link(ConnectionId(last), stream, sender.clone());
                }
                Some((id, packet)) = packets.recv() => self.take(id, packet).await,
                _ = stop.recv() => break,
            }
        }
        self.store.commit(now()).expect("no commit");
        self.store.close().expect("not closed");
    }

    fn open_link(&mut self, id: ConnectionId, stream: TcpStream, sender: Sender) {
        let (reader, writer) = stream.into_split();
        self.links.insert(id, Link { writer, unfinished: 0, pipelines: false });
        self.broker.handle_opened(now(), id);
        tokio::spawn(read(id, reader, sender));
    }

    /// `None` is the end of the connection.
    async fn take(&mut self, id: ConnectionId, packet: Option<Packet>) {
        match packet {
            Some(packet) => {
                self.links.get_mut(&id).into_iter().for_each(|link| link.notice(&packet));
                self.broker.handle_packet(now(), id, packet);
            }
            None => {
                self.links.remove(&id);
                self.broker.handle_closed(now(), id);
            }
        }
        self.broker.changes().for_each(|change| self.store.apply(now(), change));
        if !(self.behind && self.links.values().any(|link| link.pipelines)) {
            self.store.commit(now()).expect("no commit");
        }
        self.answer().await;
    }

    async fn answer(&mut self) {
        let outputs: Vec<Output> = self.broker.outputs().collect();
        for output in outputs {
            match output {
                Output::Send(id, packet) => {
                    let mut bytes = BytesMut::new();
                    encode(&packet, Version::V3_1_1, &mut bytes).expect("encoded");
                    let Some(link) = self.links.get_mut(&id) else { continue };
                    // A client that is gone is seen by its reader.
                    let _ = link.writer.write_all(&bytes).await;
                }
                Output::Close(id) => drop(self.links.remove(&id)),
                Output::Authenticate(..) => unreachable!("everybody is let in"),
            }
        }
    }
}

impl Link {
    fn notice(&mut self, packet: &Packet) {
        match packet {
            Packet::Publish(Publish { qos, .. }) => {
                self.pipelines |= self.unfinished > 0;
                self.unfinished += usize::from(*qos == Qos::ExactlyOnce);
            }
            Packet::Pubrel(_) => self.unfinished = self.unfinished.saturating_sub(1),
            _ => {}
        }
    }
}

type Sender = mpsc::Sender<(ConnectionId, Option<Packet>)>;

async fn read(id: ConnectionId, mut reader: OwnedReadHalf, sender: Sender) {
    let (mut decoder, mut buffer) = (Decoder::server(1 << 20), BytesMut::new());
    while reader.read_buf(&mut buffer).await.is_ok_and(|size| size > 0) {
        while let Ok(Some(packet)) = decoder.decode(&mut buffer) {
            if sender.send((id, Some(packet))).await.is_err() {
                return;
            }
        }
    }
    let _ = sender.send((id, None)).await;
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
