//! Accepting connections, and the handle of a running proxy.

use super::note::{Note, Watch};
use super::relay::Relay;
use super::rule::{Rule, Scope};
use super::rules::{Admission, Listed, RuleId, Rules, RulesError};
use super::tamper::TamperFactory;
use super::{Ending, Peer, link};
use mqtally::endpoint::{Endpoint, Transport};
use mqtally_proto::Time;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Rest after a failed accept: the process is out of file descriptors, and a loop would only burn its time.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How a proxy is to run.
pub struct ProxyOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The broker; plain TCP. User name and password in it are not used: clients bring their own.
    pub upstream: Endpoint,
    /// Connections open at once; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// Told of everything that happens.
    pub watch: Option<Watch>,
    /// Writes other packets than come.
    pub tamper: Option<TamperFactory>,
}

impl ProxyOptions {
    /// A proxy that only forwards.
    pub fn new(listen: SocketAddr, upstream: Endpoint) -> Self {
        Self { listen, upstream, connections_max: 10_000, watch: None, tamper: None }
    }
}

impl fmt::Debug for ProxyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyOptions")
            .field("listen", &self.listen)
            .field("upstream", &self.upstream.to_string())
            .finish_non_exhaustive()
    }
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The proxy has to read what it passes on.
    #[error("the proxy reaches a broker over plain TCP only; name it as mqtt://HOST:PORT")]
    Transport,
}

/// A running proxy. It ends with its handle, and its links are closed.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens and forwards. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The address cannot be listened on, or the broker's URL is not one of plain TCP.
    pub async fn start(options: ProxyOptions) -> Result<Self, ProxyError> {
        if options.upstream.transport() != Transport::Tcp {
            return Err(ProxyError::Transport);
        }
        let listen = options.listen;
        let refused = |source| ProxyError::Listen { listen, source };
        let door = Door::open(listen).map_err(refused)?;
        let address = door.address;
        let shared = Arc::new(Shared::new(options.upstream, options.watch));
        let acceptor = Acceptor {
            door,
            shared: Arc::clone(&shared),
            links: JoinSet::new(),
            connections_max: options.connections_max,
            tamper: options.tamper,
        };
        let accepting = tokio::spawn(acceptor.run()).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule; it applies from now on, also to open links.
    ///
    /// # Errors
    /// It makes no sense, or there are too many.
    pub fn add(&self, rule: Rule) -> Result<RuleId, RulesError> {
        let now = self.shared.now();
        self.shared.rules().add(rule, now)
    }

    /// Removes a rule and lifts what it put in force.
    pub fn remove(&self, id: RuleId) -> Option<Rule> {
        self.shared.rules().remove(id)
    }

    /// All rules, and how often each struck.
    pub fn rules(&self) -> Vec<Listed> {
        self.shared.rules().list()
    }

    /// The links that are open.
    pub fn links(&self) -> Vec<Peer> {
        self.shared.rules().links()
    }

    /// Cuts the open links in this scope, now; returns how many. Conditions on packets are not looked at.
    pub fn cut(&self, scope: &Scope, ending: Ending) -> usize {
        let now = self.shared.now();
        self.shared.rules().cut(scope, ending, now)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What all links have in common.
#[derive(Debug)]
pub(super) struct Shared {
    rules: Mutex<Rules>,
    /// The rules' generation.
    changes: watch::Sender<u64>,
    upstream: Endpoint,
    started: Instant,
}

/// The rules while somebody looks at them; whoever has to look again is told when he is done.
pub(super) struct Held<'a> {
    rules: MutexGuard<'a, Rules>,
    changes: &'a watch::Sender<u64>,
}

impl std::ops::Deref for Held<'_> {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.rules
    }
}

impl std::ops::DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let generation = self.rules.generation();
        self.changes.send_if_modified(|known| std::mem::replace(known, generation) != generation);
    }
}

