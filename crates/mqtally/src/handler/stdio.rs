//! `stdio:CMD`: one long-running program takes all messages, as lines of JSON on its standard input, and answers with
//! lines of JSON on its standard output, in any order.
//!
//! ```text
//! → {"id":1,"attempt":1,"message":{"topic":"a/b","qos":1,"retain":false,"payload":"21.5","key":"7","id":"7.…",…}}
//! ← {"id":1,"outcome":"done"}
//! ← {"id":2,"outcome":"retry","error":"no connection","retry_after_ms":2000}
//! ← {"id":3,"outcome":"dead","error":"no such customer"}
//! ```
//!
//! It starts with the first message, and again when it has ended: after 0.1 s, then twice as long each time up to 10 s,
//! until it answers. The messages in its hands are retried. It is killed, with all that it started, when an answer
//! takes too long, is no answer, or is longer than 64 KiB. What it says on standard error is in the messages' errors.

use super::process::{Program, Tail, in_words};
use super::record::{Frame, Line};
use super::{Options, PARALLEL_MAX, dead, retry};
use crate::inbox::{Delivery, Outcome};
use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const RESTART_DELAY: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// How long it may take to end after its standard input was closed.
const CLOSING: Duration = Duration::from_secs(5);
/// How long a program that closed its standard output may take to end.
const ENDING: Duration = Duration::from_millis(500);
/// Longest delay that an answer can ask for.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;

pub(super) struct Stdio {
    command: String,
    time_max: Duration,
    /// Starts with the first message, on whatever runtime handles it.
    keeper: OnceLock<KeeperHandle>,
}

type Request = (Delivery, oneshot::Sender<Outcome>);

struct KeeperHandle {
    requests: mpsc::Sender<Request>,
    stop: Arc<Notify>,
}

#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    attempt: u32,
    message: Frame<'a>,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    outcome: Decision,
    error: Option<String>,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Done,
    Retry,
    Dead,
}

impl Stdio {
    pub(super) fn new(command: &str, options: &Options) -> Self {
        Self { command: command.to_owned(), time_max: options.time_max, keeper: OnceLock::new() }
    }

