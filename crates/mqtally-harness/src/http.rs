//! The little HTTP that `/metrics`, the proxy's rules, the live view and programs under test need: HTTP/1.1, one request a
//! connection, everything bounded: 16 requests at once, heads of 8 KiB, bodies of 64 KiB, 5 seconds from the first byte to
//! the last. What is streamed has no queue: a reader gets the latest event when it can take one.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Requests at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16;
/// A request's head is no longer.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Nor its body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Streams at once; one more is refused.
const STREAMS_MAX: usize = 16;
/// How long a client may take before it is let go.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// From the first byte to the last of a request and its answer.
    request: Duration,
    /// Until the reader of a stream has taken an event.
    event: Duration,
}

const PATIENCE: Patience = Patience { request: Duration::from_secs(5), event: Duration::from_secs(15) };
const PLAIN: &str = "text/plain; charset=utf-8";

/// A request, as far as anybody here looks at it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// As it was sent, such as `GET`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What follows `?`, undecoded.
    pub query: String,
    /// What came behind the head.
    pub body: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header that is there once; nothing where it is missing or repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value);
        values.next().filter(|_| values.next().is_none())
    }

    /// A web page in a browser sent it.
    pub fn is_from_page(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == "origin")
    }

    /// What a head says, up to its empty line; nothing where it is no head of a request.
    pub fn of(head: &str) -> Option<Self> {
        parse_head(head).ok().map(|(request, _)| request)
    }
}

/// What a stream brings; text of one line.
#[derive(Debug, Clone)]
pub struct Event {
    /// One line.
    pub data: Arc<str>,
    /// Nothing comes behind it.
    pub is_last: bool,
}

/// An answer, in plain text unless said otherwise.
#[derive(Debug)]
pub struct Answer {
    /// Such as `200 OK`.
    pub status: &'static str,
    kind: &'static str,
    body: String,
    headers: Vec<(&'static str, String)>,
    events: Option<watch::Receiver<Event>>,
}

impl Answer {
    /// An answer with this status, such as `200 OK`.
    pub fn new(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: PLAIN, body: body.into(), headers: Vec::new(), events: None }
    }

    /// Server-sent events, from the one that is there to the last.
    pub fn streaming(events: watch::Receiver<Event>) -> Self {
        let answer = Self::new("200 OK", "").with_kind("text/event-stream");
        Self { events: Some(events), ..answer.with_header("Cache-Control", "no-store") }
    }

    /// The same with a body of this type.
    pub fn with_kind(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The path has only the methods in `allow`.
    pub fn wrong_method(allow: &'static str) -> Self {
        Self::new("405 Method Not Allowed", format!("only {allow}\n")).with_header("Allow", allow)
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {}\r\nContent-Type: {}\r\n", self.status, self.kind);
        if self.events.is_none() {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "Connection: close\r\n\r\n"
    }
}

/// Answers until it is dropped.
pub async fn serve<F>(listener: TcpListener, answer: impl Fn(Request) -> F + Clone + Send + 'static)
where
    F: Future<Output = Answer> + Send,
{
    serve_within(PATIENCE, listener, answer).await;
}

async fn serve_within<F>(
    patience: Patience,
    listener: TcpListener,
    answer: impl Fn(Request) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Answer> + Send,
{
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let streams = Arc::new(Semaphore::new(STREAMS_MAX));
    while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, perhaps: others may free some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (answer, streams) = (answer.clone(), Arc::clone(&streams));
        tokio::spawn(async move {
            // Whoever is slower than that, or hangs up, goes without an answer.
            let conversed = tokio::time::timeout(patience.request, converse(stream, answer, streams)).await;
            drop(permit);
            if let Ok(Ok(Some(streaming))) = conversed {
                drop(streaming.run(patience.event).await);
            }
        });
    }
}

/// One request and its answer; or what is left of it, where it is a stream.
async fn converse<F>(
    mut stream: TcpStream,
    answer: impl Fn(Request) -> F,
    streams: Arc<Semaphore>,
) -> io::Result<Option<Streaming>>
where
    F: Future<Output = Answer>,
{
    let (mut answer, with_body) = match read_request(&mut stream).await? {
        Ok(request) => {
            let with_body = request.method != "HEAD";
            (answer(request).await, with_body)
        }
        Err(refusal) => (refusal, true),
    };
    let permit = streams.try_acquire_owned();
    if answer.events.is_some() && permit.is_err() {
        answer = Answer::new("503 Service Unavailable", "too many watch already\n");
    }
    stream.write_all(answer.head().as_bytes()).await?;
    if with_body {
        stream.write_all(answer.body.as_bytes()).await?;
        if let (Some(events), Ok(permit)) = (answer.events, permit) {
            return Ok(Some(Streaming { stream, events, _permit: permit }));
        }
    }
    stream.shutdown().await?;
    Ok(None)
}

/// A reader of events.
struct Streaming {
    stream: TcpStream,
    events: watch::Receiver<Event>,
    _permit: OwnedSemaphorePermit,
}

impl Streaming {
    /// Until the last event, or until the reader hangs up, is too slow, or says something.
    async fn run(mut self, patience: Duration) -> io::Result<()> {
        self.stream.write_all(b"retry: 1000\n\n").await?;
        loop {
            let Event { data, is_last } = self.events.borrow_and_update().clone();
            let text = format!("data: {data}\n\n");
            tokio::time::timeout(patience, self.stream.write_all(text.as_bytes())).await??;
            if is_last {
                return self.stream.shutdown().await;
            }
            tokio::select! {
                changed = self.events.changed() => if changed.is_err() { return Ok(()) },
                _ = self.stream.read_u8() => return Ok(()),
            }
        }
    }
}

/// A whole request, or what is to be answered to something else.
async fn read_request(stream: &mut TcpStream) -> io::Result<Result<Request, Answer>> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() >= HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(Err(malformed()));
        }
    };
    let body = bytes.split_off(head_len);
    let (request, body_len) = match parse_head(&String::from_utf8_lossy(&bytes)) {
        Ok(parsed) => parsed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(match read_body(stream, body, body_len).await? {
        Some(body) => Ok(Request { body, ..request }),
        None => Err(Answer::new("400 Bad Request", "the body is not UTF-8\n")),
    })
}

async fn read_body(stream: &mut TcpStream, mut body: Vec<u8>, len: usize) -> io::Result<Option<String>> {
    while body.len() < len {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    body.truncate(len);
    Ok(String::from_utf8(body).ok())
}

/// What the head says, and how long the body is.
fn parse_head(head: &str) -> Result<(Request, usize), Answer> {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(malformed());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        ..Request::default()
    };
    let mut body_len = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "content-length" => body_len = value.parse().map_err(|_| malformed())?,
            "transfer-encoding" => return Err(Answer::new("411 Length Required", "say the length\n")),
            _ => {}
        }
        request.headers.push((name, value.to_owned()));
    }
    if body_len > BODY_BYTES_MAX {
        return Err(Answer::new("413 Content Too Large", "the body is too long\n"));
    }
    Ok((request, body_len))
}

fn malformed() -> Answer {
    Answer::new("400 Bad Request", "not an HTTP/1.1 request\n")
}

#[cfg(test)]
mod tests;
