//! `mqtally broker`: the embedded broker on its own.

use super::Global;
use crate::exit::{self, ExitStatus, Failure};
use mqtally_harness::broker::store::{StoreError, Sync};
use mqtally_harness::broker::users::{self, Users, UsersError};
use mqtally_harness::broker::{BrokerError, Durability, Limits, Options, Served, serve};
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// Run the embedded broker on its own
///
/// The address that it listens on is the first line on standard output. SIGTERM and Ctrl-C stop it in order.
///
/// Unless --volatile is given, no acknowledgement leaves before its effect is on the disk: kill -9 and a power failure
/// lose nothing that was acknowledged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1883")]
    listen: SocketAddr,
    /// Keep sessions and messages in this directory; created when absent, used by one broker at a time
    #[arg(long, value_name = "DIR", default_value = "mqtally-data")]
    data: PathBuf,
    /// Keep everything in memory: all is lost when the broker stops, and --data is not touched
    #[arg(long)]
    volatile: bool,
    /// Do not wait for the disk: faster; what was acknowledged survives kill -9, but a power failure may lose it or
    /// damage the store
    #[arg(long)]
    no_fsync: bool,
    /// Let in only who is in this file: NAME:HASH lines, as mosquitto_passwd writes them
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Add a user to the --users file, or give one a new password, and exit; the password is the first line of
    /// standard input
    #[arg(long, value_name = "NAME", requires = "users")]
    add_user: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Connections open at once; one more is closed when it is accepted
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections_max: usize,
    /// Largest packet accepted
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().packet_size_max)]
    packet_size_max: u32,
    /// QoS 1 and 2 messages that a client may send us unacknowledged
    #[arg(long, value_name = "N", default_value_t = Limits::default().receive_maximum, value_parser = at_least_one())]
    receive_maximum: u16,
    /// QoS 1 and 2 messages that we send a client unacknowledged, whatever it allows
    #[arg(long, value_name = "N", default_value_t = Limits::default().in_flight_max, value_parser = at_least_one())]
    in_flight_max: u16,
    /// Messages that wait for one session; a publish beyond is refused
    #[arg(long, value_name = "N", default_value_t = Limits::default().queued_messages_max)]
    queued_messages_max: usize,
    /// Bytes of topic and payload that wait for one session; a publish beyond is refused
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().queued_bytes_max)]
    queued_bytes_max: usize,
    /// Bytes waiting for a client that does not read, above which QoS 0 messages for it are dropped
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    backlog_qos0_max: usize,
    /// Topic aliases that a client may set up
    #[arg(long, value_name = "N", default_value_t = Limits::default().topic_alias_maximum)]
    topic_alias_maximum: u16,
    /// Longest session expiry granted
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().session_expiry_max)]
    session_expiry_max: u32,
    /// Expiry of a 3.1.1 session, which has none of its own
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().session_expiry_v3)]
    session_expiry_v3: u32,
    /// Sessions, connected or not; a connection beyond is refused
    #[arg(long, value_name = "N", default_value_t = Limits::default().sessions_max)]
    sessions_max: usize,
    /// Subscriptions of one session; one beyond is refused
    #[arg(long, value_name = "N", default_value_t = Limits::default().subscriptions_max)]
    subscriptions_max: usize,
    /// Retained messages in all; one beyond is refused
    #[arg(long, value_name = "N", default_value_t = Limits::default().retained_max)]
    retained_max: usize,
    /// Keep-alive for clients that ask for none or a longer one; 0 imposes nothing
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().keep_alive_max)]
    keep_alive_max: u16,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    if let (Some(name), Some(file)) = (&args.add_user, &args.users) {
        return add_user(file, name);
    }
    let served = block_on(args.options()?)?;
    if global.verbose {
        exit::complain(&summary(served));
    }
    Ok(ExitStatus::Success)
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let users = self.users.as_deref().map(Users::load).transpose().map_err(users_failure)?;
        let sync = if self.no_fsync { Sync::Off } else { Sync::Full };
        let durability = match self.volatile {
            true => Durability::Volatile,
            false => Durability::Durable { directory: self.data.clone(), sync },
        };
        Ok(Options {
            users,
            limits: self.limits.limits(),
            connections_max: self.limits.connections_max,
            backlog_qos0_max: self.limits.backlog_qos0_max,
            ..Options::new(self.listen, durability)
        })
    }
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            packet_size_max: self.packet_size_max,
            receive_maximum: self.receive_maximum,
            in_flight_max: self.in_flight_max,
            queued_messages_max: self.queued_messages_max,
            queued_bytes_max: self.queued_bytes_max,
            topic_alias_maximum: self.topic_alias_maximum,
            session_expiry_max: self.session_expiry_max,
            session_expiry_v3: self.session_expiry_v3,
            sessions_max: self.sessions_max,
            subscriptions_max: self.subscriptions_max,
            retained_max: self.retained_max,
            keep_alive_max: self.keep_alive_max,
        }
    }
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn block_on(options: Options) -> Result<Served, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(no_runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_runtime)?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        // Nobody reads the address any more: that is no reason not to serve.
        let ready = |address: SocketAddr| drop(exit::print(format!("{address}\n").as_bytes()));
        serve(options, ready, stop).await.map_err(broker_failure)
    })
}

fn add_user(file: &Path, name: &str) -> Result<ExitStatus, Failure> {
    let mut password = String::new();
    io::stdin().lock().read_line(&mut password).map_err(|error| {
        Failure::io("cannot read the password", Path::new("standard input"), &error, "pipe it in as one line")
    })?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("no password", "standard input", "pipe it in as the first line"));
    }
    users::add_user(file, name, password.as_bytes()).map_err(users_failure)?;
    Ok(ExitStatus::Success)
}

fn summary(served: Served) -> String {
    let Served { connections, packets_in, packets_out, qos0_dropped, commits } = served;
    format!(
        "{connections} connections, {packets_in} packets in, {packets_out} out, {commits} commits, {qos0_dropped} QoS 0 messages dropped"
    )
}

fn broker_failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::Listen { listen, source } => Failure::new(
            ExitStatus::Unavailable,
            format!("cannot listen ({source})"),
            listen.to_string(),
            "stop what listens there, or choose another --listen; port 0 takes a free one",
        ),
        BrokerError::Store(error) => store_failure(&error),
        BrokerError::Start(_) | BrokerError::Engine => {
            Failure::new(ExitStatus::Software, error.to_string(), "broker", "start it again, and report this")
        }
    }
}

fn store_failure(error: &StoreError) -> Failure {
    let place = error.file.display().to_string();
    Failure::new(ExitStatus::Io, error.kind.to_string(), place, error.kind.advice())
}

fn users_failure(error: UsersError) -> Failure {
    match error {
        UsersError::Io { act, path, source } => Failure::io(
            &format!("cannot {act}"),
            &path,
            &source,
            "name a users file that can be read and written",
        ),
        UsersError::Line { path, line, detail } => Failure::usage(
            detail,
            format!("{}:{line}", path.display()),
            "correct the line, or write entries with --add-user or mosquitto_passwd",
        ),
        UsersError::Name => Failure::usage(error.to_string(), "--add-user", "choose another name"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn no_runtime(error: io::Error) -> Failure {
    Failure::new(
        ExitStatus::Software,
        format!("cannot start the runtime ({error})"),
        "broker",
        "start it again",
    )
}
