//! `unix:`

use super::server::{Bare, serve};
use super::{connect_error, round};
use std::os::unix::net::UnixListener;

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

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let error = connect_error("unix:/nowhere/broker.sock".parse().unwrap()).await.to_string();
    assert!(error.starts_with("cannot reach unix:/nowhere/broker.sock: No such file"), "{error}");
}