    /// Waiting for its turn, then for the answer, and for the end of a program that has to be killed.
    pub(super) fn time_max(&self) -> Duration {
        self.time_max * 2 + ENDING * 4
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        let requests = &self.keeper.get_or_init(|| self.start()).requests;
        let answered = async {
            let (reply, answer) = oneshot::channel();
            requests.send((delivery.clone(), reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(self.time_max(), answered).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => retry("the handler was closed"),
            Err(_) => retry(format!("it was not its turn within {:?}", self.time_max)),
        }
    }

    pub(super) async fn close(&self) {
        let keeper = self.keeper.get_or_init(|| self.start());
        keeper.stop.notify_one();
        keeper.requests.closed().await;
    }

    fn start(&self) -> KeeperHandle {
        let (sender, requests) = mpsc::channel(PARALLEL_MAX);
        let stop = Arc::new(Notify::new());
        let (command, time_max) = (self.command.clone(), self.time_max);
        let keeper = Keeper { command, time_max, requests, stop: Arc::clone(&stop), last_id: 0 };
        tokio::spawn(keeper.run());
        KeeperHandle { requests: sender, stop }
    }
}

/// Keeps the program running.
struct Keeper {
    command: String,
    time_max: Duration,
    requests: mpsc::Receiver<Request>,
    stop: Arc<Notify>,
    last_id: u64,
}

/// What comes after one run of the program.
enum End {
    /// It ended, or had to; whether it had answered before.
    Ended { answered: bool },
    /// Nobody needs it any more.
    Closed,
}

impl Keeper {
    async fn run(mut self) {
        let mut delay = RESTART_DELAY;
        while let Some((delivery, reply)) = self.next_request().await {
            if reply.is_closed() {
                continue;
            }
            match self.run_once(&delivery, reply).await {
                End::Closed => return,
                End::Ended { answered: true } => delay = RESTART_DELAY,
                End::Ended { answered: false } => {}
            }
            if timeout(delay, self.stop.notified()).await.is_ok() {
                return;
            }
            delay = (delay * 2).min(RESTART_DELAY_MAX);
        }
    }

    /// `None` when the handler is closed or gone.
    async fn next_request(&mut self) -> Option<Request> {
        tokio::select! {
            request = self.requests.recv() => request,
            () = self.stop.notified() => None,
        }
    }

    async fn run_once(&mut self, delivery: &Delivery, reply: oneshot::Sender<Outcome>) -> End {
        let program = Program::start(&self.command, process::Stdio::piped(), |_| ());
        let mut session = match program.and_then(Session::new) {
            Ok(session) => session,
            Err(error) => {
                let _ = reply.send(retry(format!("the shell cannot be started: {error}")));
                return End::Ended { answered: false };
            }
        };
        session.ask(self.next_id(), delivery, reply, self.time_max);
        let over = self.converse(&mut session).await;
        let end = match over {
            Over::Closed => End::Closed,
            Over::ByItself | Over::Killed(_) => End::Ended { answered: session.answered },
        };
        session.end(over).await;
        end
    }

    /// Asks and takes answers until that is over.
    async fn converse(&mut self, session: &mut Session) -> Over {
        loop {
            let may_ask = session.unsent.is_empty() && session.waiting.len() < PARALLEL_MAX;
            let next = tokio::select! {
                moved = session.step() => match moved {
                    Ok(()) => continue,
                    Err(over) => return over,
                },
                request = self.requests.recv(), if may_ask => request,
                () = self.stop.notified() => None,
            };
            match next {
                Some((_, reply)) if reply.is_closed() => {}
                Some((delivery, reply)) => {
                    session.ask(self.next_id(), &delivery, reply, self.time_max);
                }
                None => break,
            }
        }
        session.stdin = None;
        // It may answer what it has, and then it ends; how is of no interest any more.
        let _ = timeout(CLOSING, async { while session.step().await.is_ok() {} }).await;
        Over::Closed
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// Why one run of the program is over.
enum Over {
    /// It ended, or closed its standard output.
    ByItself,
    /// It has to be killed, because of this.
    Killed(String),
    /// The handler was closed.
    Closed,
}

/// One run of the program.
struct Session {
    program: Program,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    /// What was asked and not yet written: a piece, and where the next ones come from.
    unsent: Bytes,
    question: Option<Line>,
    /// The beginning of an answer.
    line: Vec<u8>,
    tail: Tail,
    /// Who waits for which answer, and until when.
    waiting: BTreeMap<u64, (oneshot::Sender<Outcome>, Instant)>,
    answered: bool,
}

impl Session {
    fn new(mut program: Program) -> io::Result<Self> {
        let child = program.child();
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (unsent, question, line, tail, waiting) = Default::default();
        Ok(Self { program, stdin, stdout, stderr, unsent, question, line, tail, waiting, answered: false })
    }

    fn ask(&mut self, id: u64, delivery: &Delivery, reply: oneshot::Sender<Outcome>, time_max: Duration) {
        let question = Question { id, attempt: delivery.attempt, message: Frame(delivery) };
        self.question = Some(Line::around(&question, delivery));
        self.next_piece();
        self.waiting.insert(id, (reply, Instant::now() + time_max));
    }

    fn next_piece(&mut self) {
        self.unsent = self.question.as_mut().and_then(Iterator::next).unwrap_or_default();
    }

    /// Writes or reads something, whichever comes first. Cancellation-safe.
    async fn step(&mut self) -> Result<(), Over> {
        let (mut said, mut heard) = ([0; 4_096], [0; 4_096]);
        let too_late = self.waiting.values().map(|(_, until)| *until).min();
        tokio::select! {
            read = self.stdout.read(&mut said) => match read {
                Ok(length @ 1..) => self.take(&said[..length]),
                _ => Err(Over::ByItself),
            },
            read = read_some(&mut self.stderr, &mut heard) => {
                self.tail.push(&heard[..read]);
                Ok(())
            }
            written = write_some(&mut self.stdin, &self.unsent), if !self.unsent.is_empty() => {
                self.unsent.advance(written);
                if self.unsent.is_empty() {
                    self.next_piece();
                }
                Ok(())
            }
            () = sleep_until(too_late.unwrap_or_else(Instant::now)), if too_late.is_some() => {
                Err(Over::Killed("an answer took too long".to_owned()))
            }
        }
    }

    /// Takes a piece of the program's standard output.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Over> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > ANSWER_BYTES_MAX {
                return Err(Over::Killed(format!("an answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.settle(&line).map_err(Over::Killed)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, line: &[u8]) -> Result<(), String> {
        let answer: Answer = serde_json::from_slice(line).map_err(|error| {
            let shown: String = String::from_utf8_lossy(line).trim_end().chars().take(100).collect();
            format!("{shown:?} is no answer: {error}")
        })?;
        let id = answer.id;
        let Some((reply, _)) = self.waiting.remove(&id) else {
            return Err(format!("it answered id {id}, which was not asked or was answered"));
        };
        self.answered = true;
        // Whoever has stopped waiting gets the message again.
        let _ = reply.send(answer.into());
        Ok(())
    }

    /// Lets it end, or ends it, and gives its messages back.
    async fn end(mut self, over: Over) {
        let let_go = matches!(over, Over::ByItself) && timeout(ENDING, self.program.ended()).await.is_ok();
        if !let_go {
            self.program.kill();
        }
        let status = timeout(ENDING, self.program.ended()).await;
        if let Some(stderr) = &mut self.stderr {
            // Something that it left running may hold it open.
            let _ = timeout(ENDING, self.tail.fill(stderr)).await;
        }
        let how = match status {
            Ok(Ok(status)) => format!(" ({})", in_words(status)),
            _ => String::new(),
        };
        let why = match over {
            Over::ByItself => "it ended".to_owned(),
            Over::Killed(why) => format!("killed, because {why}"),
            Over::Closed => "the handler was closed".to_owned(),
        };
        let error = self.tail.after(&format!("the program did not answer; {why}{how}"));
        for (reply, _) in std::mem::take(&mut self.waiting).into_values() {
            let _ = reply.send(retry(error.clone()));
        }
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        let error = answer.error.unwrap_or_else(|| "the program gave no reason".to_owned());
        match answer.outcome {
            Decision::Done => Self::Done,
            Decision::Dead => dead(error),
            Decision::Retry => Self::Retry {
                after: answer.retry_after_ms.map(|ms| Duration::from_millis(ms.min(RETRY_AFTER_MS_MAX))),
                error: super::bounded(error),
            },
        }
    }
}

/// Writes what goes; waits for ever where nobody reads any more, because the end of standard output tells that better.
async fn write_some(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> usize {
    if let Some(open) = stdin {
        match open.write(bytes).await {
            Ok(written) => return written,
            Err(_) => *stdin = None,
        }
    }
    std::future::pending().await
}

/// Reads what is there; waits for ever at the end.
async fn read_some(stderr: &mut Option<ChildStderr>, chunk: &mut [u8]) -> usize {
    if let Some(open) = stderr {
        match open.read(chunk).await {
            Ok(length @ 1..) => return length,
            _ => *stderr = None,
        }
    }
    std::future::pending().await
}
