//! Brokers that do not come up, and what is said about them.

mod support;

use mqtally_harness::process::{BrokerSource, BrokerUnderTest, ProcessError};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;

/// For what ends by itself, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what has to be given up.
const SHORT: Duration = Duration::from_millis(600);

async fn start_command(template: &str) -> Result<BrokerUnderTest, ProcessError> {
    start_command_within(template, PATIENCE).await
}

async fn start_command_within(template: &str, limit: Duration) -> Result<BrokerUnderTest, ProcessError> {
    let directory = tempfile::tempdir().expect("no directory");
    let directory = directory.path().to_owned();
    let source = BrokerSource::Command { template: template.to_owned(), directory, login: None };
    BrokerUnderTest::start_within(source, limit).await
}

fn said(result: Result<BrokerUnderTest, ProcessError>) -> String {
    result.expect_err("it started").to_string()
}

#[tokio::test]
async fn a_broker_that_dies_at_once_is_quoted() {
    let error = said(start_command("sh -c 'echo no licence >&2; exit 3'").await);
    assert!(error.contains("ended before it accepted a connection"), "{error}");
    assert!(error.contains("exit status: 3") && error.contains("no licence"), "{error}");
}

#[tokio::test]
async fn a_broker_that_is_never_ready_is_given_up() {
    let error = said(start_command_within("sleep 60", SHORT).await);
    assert!(error.contains("accepted no MQTT connection"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = said(start_command("/nowhere/broker -p {port}").await);
    assert!(error.contains("/nowhere/broker cannot be started"), "{error}");
}

#[tokio::test]
async fn a_command_that_cannot_be_read_is_refused() {
    let error = said(start_command("broker 'open").await);
    assert!(error.contains("never closed"), "{error}");
}

#[tokio::test]
async fn an_embedded_broker_that_prints_no_address_is_refused() {
    let source = BrokerSource::Embedded { program: "/bin/echo".into(), data: "/tmp".into() };
    let error = said(BrokerUnderTest::start_within(source, PATIENCE).await);
    assert!(error.contains("its first line is no address"), "{error}");
}

/// A listener that does `answer` with each connection.
async fn listen(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("no port");
    let address = listener.local_addr().expect("no address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.writable().await;
            let _ = stream.try_write(answer);
        }
    });
    address
}

#[tokio::test]
async fn a_listener_that_closes_every_connection_is_no_broker() {
    let error = said(BrokerUnderTest::start_within(support::url(listen(b"").await), PATIENCE).await);
    assert!(error.contains("no MQTT broker answers at mqtt://127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_listener_that_speaks_http_is_no_broker() {
    let address = listen(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = said(BrokerUnderTest::start_within(support::url(address), SHORT).await);
    assert!(error.contains("no MQTT broker answers"), "{error}");
}

#[tokio::test]
async fn a_broker_that_refuses_us_says_why() {
    let not_authorized = b"\x20\x02\x00\x05";
    let error =
        said(BrokerUnderTest::start_within(support::url(listen(not_authorized).await), PATIENCE).await);
    assert!(error.contains("it refused us: 0x87 not authorized"), "{error}");
}
