//! The broker under test: ours as a child process, somebody's by URL, somebody's started by a command.
//!
//! A child that we started is killed when its [`BrokerUnderTest`] is dropped. It is killed by its own process id, so a
//! command must stay the broker's process (a wrapper script ends in `exec`).

mod child;
mod command_line;
mod port;
mod started;

pub(crate) use started::{Started, command_words};

use child::Process;
use mqtally::connection::{Closing, Connection, Read};
use mqtally::endpoint::Endpoint;
use mqtally_history::event::BrokerKind;
use mqtally_proto::Time;
use mqtally_proto::packet::{Disconnect, Packet, Properties, ReasonCode, Version};
use mqtally_proto::session::{Options, Session};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout};

/// Where brokers of ours listen.
const LOOPBACK: &str = "127.0.0.1";
/// Largest packet taken while reaching for a broker, bytes.
const PACKET_SIZE_MAX: u32 = 1 << 20;
/// How long one attempt to connect may take.
const REACH_LIMIT: Duration = Duration::from_secs(5);

/// How long a broker may take to accept its first connection, unless it is told otherwise: some take ten seconds on a
/// quiet machine.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long one that was asked to stop may take, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Between two attempts to connect to a broker that starts up.
const READY_RETRY: Duration = Duration::from_millis(20);

/// Where the broker comes from.
#[derive(Debug, Clone)]
pub enum BrokerSource {
    /// Our own, as a child process.
    Embedded {
        /// The program `mqtally`.
        program: PathBuf,
        /// Where it keeps its state; it has to exist.
        data: PathBuf,
    },
    /// One that runs already. It is never killed.
    Url(Endpoint),
    /// One that we start.
    Command {
        /// Command line with `{port}` and `{dir}`; words are cut as in a shell, but no shell runs.
        template: String,
        /// What `{dir}` stands for, the working directory of the process; it has to exist.
        directory: PathBuf,
        /// Who clients log in as, if anybody.
        login: Option<Login>,
    },
}

/// A user of a broker.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Login({})", self.user)
    }
}

impl Login {
    fn at(&self, endpoint: Endpoint) -> Endpoint {
        let endpoint = endpoint.with_username(&self.user);
        match &self.password {
            Some(password) => endpoint.with_password(password),
            None => endpoint,
        }
    }
}

/// Why the broker could not be started, stopped or reached. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The command line cannot be understood.
    #[error("the broker command cannot be used: {0}")]
    Command(String),
    /// The command line of a program under test cannot be understood.
    #[error("the subject's command cannot be used: {0}")]
    Subject(String),
    /// The program cannot be started.
    #[error("{program} cannot be started: {error}")]
    Spawn {
        /// The program.
        program: String,
        /// Why not.
        error: std::io::Error,
    },
    /// It ended before it was ready.
    #[error("the broker ended before it accepted a connection ({how}); it said: {said}")]
    EndedEarly {
        /// Exit status.
        how: String,
        /// Its last lines on standard error.
        said: String,
    },
    /// It did not become ready in time.
    #[error("the broker accepted no MQTT connection within {seconds} s at {at} ({why}); it said: {said}")]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Where.
        at: String,
        /// What the last attempt came to.
        why: String,
        /// Its last lines on standard error.
        said: String,
    },
    /// A broker by URL did not answer.
    #[error("no MQTT broker answers at {at}: {why}; check the URL and that the broker runs")]
    Unreachable {
        /// Where, without credentials.
        at: String,
        /// Why.
        why: String,
    },
    /// A broker by URL cannot be killed or restarted.
    #[error("a broker given by URL cannot be killed or restarted; give its start command instead")]
    NotOurs,
    /// The operating system refused.
    #[error("{act}: {error}")]
    System {
        /// What was being done.
        act: &'static str,
        /// Why not.
        error: std::io::Error,
    },
}

/// The broker that a run judges.
#[derive(Debug)]
pub struct BrokerUnderTest {
    source: BrokerSource,
    process: Option<Process>,
    endpoint: Endpoint,
    ready_limit: Duration,
}

impl BrokerUnderTest {
    /// Starts it, or checks that it is there, and waits until it has accepted an MQTT connection.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready within 60 s.
    pub async fn start(source: BrokerSource) -> Result<Self, ProcessError> {
        Self::start_within(source, READY_LIMIT).await
    }

    /// The same with another limit, for [`Self::restart`] too.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready within `ready_limit`.
    pub async fn start_within(source: BrokerSource, ready_limit: Duration) -> Result<Self, ProcessError> {
        match &source {
            BrokerSource::Url(endpoint) => {
                let endpoint = endpoint.clone();
                reach(&endpoint).await?;
                Ok(Self { source, process: None, endpoint, ready_limit })
            }
            BrokerSource::Embedded { program, data } => {
                let listen = Endpoint::new(LOOPBACK, port::free()?);
                let (process, address) = start_embedded(program, data, &listen, ready_limit).await?;
                let endpoint = Endpoint::new(address.ip().to_string(), address.port());
                Ok(Self { process: Some(process), endpoint, source, ready_limit })
            }
            BrokerSource::Command { template, directory, login } => {
                let endpoint = Endpoint::new(LOOPBACK, port::free()?);
                let endpoint = login.iter().fold(endpoint, |endpoint, login| login.at(endpoint));
                let process = start_command(template, directory, &endpoint, ready_limit).await?;
                Ok(Self { process: Some(process), endpoint, source, ready_limit })
            }
        }
    }

