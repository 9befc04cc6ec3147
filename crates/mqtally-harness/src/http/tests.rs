//! What is answered, and what has a bound.

use super::*;

#[test]
fn a_head_is_taken_apart_or_refused() {
    let check = |head: &str, expect: Result<(&str, &str, usize, bool), &str>| {
        let parsed = parse_head(head);
        let parsed = parsed.as_ref().map(|(request, len)| {
            (request.method.as_str(), request.path.as_str(), *len, request.is_from_page())
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

#[test]
fn a_header_that_is_repeated_says_nothing() {
    let request =
        Request::of("GET /a?b=c HTTP/1.1\r\nHost: one\r\nhost: two\r\nX-Y:  z \r\n\r\n").expect("a head");
    assert_eq!((request.header("host"), request.header("x-y")), (None, Some("z")));
    assert_eq!(request.query, "b=c");
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_event_and_holds_up_nobody() {
    let event = |n: usize| Event { data: format!("{n} {}", "x".repeat(1 << 20)).into(), is_last: n == 99 };
    let (latest, _) = watch::channel(event(0));
    let latest = Arc::new(latest);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let source = Arc::clone(&latest);
    tokio::spawn(serve(listener, move |_| std::future::ready(Answer::streaming(source.subscribe()))));
    let mut reader = TcpStream::connect(address).await.expect("it listens");
    reader.write_all(b"GET /events HTTP/1.1\r\n\r\n").await.expect("it reads");
    while latest.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    // It does not read: what is between takes a few of these at most.
    for n in 1..100 {
        latest.send_replace(event(n));
        tokio::task::yield_now().await;
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.expect("it ends by itself");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let seen: Vec<&str> =
        text.lines().filter_map(|it| it.strip_prefix("data: ")?.split(' ').next()).collect();
    assert_eq!(seen.last(), Some(&"99"));
    assert!(seen.len() < 20, "no queue: {seen:?}");
}

#[tokio::test]
async fn no_more_than_so_many_watch() {
    let (latest, _) = watch::channel(Event { data: "x".into(), is_last: false });
    let latest = Arc::new(latest);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let source = Arc::clone(&latest);
    tokio::spawn(serve(listener, move |_| std::future::ready(Answer::streaming(source.subscribe()))));
    let ask = async || {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET /events HTTP/1.1\r\n\r\n").await.expect("it reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let mut watching = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (stream, status) = ask().await;
        assert_eq!(status, "HTTP/1.1 200");
        watching.push(stream);
    }
    assert_eq!(ask().await.1, "HTTP/1.1 503");
    // One that hangs up makes room.
    drop(watching.pop());
    let room = async {
        while latest.receiver_count() >= STREAMS_MAX {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, room).await.expect("it makes room");
    assert_eq!(ask().await.1, "HTTP/1.1 200");
}

/// Longer than any of these tests takes where all is well.
const LONG: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::from_millis(20);

async fn listening() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// All that comes until the server closes.
async fn until_closed(mut client: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LONG, client.read_to_end(&mut bytes)).await;
    read.expect("the server lets go").expect("in order");
    String::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn no_more_than_so_many_are_answered_at_once_and_the_others_after_them() {
    let (listener, address) = listening().await;
    let gate = Arc::new(Semaphore::new(0));
    let (at_work, most) = (watch::channel(0_usize).0, Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let at_work = Arc::new(at_work);
    let (counter, highest, door) = (Arc::clone(&at_work), Arc::clone(&most), Arc::clone(&gate));
    let answer = move |_| {
        let (counter, highest, door) = (Arc::clone(&counter), Arc::clone(&highest), Arc::clone(&door));
        async move {
            counter.send_modify(|count| *count += 1);
            highest.fetch_max(*counter.borrow(), std::sync::atomic::Ordering::Relaxed);
            drop(door.acquire().await);
            counter.send_modify(|count| *count -= 1);
            Answer::new("200 OK", "")
        }
    };
    tokio::spawn(serve_within(Patience { request: LONG, event: LONG }, listener, answer));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 8 {
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it reads");
        clients.push(client);
    }
    let mut full = at_work.subscribe();
    full.wait_for(|count| *count >= CONNECTIONS_MAX).await.expect("it works");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(CONNECTIONS_MAX);
    for client in clients {
        assert!(until_closed(client).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(most.load(std::sync::atomic::Ordering::Relaxed), CONNECTIONS_MAX);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_let_go() {
    let (listener, address) = listening().await;
    let answer = |_| std::future::ready(Answer::new("200 OK", "whole"));
    tokio::spawn(serve_within(Patience { request: AT_ONCE, event: LONG }, listener, answer));
    for part in ["", "GET / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"] {
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(part.as_bytes()).await.expect("it reads");
        assert_eq!(until_closed(client).await, "", "{part}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused_at_its_limit() {
    let (listener, address) = listening().await;
    let answer = |_| std::future::ready(Answer::new("200 OK", ""));
    tokio::spawn(serve_within(Patience { request: LONG, event: LONG }, listener, answer));
    let mut client = TcpStream::connect(address).await.expect("it listens");
    let start = "GET / HTTP/1.1\r\nX: ";
    let head = start.to_owned() + &"x".repeat(HEAD_BYTES_MAX - start.len());
    client.write_all(head.as_bytes()).await.expect("it reads");
    assert!(until_closed(client).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go() {
    let (listener, address) = listening().await;
    // More than the buffers of both ends take.
    let event = Event { data: "x".repeat(64 << 20).into(), is_last: false };
    let latest = Arc::new(watch::channel(event).0);
    let source = Arc::clone(&latest);
    let answer = move |_| std::future::ready(Answer::streaming(source.subscribe()));
    tokio::spawn(serve_within(Patience { request: LONG, event: AT_ONCE }, listener, answer));
    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.write_all(b"GET /events HTTP/1.1\r\n\r\n").await.expect("it reads");
    let mut status = [0; 12];
    client.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200");
    tokio::time::timeout(LONG, latest.closed()).await.expect("nobody watches any more");
}
