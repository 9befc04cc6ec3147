//! `mqtally proxy`: the fault proxy on its own.

mod api;
mod log;

use crate::exit::{self, ExitStatus, Failure, redact};
use crate::nearest;
use log::PacketLog;
use mqtally::endpoint::{Endpoint, EndpointError};
use mqtally_harness::http;
use mqtally_harness::proxy::{Proxy, ProxyError, ProxyOptions, Rule, RuleError, RulesError};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Put faults between clients and a broker, by rules
///
/// The address that it listens on is the first line on standard output; with --api, the second is its URL. SIGTERM and
/// Ctrl-C stop it.
///
/// The proxy understands MQTT both ways and without rules changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = RULES)]
pub(crate) struct Args {
    /// Where clients connect; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1884")]
    listen: SocketAddr,
    /// The broker: mqtt://HOST:PORT
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    upstream: String,
    /// What to do, such as 'cut after c2s PUBREL 3'; may be repeated; the whole language is in --help
    #[arg(long = "rule", value_name = "RULE", value_parser = parse_rule)]
    rules: Vec<Rule>,
    /// Write every packet, and what was done to it, as one JSON object a line
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Take rules over HTTP here: whoever reaches it can break connections
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    api: Option<SocketAddr>,
    /// Connections open at once; one more is closed when it is accepted
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections_max: usize,
}

const RULES: &str = "\
Rules:
  FAULT [before|after|inside c2s|s2c PACKET [K]] [for TIME] [times N|always] [CONDITION...]

  cut [fin|rst]                 close both sides before, after or inside (bytes=N of it) a packet
  abort-connect                 deliver CONNECT, then close: 'cut after c2s CONNECT'
  storm N [within TIME]         connect N times with the client's CONNECT, then deliver it
  delay c2s|s2c TIME [jitter TIME seed N]
  throttle c2s|s2c RATE         500B/s, 64kB/s, 1MB/s
  split c2s|s2c N               write at most N bytes at a time
  coalesce c2s|s2c TIME         collect for so long, then write at once
  stall c2s|s2c|both            do not read the sender; all arrives when it is over
  black-hole c2s|s2c|both       read and swallow; what lost bytes is reset when it is over
  refuse [fin|rst|unlisten]     close what connects, or do not listen
  drop c2s|s2c PACKET [K]       take a packet out ...
  swap c2s|s2c PACKET [K]       ... or deliver it behind its successor. No network does either, so
                                what follows proves nothing

  PACKET is a type such as PUBREL, or any; K counts those that match, from when the rule was added
  or struck last. Conditions: client=ID (* for any characters), connection=N (of that client),
  topic=FILTER, qos=N, id=N. What strikes at a packet does so once, unless times or always says
  otherwise. What lasts begins at once, or at its packet, and ends with 'for' or with its rule.

  cut after c2s PUBREL 3                          black-hole s2c for 5s after c2s PUBLISH 10
  cut before s2c PUBACK client=line-7 rst         delay s2c 200ms jitter 50ms seed 7

Over HTTP, with --api:
  POST /rules {\"rule\":\"...\"}   GET /rules   DELETE /rules/ID   GET /links
  POST /cut [{\"client\":\"...\",\"how\":\"rst\"}]   GET /log, the latest lines of the packet log";

pub(crate) fn run(args: &Args) -> Result<ExitStatus, Failure> {
    let upstream = broker(&args.upstream)?;
    let log = match (&args.log, args.api) {
        (None, None) => None,
        (file, _) => Some(Arc::new(PacketLog::open(file.as_deref())?)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    runtime.block_on(serve(args, upstream, log.clone()))?;
    log.map_or(Ok(()), |log| log.finish())?;
    Ok(ExitStatus::Success)
}

fn broker(url: &str) -> Result<Endpoint, Failure> {
    let endpoint: Endpoint =
        url.parse().map_err(|error: EndpointError| Failure::told(ExitStatus::Usage, &error, redact(url)))?;
    if endpoint.username().is_some() {
        let advice = "leave them out: clients bring their own through the proxy";
        return Err(Failure::usage("a user name or password for the proxy", redact(url), advice));
    }
    Ok(endpoint)
}

async fn serve(args: &Args, upstream: Endpoint, log: Option<Arc<PacketLog>>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(no_runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_runtime)?;
    let watch = log.as_ref().map(|log| Arc::clone(log).watch());
    let connections_max = args.connections_max;
    let options = ProxyOptions { connections_max, watch, ..ProxyOptions::new(args.listen, upstream) };
    let proxy = Arc::new(Proxy::start(options).await.map_err(|error| proxy_failure(error, &args.upstream))?);
    for rule in &args.rules {
        let taken = proxy.add(rule.clone());
        taken.map_err(|error: RulesError| Failure::usage(error.to_string(), "--rule", "give fewer"))?;
    }
    // Nobody reads the addresses any more: that is no reason not to serve.
    drop(exit::print(format!("{}\n", proxy.address()).as_bytes()));
    if let (Some(address), Some(log)) = (args.api, &log) {
        let listener = listen(address).await?;
        tokio::spawn(http::serve(listener, api::answers(Arc::clone(&proxy), Arc::clone(log))));
    }
    if let Some(log) = log {
        tokio::spawn(log.keep_flushed());
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (bound, listener) = listener.map_err(|error| unbound(address, &error, "--api"))?;
    drop(exit::print(format!("http://{bound}\n").as_bytes()));
    Ok(listener)
}

/// What is wrong with a rule, and what was perhaps meant.
fn parse_rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|error: RuleError| {
        let known = error.known.iter().copied();
        let advice = match error.known.is_empty() {
            true => String::new(),
            false => format!("; {}", nearest::advice(&error.word, known)),
        };
        format!("{error}{advice}")
    })
}

fn proxy_failure(error: ProxyError, upstream: &str) -> Failure {
    match error {
        ProxyError::Listen { listen, source } => unbound(listen, &source, "--listen"),
        ProxyError::Transport => Failure::told(ExitStatus::Usage, &error, redact(upstream)),
    }
}

fn unbound(address: SocketAddr, error: &io::Error, flag: &str) -> Failure {
    Failure::new(
        ExitStatus::Unavailable,
        format!("cannot listen ({error})"),
        address.to_string(),
        format!("stop what listens there, or choose another {flag}; port 0 takes a free one"),
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn no_runtime(error: io::Error) -> Failure {
    Failure::new(
        ExitStatus::Software,
        format!("cannot start the runtime ({error})"),
        "proxy",
        "start it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_makes_no_sense_is_pointed_at() {
        let check = |text: &str, expect: &str| assert_eq!(parse_rule(text).unwrap_err(), expect);
        check("cutt after c2s PUBREL", "unknown fault 'cutt' at column 1; did you mean 'cut'?");
        check("cut aftre c2s PUBREL", "unknown word 'aftre' at column 5; did you mean 'after'?");
        check("cut after s2b PUBREL", "unknown direction 's2b' at column 11; did you mean 's2c'?");
        check("cut after c2s PUBCOP 3", "unknown packet 'PUBCOP' at column 15; did you mean 'PUBCOMP'?");
        check(
            "delay s2c 200",
            "the delay is no duration from 1ms to a day, such as 200ms, 5s or 2m: '200' at column 11",
        );
    }
}