    /// Where clients connect; the same after a restart.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which kind of broker it is.
    pub fn kind(&self) -> BrokerKind {
        match self.source {
            BrokerSource::Embedded { .. } => BrokerKind::Embedded,
            BrokerSource::Url(_) => BrokerKind::Url,
            BrokerSource::Command { .. } => BrokerKind::Command,
        }
    }

    /// Its name for a report, without credentials.
    pub fn name(&self) -> String {
        match &self.source {
            BrokerSource::Embedded { .. } => format!("mqtally {}", env!("CARGO_PKG_VERSION")),
            BrokerSource::Url(endpoint) => endpoint.to_string(),
            BrokerSource::Command { template, .. } => template.clone(),
        }
    }

    /// Whether [`Self::kill_9`] and [`Self::restart`] are possible.
    pub fn can_restart(&self) -> bool {
        !matches!(self.source, BrokerSource::Url(_))
    }

    /// SIGKILL; returns when the process is gone.
    ///
    /// # Errors
    /// The broker is not ours, or the signal could not be sent.
    pub async fn kill_9(&mut self) -> Result<(), ProcessError> {
        let Some(process) = &mut self.process else { return Err(ProcessError::NotOurs) };
        process.kill_9().await.map_err(|error| ProcessError::System { act: "killing the broker", error })?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM, and SIGKILL if that does not help within 15 s. Whether it did, or there was nothing of ours to stop.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub async fn terminate(&mut self) -> Result<bool, ProcessError> {
        let Some(mut process) = self.process.take() else { return Ok(true) };
        let terminated = process.terminate(STOP_LIMIT).await;
        terminated.map_err(|error| ProcessError::System { act: "stopping the broker", error })
    }

    /// SIGSTOP: it keeps its connections and answers nothing until [`Self::resume`]. Dropped meanwhile, it is killed.
    ///
    /// # Errors
    /// The broker is not ours, or the signal could not be sent.
    pub fn pause(&self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP, "pausing the broker")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// The broker is not ours, or the signal could not be sent.
    pub fn resume(&self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT, "continuing the broker")
    }

    fn signal(&self, signal: Signal, act: &'static str) -> Result<(), ProcessError> {
        let process = self.process.as_ref().ok_or(ProcessError::NotOurs)?;
        process.signal(signal).map_err(|error| ProcessError::System { act, error })
    }

    /// Starts it again where it was, on the same data, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`], and where the broker is not ours.
    pub async fn restart(&mut self) -> Result<(), ProcessError> {
        self.terminate().await?;
        let process = match &self.source {
            BrokerSource::Url(_) => return Err(ProcessError::NotOurs),
            BrokerSource::Embedded { program, data } => {
                start_embedded(program, data, &self.endpoint, self.ready_limit).await?.0
            }
            BrokerSource::Command { template, directory, .. } => {
                start_command(template, directory, &self.endpoint, self.ready_limit).await?
            }
        };
        self.process = Some(process);
        Ok(())
    }

    /// Whether it still accepts an MQTT connection.
    ///
    /// # Errors
    /// It does not within 5 s.
    pub async fn check(&self) -> Result<(), ProcessError> {
        reach(&self.endpoint).await
    }

    /// The oldest version that it accepts a client with; 5.0 where that is none.
    pub(crate) async fn version(&self) -> Version {
        let old = timeout(REACH_LIMIT, connect_on(&self.endpoint, Version::V3_1_1)).await;
        if matches!(old, Ok(Ok(()))) { Version::V3_1_1 } else { Version::V5_0 }
    }

    /// How a broker of ours ended by itself, and its last words; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.has_ended()?;
        Some(format!("{status}; it said: {}", process.last_words()))
    }
}

/// The embedded broker's first line of output is its address, and comes when it listens.
async fn start_embedded(
    program: &Path,
    data: &Path,
    listen: &Endpoint,
    limit: Duration,
) -> Result<(Process, SocketAddr), ProcessError> {
    let listen = format!("{}:{}", listen.host(), listen.port());
    // What configures the broker of whoever runs us (a file here, the environment in `spawn`) is not for this one.
    let (data, no_config) = (data.to_string_lossy(), "/dev/null");
    let arguments =
        ["broker", "--listen", &listen, "--data", &data, "--config", no_config].map(str::to_owned);
    let mut process = spawn(program, &arguments, None)?;
    let line = match timeout(limit, process.line()).await {
        Ok(Ok(Some(line))) => line,
        Ok(_) => return Err(ended_early(process).await),
        Err(_) => return Err(not_ready(&process, limit, listen, "it printed no address".to_owned())),
    };
    process.discard_output();
    let address = line.rsplit([' ', '/']).next().and_then(|word| word.parse().ok());
    match address {
        Some(address) => Ok((process, address)),
        None => Err(not_ready(&process, limit, listen, format!("its first line is no address: {line}"))),
    }
}

