//! The limit of a receiver that loses nothing: the same client on the same connection, and a log instead of an inbox.
//!
//! A thread appends what has arrived, one write and one fdatasync a batch, and keeps what it has seen in a hash set; then the
//! batch is answered. While it syncs, the next batch gathers. PUBRELs go into the log as well: a receiver that forgets which
//! packet ids are open does something twice. No handler, no retry, no way back from its log: less than this cannot be done.

use crate::broker::Broker;
use crate::{MESSAGES, PAYLOAD_BYTES, Result};
use bytes::Bytes;
use bytestring::ByteString;
use mqtally::client::{Client, Event, Settings};
use mqtally_proto::packet::{Publish, ReasonCode, Version};
use mqtally_proto::session::{Acknowledge, Event as SessionEvent, Options};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What has to be on disk before it is answered.
enum Step {
    /// PUBACK or PUBREC is owed.
    Message { packet_id: u16, topic: ByteString, payload: Bytes },
    /// PUBCOMP is owed.
    Release { packet_id: u16 },
}

enum Answer {
    Acknowledge(u16),
    Complete(u16),
}

/// Receives all messages that were queued for the client `rawlog`, up to `batch_max` steps a sync. Returns how many a second,
/// and how many each sync was for.
pub(crate) async fn receive(broker: &Broker, path: &Path, batch_max: usize) -> Result<(f64, f64)> {
    let options = Options {
        clean_start: false,
        session_expiry_interval: 3_600,
        acknowledge: Acknowledge::EveryStep,
        resume: true,
        ..Options::new(Version::V5_0, "rawlog")
    };
    let mut log = Log::start(File::create(path)?, batch_max);
    let (client, mut events) = Client::start(Settings::new(broker.url.parse()?, options));
    let start = Instant::now();
    client.connect().await?;
    let (mut arrived, mut left) = (Vec::new(), MESSAGES);
    while left > 0 {
        tokio::select! {
            biased;
            Some(answers) = log.answers.recv() => left -= answer(&client, answers),
            count = events.recv_many(&mut arrived, 256) => {
                if count == 0 {
                    return Err("the client ended".into());
                }
                arrived.drain(..).try_for_each(|event| log.append(event))?;
            }
        }
    }
    client.disconnect(ReasonCode::SUCCESS, None).await;
    let syncs = log.end()?;
    Ok((MESSAGES as f64 / start.elapsed().as_secs_f64(), MESSAGES as f64 / syncs as f64))
}

/// Sends what is owed. Returns for how many messages.
fn answer(client: &Client, answers: Vec<Answer>) -> u64 {
    let mut messages = 0;
    for answer in answers {
        match answer {
            Answer::Acknowledge(packet_id) => {
                client.acknowledge(packet_id);
                messages += 1;
            }
            Answer::Complete(packet_id) => client.complete(packet_id),
        }
    }
    messages
}

/// The thread that writes.
struct Log {
    steps: mpsc::Sender<Step>,
    answers: UnboundedReceiver<Vec<Answer>>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Log {
    fn start(file: File, batch_max: usize) -> Self {
        let (steps, receiver) = mpsc::channel();
        let (sender, answers) = unbounded_channel();
        let thread = std::thread::spawn(move || write(file, &receiver, &sender, batch_max));
        Self { steps, answers, thread }
    }

    fn append(&self, event: Event) -> Result<()> {
        let step = match event {
            Event::Session(SessionEvent::Message(Publish {
                packet_id: Some(packet_id),
                topic,
                payload,
                ..
            })) => Step::Message { packet_id, topic, payload },
            Event::Session(SessionEvent::Released { packet_id }) => Step::Release { packet_id },
            Event::Closed { .. } => return Err("the connection ended".into()),
            Event::Session(_) => return Ok(()),
        };
        Ok(self.steps.send(step)?)
    }

    /// Returns how often it has synced.
    fn end(self) -> Result<u64> {
        drop(self.steps);
        Ok(self.thread.join().map_err(|_| "the log's thread panicked")??)
    }
}

fn write(
    mut file: File,
    steps: &mpsc::Receiver<Step>,
    answers: &UnboundedSender<Vec<Answer>>,
    batch_max: usize,
) -> io::Result<u64> {
    let (mut bytes, mut seen, mut syncs) = (Vec::new(), HashSet::new(), 0);
    while let Ok(first) = steps.recv() {
        bytes.clear();
        let batch = std::iter::once(first).chain(steps.try_iter()).take(batch_max);
        let owed = batch.map(|step| note(step, &mut bytes, &mut seen)).collect();
        file.write_all(&bytes)?;
        file.sync_data()?;
        syncs += 1;
        // Whoever counts may have seen enough.
        let _ = answers.send(owed);
    }
    Ok(syncs)
}

/// Appends one step. A message that was seen before is not written again.
fn note(step: Step, bytes: &mut Vec<u8>, seen: &mut HashSet<Bytes>) -> Answer {
    match step {
        Step::Message { packet_id, topic, payload } => {
            bytes.extend_from_slice(&packet_id.to_le_bytes());
            if seen.insert(payload.clone()) {
                bytes.extend_from_slice(&(topic.len() as u32).to_le_bytes());
                bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
                bytes.extend_from_slice(topic.as_bytes());
                bytes.extend_from_slice(&payload);
            }
            Answer::Acknowledge(packet_id)
        }
        Step::Release { packet_id } => {
            bytes.extend_from_slice(&packet_id.to_le_bytes());
            Answer::Complete(packet_id)
        }
    }
}

/// Messages a second of a file alone, without a broker before it: what the disk can do.
pub(crate) fn bare_file(path: &Path, batch: usize) -> Result<f64> {
    let mut file = File::create(path)?;
    let bytes = vec![b'x'; (PAYLOAD_BYTES + 40) * batch];
    let batches = (MESSAGES as usize / batch).max(1);
    let start = Instant::now();
    for _ in 0..batches {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    Ok((batches * batch) as f64 / start.elapsed().as_secs_f64())
}
