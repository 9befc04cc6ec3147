//! TLS, WebSocket and a Unix socket, each ended by a relay before the embedded broker, which speaks plain TCP.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// How long each direction is listened to in turn.
const TURN: Duration = Duration::from_millis(2);

/// The side of a relay that the program talks to.
trait Front {
    /// What came within a turn, maybe nothing; an error at the end.
    fn receive(&mut self) -> io::Result<Vec<u8>>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
}

struct Stream<S>(S);

impl<S: Read + Write> Front for Stream<S> {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        some(&mut self.0)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).and_then(|()| self.0.flush())
    }
}

impl<S: Read + Write> Front for WebSocket<S> {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self.read() {
            Ok(Message::Binary(payload)) => Ok(payload.to_vec()),
            Ok(_) => Ok(Vec::new()),
            Err(tungstenite::Error::Io(error)) if is_idle(&error) => Ok(Vec::new()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        WebSocket::send(self, Message::Binary(bytes.to_vec().into())).map_err(io::Error::other)
    }
}

fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn some(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; 64 << 10];
    match stream.read(&mut chunk) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(chunk[..length].to_vec()),
        Err(error) if is_idle(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Carries bytes both ways until one side ends.
fn relay(mut front: impl Front, broker: SocketAddr) -> io::Result<()> {
    let mut back = TcpStream::connect(broker)?;
    back.set_read_timeout(Some(TURN))?;
    loop {
        back.write_all(&front.receive()?)?;
        let answer = some(&mut back)?;
        if !answer.is_empty() {
            front.send(&answer)?;
        }
    }
}

/// Relays every connection to a port of its own.
fn listen<F: Front>(
    broker: SocketAddr,
    accept: impl Fn(TcpStream) -> io::Result<F> + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let accept = Arc::new(accept);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let accept = Arc::clone(&accept);
            std::thread::spawn(move || accept(stream).and_then(|front| relay(front, broker)));
        }
    });
    port
}

fn with_turns(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(TURN))?;
    Ok(stream)
}

/// A Unix socket at `path`.
pub(crate) fn unix(broker: SocketAddr, path: &Path) {
    let listener = UnixListener::bind(path).expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let relayed = move |stream: UnixStream| {
                stream.set_read_timeout(Some(TURN))?;
                relay(Stream(stream), broker)
            };
            std::thread::spawn(move || relayed(stream));
        }
    });
}

/// A WebSocket at `/mqtt` of the port that it answers with.
#[expect(clippy::result_large_err, reason = "the callback's signature is the library's")]
pub(crate) fn websocket(broker: SocketAddr) -> u16 {
    listen(broker, |stream| {
        let subprotocol = |request: &Request, mut response: Response| {
            assert_eq!(request.uri(), "/mqtt");
            response.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().expect("a value"));
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, subprotocol)
            .map_err(|error| io::Error::other(error.to_string()))?;
        socket.get_mut().set_read_timeout(Some(TURN))?;
        Ok(socket)
    })
}

/// TLS at the port that it answers with, for clients with a certificate of a new authority. Puts into the directory: `ca`, the
/// authority; `cert` and `key`, a client's; `stranger`, another authority.
pub(crate) fn tls(broker: SocketAddr, directory: &Path) -> u16 {
    let authority = Authority::new("ours");
    let config = authority.server();
    let (certificate, key) = authority.issue("client");
    let stranger = Authority::new("somebody else").0.pem();
    for (name, text) in
        [("ca", &authority.0.pem()), ("cert", &certificate), ("key", &key), ("stranger", &stranger)]
    {
        fs::write(directory.join(name), text).expect("written");
    }
    listen(broker, move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.sock = with_turns(stream.sock)?;
        Ok(Stream(stream))
    })
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// Certificate and key as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }

    /// A server that asks for a certificate of this authority.
    fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let (certificate, key) = self.issue("127.0.0.1");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_client_cert_verifier(verifier.build().expect("roots"));
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        Arc::new(config.with_single_cert(chain, key).expect("they match"))
    }
}
