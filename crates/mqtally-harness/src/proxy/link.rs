//! The sockets of one link around its [`Relay`].

use super::listener::Shared;
use super::relay::{Exit, Relay};
use super::{Direction, Ending, Note};
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

/// How long the broker may take to accept.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// How long a side may take to answer a FIN by its own.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How long the client's CONNECT waits for the broker to answer those of a storm.
const GREETING_MAX: Duration = Duration::from_millis(500);
/// How long an extra connection of a storm stays, if the broker does not end it.
const EXTRA_MAX: Duration = Duration::from_secs(5);
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Writes in one direction before the other has its turn.
const WRITES_MAX: usize = 256;

/// One side of a link.
struct Side {
    stream: TcpStream,
    /// What was polled for it and not taken yet.
    out: BytesMut,
}

struct Link<'a> {
    shared: &'a Shared,
    relay: Relay,
    /// By the direction whose packets they receive.
    sides: [Side; 2],
    /// Connections of a storm that the broker has not answered.
    greeting: JoinSet<io::Result<TcpStream>>,
    /// Those that it has.
    extra: JoinSet<()>,
}

/// Carries one connection to the broker and back until it is over.
pub(super) async fn run(client: TcpStream, relay: Relay, shared: &Shared) {
    let mut changes = shared.changes();
    let broker = match dial(shared).await {
        Ok(broker) => broker,
        Err(error) => {
            let reason = error.to_string();
            shared.note(&Note::Unreachable { peer: relay.peer(), reason });
            shared.closed(&relay, Some(Ending::Rst));
            drop(client.set_zero_linger());
            return;
        }
    };
    // A socket that refuses the option is dead already, and its first read says so.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    shared.note(&Note::Opened(relay.peer()));
    let sides = [Side::new(broker), Side::new(client)];
    let mut link = Link { shared, relay, sides, greeting: JoinSet::new(), extra: JoinSet::new() };
    while !link.step() {
        link.wait(&mut changes).await;
        link.read();
    }
    let cut = link.relay.was_cut();
    shared.closed(&link.relay, cut);
    link.close(cut.unwrap_or_default()).await;
}

async fn dial(shared: &Shared) -> io::Result<TcpStream> {
    let (host, port) = shared.upstream();
    timeout(DIAL_MAX, TcpStream::connect((host, port)))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, "the broker does not answer")))
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self { stream, out: BytesMut::new() }
    }

    /// Writes what the socket takes; true when it took everything.
    fn write(&mut self) -> io::Result<bool> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits until it can be read or written, as far as that is of interest.
    async fn ready(&self, reads: bool) {
        let interest = match (reads, !self.out.is_empty()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        // An error is seen by the read or write that follows.
        drop(self.stream.ready(interest).await);
    }

    /// FIN, and then nothing until the other end's: unread bytes would make a reset of it.
    async fn say_goodbye(mut self) {
        let mut rest = [0; 4 << 10];
        drop(
            timeout(FAREWELL_MAX, async {
                self.stream.shutdown().await?;
                while self.stream.read(&mut rest).await? > 0 {}
                io::Result::Ok(())
            })
            .await,
        );
    }
}

impl Link<'_> {
    /// Does what can be done without waiting; true when the link is over.
    fn step(&mut self) -> bool {
        let now = self.shared.now();
        self.relay.refresh(now, &mut self.shared.rules());
        while let Some(connect) = self.relay.poll_replay(now) {
            self.greeting.spawn(greet(self.shared.upstream(), connect));
        }
        // Behind a storm, the client's own CONNECT is the last.
        if self.greeting.is_empty() {
            self.write(Direction::ToServer);
        }
        self.write(Direction::ToClient);
        self.relay.is_over()
    }

    fn write(&mut self, direction: Direction) {
        let now = self.shared.now();
        let side = &mut self.sides[direction as usize];
        for _ in 0..WRITES_MAX {
            match side.write() {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    side.out.clear();
                    self.relay.lose_sink(direction, now);
                }
            }
            match self.relay.poll(direction, now, &mut side.out) {
                Some(Exit::Cut(_)) => return,
                // A side that is gone already says so to the next write.
                Some(Exit::HalfClose) => drop(half_close(&side.stream)),
                None if side.out.is_empty() => return,
                None => {}
            }
        }
    }

    async fn wait(&mut self, changes: &mut watch::Receiver<u64>) {
        let takes = |direction: Direction| {
            let is_held = direction == Direction::ToServer && !self.greeting.is_empty();
            self.sides[direction as usize].out.is_empty() && !is_held
        };
        let deadline = self.relay.deadline(takes).map(|at| self.shared.instant(at));
        let [broker, client] = &self.sides;
        tokio::select! {
            () = client.ready(self.relay.wants(Direction::ToServer)) => {}
            () = broker.ready(self.relay.wants(Direction::ToClient)) => {}
            Some(greeted) = self.greeting.join_next() => {
                if let Ok(Ok(broker)) = greeted {
                    self.extra.spawn(linger(broker));
                }
            }
            // The sender lives as long as the proxy's tasks.
            _ = changes.changed() => {}
            () = async { sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await }, if deadline.is_some() => {}
        }
    }

    fn read(&mut self) {
        let now = self.shared.now();
        for direction in Direction::ALL {
            if !self.relay.wants(direction) {
                continue;
            }
            let source = &self.sides[direction.opposite() as usize].stream;
            let input = self.relay.input(direction);
            input.reserve(READ_BYTES);
            match source.try_read_buf(input) {
                Ok(0) => self.relay.end(direction, Ending::Fin, now),
                Ok(_) => self.relay.receive(direction, now, &mut self.shared.rules()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.relay.end(direction, Ending::Rst, now),
            }
        }
    }

    async fn close(self, ending: Ending) {
        let [broker, client] = self.sides;
        match ending {
            Ending::Fin => drop(tokio::join!(broker.say_goodbye(), client.say_goodbye())),
            Ending::Rst => drop((broker.stream.set_zero_linger(), client.stream.set_zero_linger())),
        }
    }
}

fn half_close(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// One connection of a storm: says its CONNECT and waits for whatever the broker does about it.
async fn greet((host, port): (String, u16), connect: Bytes) -> io::Result<TcpStream> {
    let mut broker = TcpStream::connect((host, port)).await?;
    broker.write_all(&connect).await?;
    drop(timeout(GREETING_MAX, broker.readable()).await);
    Ok(broker)
}

/// It acknowledges nothing, and stays until the broker ends it.
async fn linger(mut broker: TcpStream) {
    let mut ignored = [0; 4 << 10];
    let read_all = async { while broker.read(&mut ignored).await.is_ok_and(|len| len > 0) {} };
    drop(timeout(EXTRA_MAX, read_all).await);
}
