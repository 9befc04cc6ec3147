//! `unix:`

use super::server::{Bare, serve};
use super::{connect_error, round};
use mqtally::connection::Connection;
use mqtally_proto::packet::Version;
use std::os::unix::net::UnixListener;
use std::time::Duration;
use tokio::net::{UnixSocket, UnixStream};

#[tokio::test]
async fn a_unix_socket_carries_a_round() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a broker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || serve(Bare(listener.accept().unwrap().0)));
    let url = format!("unix:{}", path.to_str().unwrap().replace(' ', "%20"));
    round(url.parse().unwrap()).await;
    server.join().unwrap();
}

/// Linux answers a connect to a full queue with "try again" and keeps nothing of it: a broker that was busy for a
/// moment looked like one that cannot be reached.
#[tokio::test]
async fn a_listener_that_is_busy_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker.sock");
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(0).unwrap();
    let mut others = Vec::new();
    while let Ok(other) = UnixStream::connect(&path).await {
        others.push(other);
    }
    let endpoint = format!("unix:{}", path.display()).parse().unwrap();
    let dial = Connection::dial(&endpoint, Duration::from_secs(10), Version::V5_0, 1024, 1, None);
    let mut dial = std::pin::pin!(dial);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut dial).await;
    assert!(early.is_err(), "it waits");
    for _ in others {
        listener.accept().await.unwrap();
    }
    dial.await.unwrap();
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let error = connect_error("unix:/nowhere/broker.sock".parse().unwrap()).await.to_string();
    assert!(error.starts_with("cannot reach unix:/nowhere/broker.sock: No such file"), "{error}");
}
