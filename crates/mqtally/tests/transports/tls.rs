//! `mqtts://` and `wss://`, with certificates made here.

use super::server::{Bare, answer_when_all_is_there, bytes_of, listen, serve, upgrade};
use super::{a_full_socket_loses_nothing, connect_error, recv, round, settings};
use mqtally::client::{Client, Event};
use mqtally::connection::{Closed, Closing, Connection, Read as Filled};
use mqtally::endpoint::Endpoint;
use mqtally::tls::{Identity, Roots, Tls};
use mqtally_proto::packet::{Packet, Version};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(10);

/// An authority, what it has issued, and a directory with the files of it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

#[derive(Clone)]
struct Issued {
    certificate: String,
    key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
enum Valid {
    Now,
    Once,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory: tempfile::tempdir().unwrap() }
    }

    fn issue(&self, name: &str, valid: Valid) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if let Valid::Once = valid {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Trusts this authority alone.
    fn trusted(&self) -> Tls {
        Tls { roots: Roots::CaFile(self.file("ca.pem", &self.issuer.pem())), identity: None }
    }

    fn identity(&self, issued: &Issued) -> Option<Identity> {
        let certificate = self.file("client.pem", &issued.certificate);
        Some(Identity { certificate, key: self.file("client.key", &issued.key) })
    }
}

/// A server that shows `issued`, and asks for a certificate of `clients` where there is one.
fn server_config(issued: &Issued, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn accept(config: Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config).unwrap(), stream)
}

fn endpoint(scheme: &str, host: &str, port: u16, tls: Tls) -> Endpoint {
    format!("{scheme}://{host}:{port}").parse::<Endpoint>().unwrap().with_tls(tls)
}

#[tokio::test]
async fn tls_carries_a_round() {
    for host in ["localhost", "127.0.0.1"] {
        let authority = Authority::new();
        let config = server_config(&authority.issue(host, Valid::Now), None);
        let (port, server) = listen(move |stream| serve(Bare(accept(config, stream))));
        round(endpoint("mqtts", host, port, authority.trusted())).await;
        server.join().unwrap();
    }
}

#[tokio::test]
async fn a_websocket_over_tls_carries_a_round() {
    let authority = Authority::new();
    let config = server_config(&authority.issue("localhost", Valid::Now), None);
    let (port, server) = listen(move |stream| serve(upgrade(accept(config, stream))));
    round(endpoint("wss", "localhost", port, authority.trusted())).await;
    server.join().unwrap();
}

#[tokio::test]
async fn a_client_with_a_certificate_is_let_in() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let config = server_config(&authority.issue("localhost", Valid::Now), Some(&clients));
    let (port, server) = listen(move |stream| serve(Bare(accept(config, stream))));
    let identity = clients.identity(&clients.issue("client", Valid::Now));
    round(endpoint("mqtts", "localhost", port, Tls { identity, ..authority.trusted() })).await;
    server.join().unwrap();
}

/// In TLS 1.3 the refusal comes after the client has finished its handshake.
#[tokio::test]
async fn a_client_that_is_not_let_in_is_told_why() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let stranger = strangers.identity(&strangers.issue("client", Valid::Now));
    for (identity, expect) in [
        (None, "the broker asks for a client certificate; give certificate and key"),
        (stranger, "check the client certificate against what it accepts"),
    ] {
        let config = server_config(&authority.issue("localhost", Valid::Now), Some(&clients));
        let (port, server) = listen(move |stream| serve(Bare(accept(config, stream))));
        let tls = Tls { identity, ..authority.trusted() };
        let error = connect_error(endpoint("mqtts", "localhost", port, tls)).await.to_string();
        assert!(error.contains(expect), "{error}");
        server.join().unwrap();
    }
}

/// A server that shows `issued` on `host`, and what a client with `tls` makes of it.
async fn check(issued: Issued, host: &str, tls: Tls, expect: &str) {
    let config = server_config(&issued, None);
    let (port, server) = listen(move |stream| serve(Bare(accept(config, stream))));
    let error = connect_error(endpoint("mqtts", host, port, tls)).await;
    assert_eq!(error.to_string(), format!("cannot reach mqtts://{host}:{port}: {expect}"));
    server.join().unwrap();
}

