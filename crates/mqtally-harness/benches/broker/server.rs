//! The brokers that are compared, each as a child process.

use mqtally_harness::broker::store::Sync;
use mqtally_harness::broker::{Durability, Options, serve};
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Durable,
    NoFsync,
    Volatile,
    Mosquitto,
    MosquittoPersistent,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Durable, Self::NoFsync, Self::Volatile, Self::Mosquitto, Self::MosquittoPersistent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable, fsync",
            Self::NoFsync => "durable, no fsync",
            Self::Volatile => "volatile",
            Self::Mosquitto => "mosquitto",
            Self::MosquittoPersistent => "mosquitto, persistence",
        }
    }

    pub(crate) fn is_mosquitto(self) -> bool {
        matches!(self, Self::Mosquitto | Self::MosquittoPersistent)
    }
}

/// A broker process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a broker with an empty `directory` of its own.
    pub(crate) fn start(kind: Kind, directory: &Path) -> Result<Self> {
        if kind.is_mosquitto() { start_mosquitto(kind, directory) } else { start_ours(kind, directory) }
    }

    /// Processor time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
            total += Duration::from_nanos(nanos.ok_or_else(|| Error::other("no schedstat"))?);
        }
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child of [`start_ours`] does: serves until it is killed.
pub(crate) fn run(kind: &str, directory: &str) -> Result<()> {
    let directory = directory.into();
    let durability = match kind {
        "Durable" => Durability::Durable { directory, sync: Sync::Full },
        "NoFsync" => Durability::Durable { directory, sync: Sync::Off },
        _ => Durability::Volatile,
    };
    let options = Options::new((Ipv4Addr::LOCALHOST, 0).into(), durability);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ready = |address| drop(writeln!(std::io::stdout(), "{address}"));
    runtime.block_on(serve(options, ready, std::future::pending())).map(drop).map_err(Error::other)
}

fn start_ours(kind: Kind, directory: &Path) -> Result<Server> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--serve", &format!("{kind:?}")])
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let address = line.trim().parse().map_err(Error::other)?;
    Ok(Server { child, address })
}

fn start_mosquitto(kind: Kind, directory: &Path) -> Result<Server> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let file = directory.join("mosquitto.conf");
    let persistence = kind == Kind::MosquittoPersistent;
    // Its default limits would drop most of the offline case and cut off a window above 20.
    let config = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 100\npersistence {persistence}\n\
         persistence_location {}/\nlog_dest none\nuser root\n",
        address.port(),
        directory.display()
    );
    std::fs::write(&file, config)?;
    let child = Command::new("mosquitto").arg("-c").arg(&file).stderr(Stdio::null()).spawn()?;
    let server = Server { child, address };
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return Err(Error::other("mosquitto does not listen"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}
