//! The little HTTP that `/metrics` and the proxy's rules need: HTTP/1.1, one request a connection, everything bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Requests at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16;
/// A request's head is no longer.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Nor its body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// From the first byte to the last of a request and its answer.
const TIME_MAX: Duration = Duration::from_secs(5);
const PLAIN: &str = "text/plain; charset=utf-8";

/// A request, as far as anybody here looks at it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) body: String,
    /// A web page in a browser sent it.
    pub(crate) is_from_page: bool,
}

/// An answer, in plain text unless said otherwise.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    kind: &'static str,
    body: String,
    allow: Option<&'static str>,
}

impl Answer {
    pub(crate) fn new(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: PLAIN, body: body.into(), allow: None }
    }

    /// The same with a body of this type.
    pub(crate) fn with_kind(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    /// The path has only the methods in `allow`.
    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        let answer = Self::new("405 Method Not Allowed", format!("only {allow}\n"));
        Self { allow: Some(allow), ..answer }
    }

    fn into_bytes(self, with_body: bool) -> Vec<u8> {
        let Self { status, kind, body, allow } = self;
        let length = body.len();
        let body = if with_body { &body } else { "" };
        let allow = allow.map(|methods| format!("Allow: {methods}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             {allow}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Answers until it is dropped.
pub(crate) async fn serve<F>(listener: TcpListener, answer: impl Fn(Request) -> F + Clone + Send + 'static)
where
    F: Future<Output = Answer> + Send,
{
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, perhaps: others may free some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            // Whoever is slower than that, or hangs up, goes without an answer.
            drop(tokio::time::timeout(TIME_MAX, converse(stream, answer)).await);
            drop(permit);
        });
    }
}

async fn converse<F>(mut stream: TcpStream, answer: impl Fn(Request) -> F) -> io::Result<()>
where
    F: Future<Output = Answer>,
{
    let (answer, with_body) = match read_request(&mut stream).await? {
        Ok(request) => {
            let with_body = request.method != "HEAD";
            (answer(request).await, with_body)
        }
        Err(refusal) => (refusal, true),
    };
    stream.write_all(&answer.into_bytes(with_body)).await?;
    stream.shutdown().await
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
    let path = target.split('?').next().unwrap_or_default();
    let mut request = Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() };
    let mut body_len = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => body_len = value.trim().parse().map_err(|_| malformed())?,
            "transfer-encoding" => return Err(Answer::new("411 Length Required", "say the length\n")),
            "origin" => request.is_from_page = true,
            _ => {}
        }
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
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_apart_or_refused() {
        let check = |head: &str, expect: Result<(&str, &str, usize, bool), &str>| {
            let parsed = parse_head(head);
            let parsed = parsed.as_ref().map(|(request, len)| {
                (request.method.as_str(), request.path.as_str(), *len, request.is_from_page)
            });
            assert_eq!(parsed.map_err(|answer| answer.status), expect, "{head}");
        };
        check("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", Ok(("GET", "/metrics", 0, false)));
        check("POST /rules HTTP/1.1\r\ncontent-length: 7\r\n\r\n", Ok(("POST", "/rules", 7, false)));
        check("POST /rules HTTP/1.1\r\nOrigin: http://evil\r\n\r\n", Ok(("POST", "/rules", 0, true)));
        check("GET /\r\n\r\n", Err("400 Bad Request"));
        check("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", Err("400 Bad Request"));
        check("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", Err("413 Content Too Large"));
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Err("411 Length Required"));
    }
}