#[tokio::test]
async fn a_broker_that_cannot_be_trusted_is_not_spoken_to() {
    let (ours, theirs, namesake) = (Authority::new(), Authority::named("another"), Authority::new());
    let unknown = "the broker's certificate comes from an unknown issuer; name that issuer's certificate with a CA file (ca_file)";
    check(theirs.issue("localhost", Valid::Now), "localhost", ours.trusted(), unknown).await;
    check(namesake.issue("localhost", Valid::Now), "localhost", ours.trusted(), unknown).await;
    let expired = "the broker's certificate has expired; renew it, or check this machine's clock";
    check(ours.issue("localhost", Valid::Once), "localhost", ours.trusted(), expired).await;
    let other =
        "the broker's certificate is not for localhost but for broker.example; dial a name that it is for";
    check(ours.issue("broker.example", Valid::Now), "localhost", ours.trusted(), other).await;
    let address =
        "the broker's certificate is not for 127.0.0.1 but for localhost; dial a name that it is for";
    check(ours.issue("localhost", Valid::Now), "127.0.0.1", ours.trusted(), address).await;
    let own = Issued { certificate: ours.issuer.pem(), key: ours.issuer.key().serialize_pem() };
    let authority = "the broker's certificate is marked as an authority's (CA:TRUE), which a server's may not be; make one with basicConstraints=CA:FALSE";
    check(own, "localhost", ours.trusted(), authority).await;
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_a_certificate_of_our_own_making() {
    let authority = Authority::new();
    let config = server_config(&authority.issue("localhost", Valid::Now), None);
    let (port, server) = listen(move |stream| serve(Bare(accept(config, stream))));
    let error = connect_error(endpoint("mqtts", "localhost", port, Tls::default())).await.to_string();
    assert!(error.contains("(ca_file)"), "{error}");
    server.join().unwrap();
}

/// What the client makes of files, with a server that would be trusted.
async fn check_files(tls: Tls, expect: &str) {
    let (port, server) = listen(drop);
    let error = connect_error(endpoint("mqtts", "localhost", port, tls)).await.to_string();
    assert!(error.contains(expect), "{error}\n{expect}");
    server.join().unwrap();
}

#[tokio::test]
async fn files_that_are_not_usable_are_named() {
    let authority = Authority::new();
    let absent = authority.directory.path().join("absent.pem");
    let roots = Roots::CaFile(absent.clone());
    let expect = format!("cannot read the CA file {}: No such file", absent.display());
    check_files(Tls { roots, identity: None }, &expect).await;

    let prose = authority.file("prose.pem", "this is no certificate");
    let roots = Roots::CaFile(prose.clone());
    let expect = format!("the CA file {} is not usable: there is no certificate in it", prose.display());
    check_files(Tls { roots, identity: None }, &expect).await;

    let (one, two) = (authority.issue("one", Valid::Now), authority.issue("two", Valid::Now));
    let mixed = authority.identity(&Issued { key: two.key, ..one.clone() });
    check_files(Tls { identity: mixed, ..authority.trusted() }, "does not match the certificate").await;

    let key = prose.clone();
    let keyless = authority.identity(&one).map(|identity| Identity { key, ..identity });
    check_files(Tls { identity: keyless, ..authority.trusted() }, "the key ").await;
}

#[tokio::test]
async fn a_port_without_tls_is_recognised() {
    let authority = Authority::new();
    let (port, server) = listen(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = connect_error(endpoint("mqtts", "localhost", port, authority.trusted())).await.to_string();
    assert!(error.ends_with("is this port for TLS?"), "{error}");
    server.join().unwrap();
}

#[tokio::test]
async fn what_the_kernel_does_not_take_is_held_and_sent_later() {
    let authority = Authority::new();
    let config = server_config(&authority.issue("localhost", Valid::Now), None);
    let (release, released) = std::sync::mpsc::channel();
    let (port, server) = listen(move |stream| {
        let mut stream = accept(config, stream);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        answer_when_all_is_there(Bare(stream), &released);
    });
    a_full_socket_loses_nothing(endpoint("mqtts", "localhost", port, authority.trusted()), release).await;
    server.join().unwrap();
}

/// TLS 1.3 servers send session tickets unasked: those are no answer.
#[tokio::test]
async fn only_bytes_of_mqtt_are_waiting_bytes() {
    let authority = Authority::new();
    let config = server_config(&authority.issue("localhost", Valid::Now), None);
    let (port, server) = listen(move |stream| {
        let mut stream = accept(config, stream);
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(&bytes_of(&Packet::Pingresp)).unwrap();
        while stream.read(&mut [0; 16]).is_ok_and(|bytes| bytes > 0) {}
    });
    let endpoint = endpoint("mqtts", "localhost", port, authority.trusted());
    let mut connection = Connection::dial(&endpoint, LIMIT, Version::V5_0, 1024, 1, None).await.unwrap();
    connection.queue(&Packet::Pingreq).unwrap();
    connection.flush().unwrap();
    assert!(connection.bytes_waiting().await.unwrap());
    assert!(connection.bytes_waiting().await.unwrap(), "it was left there");
    let mut packets = Vec::new();
    assert_eq!(connection.read(&mut packets).unwrap(), Filled::Open);
    assert_eq!(packets, [Packet::Pingresp]);
    connection.close(Closing::Fin).await;
    server.join().unwrap();
}

#[tokio::test]
async fn a_cut_connection_ends_as_it_was_told_to() {
    for closing in [Closing::Fin, Closing::Rst] {
        let authority = Authority::new();
        let config = server_config(&authority.issue("localhost", Valid::Now), None);
        let (port, server) = listen(move |stream| {
            let mut stream = accept(config, stream);
            let connect = stream.read(&mut [0; 256]).unwrap();
            assert!(connect > 0);
            let connack = [0x20, 3, 0, 0, 0];
            stream.write_all(&connack).unwrap();
            let end = stream.read(&mut [0; 256]);
            match closing {
                Closing::Fin => assert_eq!(end.unwrap(), 0, "close_notify"),
                Closing::Rst => assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset),
            }
        });
        let (client, mut events) =
            Client::start(settings(endpoint("mqtts", "localhost", port, authority.trusted())));
        client.connect().await.unwrap();
        recv(&mut events).await;
        client.cut(closing).await;
        assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByUs(closing), error: None });
        server.join().unwrap();
    }
}
