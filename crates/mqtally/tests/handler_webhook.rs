//! `http(s)://`: a POST for each message, against a server written by hand.

mod handler_support;

use handler_support::{delivery, handle, handle_all, open, open_with, refused};
use mqtally::handler::{Options, WebhookOptions, identity};
use mqtally::tls::Roots;
use mqtally_proto::packet::{Properties, Property};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A request as it came.
#[derive(Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
    /// Which connection it came on.
    connection: usize,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_end())
    }
}

/// Takes connections one after another and gives each request this answer. It ends with the process.
fn serve(answer: impl Into<String>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    let answer = answer.into();
    std::thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let (stream, answer, sender) = (stream.unwrap(), answer.clone(), sender.clone());
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Ok(Some((head, body))) = read_request(&mut stream) {
                    let _ = sender.send(Request { head, body, connection });
                    if answer.is_empty() {
                        return;
                    }
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (url, requests)
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some((head, body)))
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn outcome(answer: String) -> String {
    let (url, _requests) = serve(answer);
    handle(&open(&url, 10_000), &delivery(1, "x")).await
}

#[tokio::test]
async fn the_status_decides() {
    let check = async |status, headers, body, expect: &str| {
        assert_eq!(outcome(answer(status, headers, body)).await, expect, "{status}");
    };
    for status in [200, 201, 202, 204, 299, 409] {
        check(status, "", "", "done").await;
    }
    check(429, "", "slow down", "retry: answered 429: slow down").await;
    check(500, "", "", "retry: answered 500").await;
    check(503, "", " busy\n", "retry: answered 503: busy").await;
    check(503, "retry-after: 120\r\n", "", "retry in 120s: answered 503").await;
    check(429, "Retry-After: 99999\r\n", "", "retry in 3600s: answered 429").await;
    check(429, "retry-after: Thu, 01 Jan 2099 00:00:00 GMT\r\n", "", "retry in 3600s: answered 429").await;
    check(503, "retry-after: soon\r\n", "", "retry: answered 503").await;
    for status in [400, 401, 403, 404, 408, 410, 422] {
        check(status, "", "", &format!("dead: answered {status}")).await;
    }
    check(422, "", "no such customer", "dead: answered 422: no such customer").await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, requests) = serve(answer(200, "", ""));
    for status in [301, 302, 303, 307, 308] {
        let outcome = outcome(answer(status, &format!("location: {elsewhere}/new?token=x\r\n"), "")).await;
        let expect = format!(
            "dead: answered {status}, a redirect to \"{elsewhere}/…\", which is not followed; name the final URL"
        );
        assert_eq!(outcome, expect);
    }
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn the_request_holds_the_message_and_who_it_is() {
    let (url, requests) = serve(answer(200, "", ""));
    let handler = open(&format!("{url}/hook?x=1"), 10_000);
    let mut message = delivery(1, r#"{"celsius":21.5}"#);
    message.topic = "a b/é".into();
    assert_eq!(handle(&handler, &message).await, "done");
    let request = requests.recv().unwrap();
    assert!(request.head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, message.payload);
    let id = identity(&message);
    assert!(id.starts_with("1."));
    for (name, expect) in [
        ("idempotency-key", id.as_str()),
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", "mqtally"),
        ("ce-type", "mqtally.message"),
        ("ce-subject", "a%20b/%C3%A9"),
        ("ce-time", "1970-01-01T00:00:01.000Z"),
    ] {
        assert_eq!(request.header(name), Some(expect), "{name}");
    }
    // The same at the next attempt, and over the same connection.
    message.attempt = 2;
    assert_eq!(handle(&handler, &message).await, "done");
    let again = requests.recv().unwrap();
    assert_eq!(again.header("idempotency-key"), Some(id.as_str()));
    assert_eq!((request.connection, again.connection), (0, 0));
}

#[tokio::test]
async fn the_content_type_is_the_messages_or_what_the_payload_looks_like() {
    let (url, requests) = serve(answer(200, "", ""));
    let handler = open(&url, 10_000);
    let check = async |properties: Vec<Property>, payload: &[u8], expect: &str| {
        let mut message = delivery(1, payload);
        message.properties = Properties(properties);
        assert_eq!(handle(&handler, &message).await, "done");
        assert_eq!(requests.recv().unwrap().header("content-type"), Some(expect), "{payload:?}");
    };
    let own = |text: &str| vec![Property::ContentType(text.into())];
    check(own("text/csv"), b"{}", "text/csv").await;
    check(own("evil\r\nx: y"), b"{}", "application/json").await;
    check(vec![], b" [1]", "application/json").await;
    check(vec![], b"{broken", "application/octet-stream").await;
    check(vec![], b"21.5", "application/octet-stream").await;
    check(vec![], b"", "application/octet-stream").await;
    check(vec![Property::PayloadFormatIndicator(1)], b"21.5", "text/plain; charset=utf-8").await;
}

#[tokio::test]
async fn a_message_that_is_a_cloud_event_keeps_its_attributes() {
    let (url, requests) = serve(answer(200, "", ""));
    let mut message = delivery(1, "x");
    let pairs = [("specversion", "1.0"), ("id", "e1"), ("source", "/plant"), ("type", "door.open")];
    message.properties = Properties(
        pairs.iter().map(|(name, value)| Property::UserProperty((*name).into(), (*value).into())).collect(),
    );
    assert_eq!(handle(&open(&url, 10_000), &message).await, "done");
    let request = requests.recv().unwrap();
    let found = ["ce-id", "ce-source", "ce-type"].map(|name| request.header(name).unwrap());
    assert_eq!(found, ["e1", "/plant", "door.open"]);
}

#[tokio::test]
async fn a_server_that_closes_is_not_there_or_talks_nonsense_is_a_retry() {
    let starts = |outcome: String, expect: &str| assert!(outcome.starts_with(expect), "{outcome}");
    starts(outcome(String::new()).await, "retry: no answer: ");
    starts(outcome("SSH-2.0-nonsense\r\n\r\n".into()).await, "retry: no answer: ");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    starts(
        handle(&open(&format!("http://{nobody}"), 10_000), &delivery(1, "x")).await,
        "retry: no answer: io: ",
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_retry_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let handler = open(&url, 300);
    let message = delivery(1, "x");
    let outcome = tokio::time::timeout(Duration::from_secs(30), handle(&handler, &message)).await;
    let outcome = outcome.expect("it waits for ever");
    assert!(outcome.starts_with("retry: no answer "), "{outcome}");
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = read_request(&mut BufReader::new(&stream));
        stream.write_all(b"HTTP/1.1 400 X\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    let outcome = handle(&open(&url, 10_000), &delivery(1, "x")).await;
    assert!(outcome.starts_with("dead: answered 400") && outcome.len() < 1_000, "{outcome}");
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let (url, requests) = serve(answer(200, "", ""));
    let outcomes = handle_all(open(&url, 20_000), (0..100).map(|n| delivery(n, "x")).collect()).await;
    assert!(outcomes.iter().all(|outcome| outcome == "done"), "{outcomes:?}");
    assert_eq!(requests.try_iter().count(), 100);
}

/// Answers one request with 200, over TLS; the certificate is for `localhost` and stands for its own authority.
fn serve_tls() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
            let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream.unwrap()));
            if let Ok(Some(_)) = read_request(&mut stream) {
                let _ = stream.get_mut().write_all(answer(200, "connection: close\r\n", "").as_bytes());
            }
        }
    });
    (format!("https://localhost:{port}/"), made.cert.pem())
}

#[tokio::test]
async fn a_server_is_trusted_by_its_own_authority_and_not_without() {
    let (url, pem) = serve_tls();
    let directory = tempfile::tempdir().unwrap();
    let trusting = |pem: &str| {
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, pem).unwrap();
        Options {
            webhook: WebhookOptions { roots: Roots::CaFile(ca_file), ..WebhookOptions::default() },
            ..Options::default()
        }
    };
    assert_eq!(handle(&open_with(&url, &trusting(&pem)), &delivery(1, "x")).await, "done");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let outcome = handle(&open_with(&url, &trusting(&other)), &delivery(1, "x")).await;
    assert!(outcome.starts_with("retry: no answer: ") && outcome.contains("certificate"), "{outcome}");
    let message = refused(&url, &trusting("no certificate"));
    assert!(
        message.ends_with("is not usable: there is no certificate in it; give PEM, unencrypted"),
        "{message}"
    );
}
