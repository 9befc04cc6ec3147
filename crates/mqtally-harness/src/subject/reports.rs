//! Where a program under test posts what it says: HTTP on loopback, the same lines as on standard output.
//!
//! `POST /` with a line a message. 204 says that all of it is in the history; 400 that a line means nothing, with its
//! number, and that the lines before it are in.

use crate::http::{self, Answer, Request};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Takes reports, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reports {
    address: SocketAddr,
    serving: AbortHandle,
}

impl Reports {
    /// Listens on loopback; each line that is posted is told, which says whether it means anything.
    pub(crate) async fn listen(told: impl Fn(&str) -> bool + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let told = Arc::new(told);
        let answer = move |request: Request| {
            let told = Arc::clone(&told);
            async move { taken(&request, &*told) }
        };
        Ok(Self { address, serving: tokio::spawn(http::serve(listener, answer)).abort_handle() })
    }

    /// What to post to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn taken(request: &Request, told: &dyn Fn(&str) -> bool) -> Answer {
    match request.method.as_str() {
        _ if request.is_from_page() => Answer::new("403 Forbidden", "not for web pages\n"),
        "POST" => report(&request.body, told),
        _ => Answer::wrong_method("POST"),
    }
}

fn report(body: &str, told: &dyn Fn(&str) -> bool) -> Answer {
    let mut lines = body.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).peekable();
    if lines.peek().is_none() {
        return Answer::new("400 Bad Request", "nothing is reported\n");
    }
    match lines.find(|(line, _)| !told(line)) {
        None => Answer::new("204 No Content", ""),
        Some((_, number)) => Answer::new(
            "400 Bad Request",
            format!("line {number} says nothing of a message; 'mqtally explain subject' has the words\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn what_is_posted_is_told_line_by_line_up_to_one_that_means_nothing() {
        let heard = Mutex::new(Vec::new());
        let told = |line: &str| {
            heard.lock().expect("nobody panics").push(line.to_owned());
            line.starts_with("received")
        };
        let answer = |head: &str, body: &str| {
            let mut request = Request::of(head).expect("a head");
            request.body = body.to_owned();
            taken(&request, &told).status
        };
        let post = "POST / HTTP/1.1\r\n\r\n";
        assert_eq!(answer(post, "received 1\n\nreceived 2\n"), "204 No Content");
        assert_eq!(answer(post, "received 3\nhello\nreceived 4\n"), "400 Bad Request");
        assert_eq!(answer(post, "\n"), "400 Bad Request");
        assert_eq!(answer("GET / HTTP/1.1\r\n\r\n", ""), "405 Method Not Allowed");
        assert_eq!(answer("POST / HTTP/1.1\r\nOrigin: http://a\r\n\r\n", "received 5"), "403 Forbidden");
        let heard = heard.into_inner().expect("nobody panics");
        assert_eq!(heard, ["received 1", "received 2", "received 3", "hello"]);
    }
}
