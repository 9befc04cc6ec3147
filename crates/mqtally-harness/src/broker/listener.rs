//! Accepting connections, and the broker's life from bind to the last byte.

use super::connection;
use super::engine::{Clock, Engine};
use super::inbox::{Inbox, Input};
use super::link::Link;
use super::peers::Peers;
use super::store::{Store, StoreError};
use super::users::Gate;
use super::{BrokerError, Durability, Options, Served};
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long connections may take to end when the broker stops.
const STOP_MAX: Duration = Duration::from_secs(2);
/// Rest after a failed accept: the process is out of file descriptors, and a loop would only burn its time.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

type EngineEnd = oneshot::Receiver<Result<Served, StoreError>>;

/// Runs a broker until `shutdown` completes. `ready` is called with the bound address once clients are served.
///
/// On shutdown clients are told, what was accepted is committed, and the store is closed. Needs a tokio runtime with
/// I/O and time; one thread is enough, the engine has its own.
///
/// # Errors
/// At the start: the address, the store. Later: the store, after which no acknowledgement was sent for what could not
/// be committed, and every connection has been closed.
pub async fn serve(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<Served, BrokerError> {
    let listen = options.listen;
    let refused = |source| BrokerError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let mut acceptor = Acceptor::new(listener, &options);
    let mut engine_end = start_engine(options, Arc::clone(&acceptor.inbox))?;
    ready(address);

    let mut shutdown = pin!(shutdown);
    let end = loop {
        tokio::select! {
            end = &mut engine_end => break end,
            () = &mut shutdown => {
                acceptor.inbox.push(Input::Shutdown);
                break engine_end.await;
            }
            () = acceptor.accept() => {}
        }
    };
    let served = end.map_err(|_| BrokerError::Engine)??;
    acceptor.wait_for_connections().await;
    Ok(served)
}

fn start_engine(options: Options, inbox: Arc<Inbox>) -> Result<EngineEnd, BrokerError> {
    let config = Config { limits: options.limits.clone(), authenticate: options.users.is_some() };
    let peers = Peers::new(options.backlog_qos0_max, options.backlog_max());
    let (store, stored) = match &options.durability {
        Durability::Volatile => (None, None),
        Durability::Durable { directory, sync } => {
            Store::open(directory, *sync).map(|(a, b)| (Some(a), Some(b)))?
        }
    };
    let clock = Clock::start(store.as_ref().map_or(Time::default(), Store::time));
    let broker = match stored {
        Some(stored) => Broker::restore(config, stored, clock.now()),
        None => Broker::new(config),
    };
    let gate = options.users.map(|users| Gate::new(users, Arc::clone(&inbox), Handle::current()));
    let engine =
        Engine { broker, store, clock, inbox, gate, peers, outputs: Vec::new(), served: Served::default() };
    let (sender, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("broker-engine".to_owned())
        .spawn(move || sender.send(engine.run()))
        .map_err(BrokerError::Start)?;
    Ok(end)
}

/// Accepts connections and owns their tasks; dropping it ends them all.
struct Acceptor {
    listener: TcpListener,
    inbox: Arc<Inbox>,
    tasks: JoinSet<()>,
    next_id: u64,
    connections_max: usize,
    packet_size_max: u32,
}

impl Acceptor {
    fn new(listener: TcpListener, options: &Options) -> Self {
        Self {
            listener,
            inbox: Arc::default(),
            tasks: JoinSet::new(),
            next_id: 0,
            connections_max: options.connections_max,
            packet_size_max: options.limits.packet_size_max,
        }
    }

    async fn accept(&mut self) {
        match self.listener.accept().await {
            Ok((stream, _)) => self.open(stream),
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }

    fn open(&mut self, stream: TcpStream) {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= self.connections_max {
            return;
        }
        // Without it every answer would wait for the client's delayed acknowledgement; a socket that refuses the
        // option is dead already and its first read says so.
        let _ = stream.set_nodelay(true);
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        let link = Arc::new(Link::new(stream));
        self.inbox.push(Input::Opened(id, Arc::clone(&link)));
        let (inbox, packet_size_max) = (Arc::clone(&self.inbox), self.packet_size_max);
        self.tasks.spawn(async move { connection::run(id, &link, &inbox, packet_size_max).await });
    }

    async fn wait_for_connections(mut self) {
        drop(self.listener);
        // Those that take longer are cut off when the set is dropped.
        let _ = timeout(STOP_MAX, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}