impl Shared {
    fn new(upstream: Endpoint, watch: Option<Watch>) -> Self {
        let rules = Mutex::new(Rules::new(watch));
        Self { rules, changes: watch::Sender::new(0), upstream, started: Instant::now() }
    }

    /// Milliseconds since the proxy was started.
    pub(super) fn now(&self) -> Time {
        let elapsed = self.started.elapsed().as_millis();
        Time::from_ms(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    pub(super) fn instant(&self, time: Time) -> Instant {
        self.started + Duration::from_millis(time.as_ms())
    }

    pub(super) fn rules(&self) -> Held<'_> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        Held { rules, changes: &self.changes }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn upstream(&self) -> (String, u16) {
        (self.upstream.host().to_owned(), self.upstream.port())
    }

    pub(super) fn note(&self, note: &Note<'_>) {
        self.rules().note(self.now(), note);
    }

    pub(super) fn closed(&self, relay: &Relay, by: Option<Ending>) {
        let now = self.now();
        self.rules().closed(relay.peer(), by, now);
    }
}

/// A port that stays ours while nobody listens on it.
struct Door {
    address: SocketAddr,
    /// Bound and never listening.
    _reserve: TcpSocket,
    listener: Option<TcpListener>,
}

impl Door {
    fn open(listen: SocketAddr) -> io::Result<Self> {
        // Whether somebody else has the port is only found out by a socket that does not share it.
        let alone = bind(listen, false)?;
        let listen = alone.local_addr()?;
        drop(alone);
        let reserve = bind(listen, true)?;
        let address = reserve.local_addr()?;
        let mut door = Self { address, _reserve: reserve, listener: None };
        door.set_open(true)?;
        Ok(door)
    }

    fn set_open(&mut self, is_open: bool) -> io::Result<()> {
        self.listener = if is_open { Some(bind(self.address, true)?.listen(BACKLOG)?) } else { None };
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match &self.listener {
            Some(listener) => listener.accept().await.map(|(stream, _)| stream),
            None => std::future::pending().await,
        }
    }
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(is_shared)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts connections and owns their tasks; dropping it ends them all.
struct Acceptor {
    door: Door,
    shared: Arc<Shared>,
    links: JoinSet<()>,
    connections_max: usize,
    tamper: Option<TamperFactory>,
}

impl Acceptor {
    async fn run(mut self) {
        let mut changes = self.shared.changes();
        loop {
            self.set_door();
            let deadline = self.deadline();
            tokio::select! {
                accepted = self.door.accept() => match accepted {
                    Ok(stream) => self.open(stream),
                    Err(_) => sleep(ACCEPT_RETRY).await,
                },
                _ = changes.changed() => {}
                Some(_) = self.links.join_next() => {}
                () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {}
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let now = self.shared.now();
        let at = self.shared.rules().refusals_change_at(now);
        at.map(|at| self.shared.instant(at))
    }

    /// Listens or not, as the rules say.
    fn set_door(&mut self) {
        let now = self.shared.now();
        let closed_by = self.shared.rules().unlistened_by(now);
        let is_open = self.door.listener.is_some();
        if is_open == closed_by.is_none() {
            return;
        }
        // The port is ours, so this only fails for want of file descriptors; the next event tries again.
        if self.door.set_open(!is_open).is_ok()
            && let Some(id) = closed_by
        {
            self.shared.rules().strike(id, None, now);
        }
    }

    fn open(&mut self, stream: TcpStream) {
        if self.links.len() >= self.connections_max {
            return;
        }
        let now = self.shared.now();
        let admission = self.shared.rules().admit(now);
        match admission {
            Admission::Refuse(Ending::Fin) => {}
            Admission::Refuse(Ending::Rst) => drop(stream.set_zero_linger()),
            Admission::Serve(peer) => {
                let tamper = self.tamper.as_ref().map(|make| make());
                let relay = Relay::new(peer, tamper);
                let shared = Arc::clone(&self.shared);
                self.links.spawn(async move { link::run(stream, relay, &shared).await });
            }
        }
    }
}
