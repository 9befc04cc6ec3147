//! What the proxy adds to a packet that it only forwards: its own processor time, and bytes a second.
//!
//! `cargo bench -p mqtally-harness --bench proxy`. A peer writes PUBLISH packets as fast as they are taken, another one
//! reads and throws them away; between them stands the proxy on a thread of its own, whose processor time is counted
//! (Linux: `schedstat`). It has no rules, or as many as a run would have that never match, or a watch.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use bytes::BytesMut;
use mqtally::endpoint::Endpoint;
use mqtally_harness::proxy::{Proxy, ProxyOptions, Watch};
use mqtally_proto::packet::{Packet, Publish, Qos, Version, encode};
use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;
use tokio::sync::oneshot;

const BATCH_BYTES: usize = 32 << 10;

fn main() -> Result<()> {
    println!("{:<34} {:>12} {:>10} {:>8}", "forwarding, QoS 1", "cpu µs/packet", "packets/s", "MB/s");
    for (payload, count) in [(100, 1_000_000), (64 << 10, 30_000)] {
        for (name, rules, watches) in [("no rules", 0, false), ("20 rules", 20, false), ("a watch", 0, true)]
        {
            let stream = publishes(payload);
            let bytes = stream.bytes.len() as f64 / stream.packets as f64 * f64::from(count);
            let (cpu_us, seconds) = forward(&stream, count, rules, watches)?;
            let (count, megabytes) = (f64::from(count), bytes / 1e6);
            println!(
                "{:<34} {:>12.2} {:>10.0} {:>8.0}",
                format!("{payload} bytes, {name}"),
                cpu_us / count,
                count / seconds,
                megabytes / seconds
            );
        }
    }
    Ok(())
}

/// Whole packets, about as many as one write takes.
struct Stream {
    bytes: BytesMut,
    packets: u32,
}

fn publishes(payload: usize) -> Stream {
    let mut stream = Stream { bytes: BytesMut::new(), packets: 0 };
    let publish = Packet::Publish(Publish {
        qos: Qos::AtLeastOnce,
        topic: "plant/line-7/temperature".into(),
        packet_id: Some(7),
        payload: vec![0x5A; payload].into(),
        ..Publish::default()
    });
    while stream.bytes.len() < BATCH_BYTES {
        encode(&publish, Version::V5_0, &mut stream.bytes).expect("lawful");
        stream.packets += 1;
    }
    stream
}

/// Processor time of the proxy in microseconds, and seconds on the clock.
fn forward(stream: &Stream, count: u32, rules: u32, watches: bool) -> Result<(f64, f64)> {
    let sink = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let proxy = Running::start(sink.local_addr()?, rules, watches);
    let mut source = TcpStream::connect(proxy.address)?;
    let (mut receiver, _) = sink.accept()?;
    let batches = count / stream.packets;
    let total = batches as usize * stream.bytes.len();
    let started = Instant::now();
    let reading = thread::spawn(move || -> Result<()> {
        let mut chunk = vec![0; 256 << 10];
        let mut read = 0;
        while read < total {
            read += receiver.read(&mut chunk)?;
        }
        Ok(())
    });
    for _ in 0..batches {
        source.write_all(&stream.bytes)?;
    }
    reading.join().expect("no panic")?;
    let seconds = started.elapsed().as_secs_f64();
    Ok((proxy.stop(), seconds))
}

/// A proxy on a thread of its own.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<f64>,
}

impl Running {
    fn start(upstream: SocketAddr, rules: u32, watches: bool) -> Self {
        let (ready, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let upstream = Endpoint::new(upstream.ip().to_string(), upstream.port());
                let watch: Option<Watch> = watches.then(|| -> Watch { Arc::new(|_, _| {}) });
                let listen = (Ipv4Addr::LOCALHOST, 0).into();
                let options = ProxyOptions { watch, ..ProxyOptions::new(listen, upstream) };
                let proxy = Proxy::start(options).await.expect("a free port");
                for rule in 1..=rules {
                    let text = format!("cut after c2s PUBLISH {rule} client=somebody-else-{rule}");
                    proxy.add(text.parse().expect("a rule")).expect("taken");
                }
                ready.send(proxy.address()).expect("awaited");
                drop(stopped.await);
            });
            cpu_us()
        });
        Self { address: address.recv().expect("it starts"), stop, thread }
    }

    fn stop(self) -> f64 {
        self.stop.send(()).expect("it runs");
        self.thread.join().expect("no panic")
    }
}

/// Processor time of this thread so far.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    nanoseconds.map_or(f64::NAN, |ns| ns / 1e3)
}