/// Any other broker is ready when it answers CONNECT.
async fn start_command(
    template: &str,
    directory: &Path,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<Process, ProcessError> {
    let words = command_line::expand(template, endpoint.port(), directory).map_err(ProcessError::Command)?;
    let (program, arguments) =
        words.split_first().ok_or_else(|| ProcessError::Command("it is empty".to_owned()))?;
    let mut process = spawn(Path::new(program), arguments, Some(directory))?;
    process.discard_output();
    let deadline = Instant::now() + limit;
    loop {
        let attempt = reach(endpoint).await;
        if process.has_ended().is_some() {
            return Err(ended_early(process).await);
        }
        match attempt {
            Ok(()) => return Ok(process),
            Err(error) if Instant::now() >= deadline => {
                return Err(not_ready(&process, limit, endpoint.to_string(), error.to_string()));
            }
            Err(_) => sleep(READY_RETRY).await,
        }
    }
}

fn spawn(program: &Path, arguments: &[String], directory: Option<&Path>) -> Result<Process, ProcessError> {
    let started = Process::spawn(program, arguments, directory);
    started.map_err(|error| ProcessError::Spawn { program: program.display().to_string(), error })
}

async fn ended_early(mut process: Process) -> ProcessError {
    let how = match timeout(STOP_LIMIT, process.ended()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it closed its output and runs on".to_owned(),
    };
    ProcessError::EndedEarly { how, said: process.last_words() }
}

fn not_ready(process: &Process, limit: Duration, at: String, why: String) -> ProcessError {
    ProcessError::NotReady { seconds: limit.as_secs(), at, why, said: process.last_words() }
}

/// Connects as a clean client and leaves: whatever listens there speaks MQTT and accepts us.
async fn reach(endpoint: &Endpoint) -> Result<(), ProcessError> {
    let attempt = timeout(REACH_LIMIT, connect_once(endpoint)).await;
    let why = match attempt {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(why)) => why,
        Err(_) => format!("no CONNACK within {} s", REACH_LIMIT.as_secs()),
    };
    Err(ProcessError::Unreachable { at: endpoint.to_string(), why })
}

/// On one of the two versions.
async fn connect_once(endpoint: &Endpoint) -> Result<(), String> {
    // Where nobody listens yet, the other version would only be the first that a broker hears of us, perhaps one that
    // does not speak it.
    let connection = dial(endpoint, Version::V3_1_1).await?;
    match greet(connection, endpoint, Version::V3_1_1).await {
        Ok(()) => Ok(()),
        Err(why) => connect_on(endpoint, Version::V5_0).await.map_err(|_| why),
    }
}

async fn connect_on(endpoint: &Endpoint, version: Version) -> Result<(), String> {
    greet(dial(endpoint, version).await?, endpoint, version).await
}

async fn dial(endpoint: &Endpoint, version: Version) -> Result<Connection, String> {
    let dialled = Connection::dial(endpoint, REACH_LIMIT, version, PACKET_SIZE_MAX, 0, None).await;
    dialled.map_err(|error| error.to_string())
}

/// CONNECT, and what comes of it.
async fn greet(mut connection: Connection, endpoint: &Endpoint, version: Version) -> Result<(), String> {
    let mut session = Session::new(Options {
        username: endpoint.username().map(Into::into),
        password: endpoint.password().map(|password| password.as_bytes().to_vec().into()),
        ..Options::new(version, format!("mqtally-ready-{}", std::process::id()))
    });
    session.handle_opened(Time::from_ms(0));
    while let Some(packet) = session.poll_transmit() {
        connection.queue(&packet).map_err(|error| error.to_string())?;
    }
    connection.flush().map_err(|error| error.to_string())?;
    let mut packets = Vec::new();
    while packets.is_empty() {
        connection.ready(Interest::READABLE).await.map_err(|error| error.to_string())?;
        let read = connection.read(&mut packets).map_err(|error| error.to_string())?;
        if read == Read::End && packets.is_empty() {
            return Err("it closed the connection without a CONNACK".to_owned());
        }
    }
    let answer = match &packets[0] {
        Packet::Connack(connack) if connack.reason.is_error() => {
            Err(format!("it refused us: {}", connack.reason))
        }
        Packet::Connack(_) => Ok(()),
        _ => Err("its first packet is no CONNACK".to_owned()),
    };
    let goodbye =
        Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() });
    let _ = connection.queue(&goodbye).map(|()| connection.flush());
    connection.close(Closing::Fin).await;
    answer
}
