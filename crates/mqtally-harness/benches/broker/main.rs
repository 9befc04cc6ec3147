//! Processor time of the broker per message, and messages a second, beside mosquitto in the same run.
//!
//! `cargo bench -p mqtally-harness --bench broker`. One publisher with a window of 100 and 100 bytes of payload, one
//! subscriber with a persistent session: live (connected all the time) and offline (away while all is published, then
//! drained). An argument selects brokers whose name contains it.

#![expect(clippy::print_stdout, reason = "the table is the result")]

mod load;
mod server;

use load::Client;
use mqtally_proto::packet::Qos;
use server::{Kind, Server};
use std::io::Result;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const WINDOW: u16 = 100;
const PAYLOAD: [u8; 100] = [0x5A; 100];
const MESSAGES_LIVE: u64 = 60_000;
const MESSAGES_OFFLINE: u64 = 30_000;
const CASES: [(Qos, bool); 4] = [
    (Qos::AtLeastOnce, true),
    (Qos::ExactlyOnce, true),
    (Qos::AtLeastOnce, false),
    (Qos::ExactlyOnce, false),
];

#[derive(Debug, Clone, Copy)]
struct Figure {
    cpu_us: f64,
    rate: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, kind, directory] = &args[..]
        && flag == "--serve"
    {
        return server::run(kind, directory);
    }
    let only = args.iter().find(|arg| !arg.starts_with("--")).map_or("", String::as_str);
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.name().contains(only));
    let (kinds, skipped): (Vec<Kind>, Vec<Kind>) =
        kinds.partition(|kind| !kind.is_mosquitto() || has_mosquitto());
    let rows =
        kinds.into_iter().map(|kind| measure(kind).map(|row| (kind, row))).collect::<Result<Vec<_>>>()?;
    print_table(&rows);
    for kind in skipped {
        println!("{}: skipped, mosquitto is not on PATH", kind.name());
    }
    Ok(())
}

fn has_mosquitto() -> bool {
    Command::new("mosquitto").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn measure(kind: Kind) -> Result<[Figure; 4]> {
    let mut row = [Figure { cpu_us: 0.0, rate: 0.0 }; 4];
    for (figure, (qos, live)) in row.iter_mut().zip(CASES) {
        let directory = tempfile::tempdir()?;
        let server = Server::start(kind, directory.path())?;
        *figure = if live { run_live(&server, qos) } else { run_offline(&server, qos) }?;
    }
    Ok(row)
}

fn run_live(server: &Server, qos: Qos) -> Result<Figure> {
    let mut subscriber = Client::connect(server.address, "subscriber", false)?;
    subscriber.subscribe(Qos::ExactlyOnce)?;
    let mut publisher = Client::connect(server.address, "publisher", true)?;
    let meter = Meter::start(server)?;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| subscriber.receive(MESSAGES_LIVE));
        publisher.publish(qos, MESSAGES_LIVE, WINDOW, &PAYLOAD)?;
        receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    meter.stop(MESSAGES_LIVE)
}

fn run_offline(server: &Server, qos: Qos) -> Result<Figure> {
    let mut subscriber = Client::connect(server.address, "subscriber", false)?;
    subscriber.subscribe(Qos::ExactlyOnce)?;
    subscriber.disconnect()?;
    let mut publisher = Client::connect(server.address, "publisher", true)?;
    let meter = Meter::start(server)?;
    publisher.publish(qos, MESSAGES_OFFLINE, WINDOW, &PAYLOAD)?;
    Client::connect(server.address, "subscriber", false)?.receive(MESSAGES_OFFLINE)?;
    meter.stop(MESSAGES_OFFLINE)
}

struct Meter<'a> {
    server: &'a Server,
    cpu: Duration,
    start: Instant,
}

impl<'a> Meter<'a> {
    fn start(server: &'a Server) -> Result<Self> {
        Ok(Self { server, cpu: server.cpu()?, start: Instant::now() })
    }

    fn stop(self, messages: u64) -> Result<Figure> {
        let elapsed = self.start.elapsed();
        let cpu = self.server.cpu()? - self.cpu;
        let messages = messages as f64;
        Ok(Figure { cpu_us: cpu.as_secs_f64() * 1e6 / messages, rate: messages / elapsed.as_secs_f64() })
    }
}

fn print_table(rows: &[(Kind, [Figure; 4])]) {
    println!("broker processor time a message (µs), its ratio to mosquitto's, and messages a second");
    println!("window {WINDOW}, {} B payload, one publisher, one persistent subscriber\n", PAYLOAD.len());
    print!("{:24}", "");
    for (qos, live) in CASES {
        print!("  QoS {} {:19}", qos as u8, if live { "live" } else { "offline" });
    }
    println!();
    let base = rows.iter().find(|(kind, _)| *kind == Kind::Mosquitto).map(|(_, row)| *row);
    for (kind, row) in rows {
        print!("{:24}", kind.name());
        for (index, figure) in row.iter().enumerate() {
            let ratio = base.map_or(f64::NAN, |base| figure.cpu_us / base[index].cpu_us);
            print!("  {:6.2} {ratio:5.2} {:8.0}/s ", figure.cpu_us, figure.rate);
        }
        println!();
    }
}
