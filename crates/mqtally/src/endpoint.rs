//! Where a broker is, and how to reach it: a URL.

use crate::tls::{Tls, TlsError};
use fluent_uri::Uri;
use fluent_uri::component::{Authority, Host};
use fluent_uri::pct_enc::EStr;
use std::fmt;
use std::str::FromStr;

/// Path of a WebSocket URL that gives none.
const WEBSOCKET_PATH: &str = "/mqtt";

/// What carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `mqtt://` or `tcp://`: plain TCP; port 1883 where the URL gives none.
    Tcp,
    /// `mqtts://`, `ssl://` or `tls://`: TLS; port 8883.
    Tls,
    /// `ws://`: binary frames of a WebSocket with subprotocol `mqtt` [MQTT-6.0.0-1..4]; port 80, path `/mqtt`.
    WebSocket,
    /// `wss://`: the same over TLS; port 443, path `/mqtt`.
    WebSocketTls,
    /// `unix:/PATH`: a stream socket in the file system.
    Unix,
}

/// A broker's address, and the user name and password to give it, from a URL such as
/// `mqtts://user:secret@broker.example:8883`, `ws://broker.example/mqtt` or `unix:/run/broker.sock`.
///
/// It prints without the password and without the query of a WebSocket URL, where signatures and tokens stand. For
/// the schemes see [`Transport`].
///
/// ```
/// use mqtally::endpoint::Endpoint;
/// let endpoint: Endpoint = "mqtt://plant%2F7:s%40fe@[::1]".parse()?;
/// assert_eq!((endpoint.host(), endpoint.port()), ("::1", 1883));
/// assert_eq!((endpoint.username(), endpoint.password()), (Some("plant/7"), Some("s@fe")));
/// assert_eq!(endpoint.to_string(), "mqtt://plant%2F7:***@[::1]:1883");
/// # Ok::<(), mqtally::endpoint::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    transport: Transport,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
    username: Option<String>,
    password: Option<String>,
    tls: Tls,
}

/// Why a URL names no broker that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is not a URL.
    #[error("not a broker URL: {0}; write mqtt://HOST:PORT")]
    Syntax(String),
    /// No transport for MQTT.
    #[error("{0}:// is no transport for MQTT; use mqtt://, mqtts://, ws://, wss:// or unix:/PATH")]
    UnknownScheme(String),
    /// Nothing to dial.
    #[error("the broker URL has no host; write mqtt://HOST:PORT")]
    NoHost,
    /// A Unix socket is a path on this machine.
    #[error("the broker URL names no Unix socket; write unix:/PATH, from the root and without a host")]
    NoSocket,
    /// Not a number from 1 to 65535.
    #[error("the broker URL has port {0:?}; use a number from 1 to 65535")]
    Port(String),
    /// A percent-encoded part is not UTF-8.
    #[error("the {0} in the broker URL is not UTF-8 after percent-decoding; encode its UTF-8 bytes")]
    NotUtf8(&'static str),
    /// More than a broker's address.
    #[error("the broker URL goes on after the address ({0:?}); stop after it")]
    Superfluous(String),
}

impl Endpoint {
    /// A broker on plain TCP at `host` (name or address, IPv6 without brackets) and `port`, without credentials.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, ..Self::empty(Transport::Tcp) }
    }

    /// The same broker, where clients log in by this name.
    #[must_use]
    pub fn with_username(self, username: impl Into<String>) -> Self {
        Self { username: Some(username.into()), ..self }
    }

    /// The same credentials for plain TCP at another address, where something stands in front of the broker.
    #[must_use]
    pub fn reached_at(&self, host: impl Into<String>, port: u16) -> Self {
        let (username, password) = (self.username.clone(), self.password.clone());
        Self { username, password, ..Self::new(host, port) }
    }

    /// The same broker with this password, for one that does not stand in the URL.
    #[must_use]
    pub fn with_password(self, password: impl Into<String>) -> Self {
        Self { password: Some(password.into()), ..self }
    }

    /// The same broker with this trust and identity, of use on `mqtts://` and `wss://`. Without it the system's roots
    /// are trusted and no client certificate is shown.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// What carries the packets.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Name or address, an IPv6 address without brackets; empty for a Unix socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket's path, or the path that a WebSocket asks for (percent-encoded); otherwise empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// User name, decoded.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Password, decoded.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Whom to trust and who we are, where the transport is TLS.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Reads the files of [`Self::tls`] as each dial does, so that what is wrong with them shows before the first attempt: no
    /// further one would change it. Blocks on them.
    ///
    /// # Errors
    /// Also where there are such files and the transport is not encrypted: whoever names them does not want to be heard.
    pub fn check_tls(&self) -> Result<(), TlsError> {
        match (self.tls.names_files(), self.transport.is_encrypted()) {
            (false, _) => Ok(()),
            (true, false) => Err(TlsError::Plain(self.transport.scheme())),
            (true, true) => self.tls.check(),
        }
    }

    /// The URL of the WebSocket, with its query and without credentials.
    pub(crate) fn websocket_url(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}://{}{}{query}", self.transport.scheme(), self.authority(), self.path)
    }

    fn empty(transport: Transport) -> Self {
        Self {
            transport,
            host: String::new(),
            port: 0,
            path: String::new(),
            query: None,
            username: None,
            password: None,
            tls: Tls::default(),
        }
    }

    /// Host and port as they stand in a URL.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Transport {
    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "mqtt" | "tcp" => Some(Self::Tcp),
            "mqtts" | "ssl" | "tls" => Some(Self::Tls),
            "ws" => Some(Self::WebSocket),
            "wss" => Some(Self::WebSocketTls),
            "unix" => Some(Self::Unix),
            _ => None,
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::WebSocket => "ws",
            Self::WebSocketTls => "wss",
            Self::Unix => "unix",
        }
    }

    /// 0 for Unix sockets, which have none.
    fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::WebSocket => 80,
            Self::WebSocketTls => 443,
            Self::Unix => 0,
        }
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketTls)
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::WebSocketTls)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        let uri = Uri::parse(url).map_err(|error| EndpointError::Syntax(error.to_string()))?;
        let scheme = uri.scheme().as_str().to_ascii_lowercase();
        let transport = Transport::of_scheme(&scheme).ok_or(EndpointError::UnknownScheme(scheme))?;
        let place = match transport {
            Transport::Unix => unix(&uri)?,
            _ => network(&uri, transport)?,
        };
        let (username, password) = credentials(uri.authority())?;
        Ok(Self { username, password, ..place })
    }
}

fn unix(uri: &Uri<&str>) -> Result<Endpoint, EndpointError> {
    let elsewhere = |authority: Authority<'_>| !authority.host().is_empty() || authority.port().is_some();
    let path = decode(uri.path().as_str(), "path")?;
    if !path.starts_with('/') || path.ends_with('/') || uri.authority().is_some_and(elsewhere) {
        return Err(EndpointError::NoSocket);
    }
    nothing_more(uri.query())?;
    nothing_more(uri.fragment())?;
    Ok(Endpoint { path, ..Endpoint::empty(Transport::Unix) })
}

fn network(uri: &Uri<&str>, transport: Transport) -> Result<Endpoint, EndpointError> {
    let authority =
        uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(EndpointError::NoHost)?;
    let given = Some(uri.path()).filter(|path| !matches!(path.as_str(), "" | "/"));
    let (path, query) = if transport.is_websocket() {
        let path = given.map_or(WEBSOCKET_PATH, EStr::as_str).to_owned();
        (path, uri.query().map(|query| query.as_str().to_owned()))
    } else {
        nothing_more(given)?;
        nothing_more(uri.query())?;
        (String::new(), None)
    };
    nothing_more(uri.fragment())?;
    let host = match authority.host_parsed() {
        Host::RegName(_) => decode(authority.host(), "host")?,
        _ => authority.host().trim_matches(['[', ']']).to_owned(),
    };
    let port = port(authority.port().map(EStr::as_str), transport)?;
    Ok(Endpoint { host, port, path, query, ..Endpoint::empty(transport) })
}

fn nothing_more<E: fluent_uri::pct_enc::Encoder>(rest: Option<&EStr<E>>) -> Result<(), EndpointError> {
    rest.map_or(Ok(()), |rest| Err(EndpointError::Superfluous(rest.as_str().to_owned())))
}

fn port(port: Option<&str>, transport: Transport) -> Result<u16, EndpointError> {
    match port {
        None | Some("") => Ok(transport.default_port()),
        Some(digits) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| EndpointError::Port(digits.to_owned()))
        }
    }
}

fn credentials(authority: Option<Authority<'_>>) -> Result<(Option<String>, Option<String>), EndpointError> {
    let userinfo = authority.and_then(|authority| authority.userinfo()).map(EStr::as_str);
    let Some(userinfo) = userinfo else { return Ok((None, None)) };
    let (username, password) = match userinfo.split_once(':') {
        Some((username, password)) => (username, Some(decode(password, "password")?)),
        None => (userinfo, None),
    };
    let username =
        Some(decode(username, "user name")?).filter(|name| !(name.is_empty() && password.is_none()));
    Ok((username, password))
}

/// The URL's parser has checked that two hexadecimal digits follow every `%`; elsewhere that is an error here.
pub(crate) fn decode(encoded: &str, part: &'static str) -> Result<String, EndpointError> {
    let mut chunks = encoded.split('%');
    let mut bytes = chunks.next().unwrap_or_default().as_bytes().to_vec();
    for chunk in chunks {
        let (digits, rest) = chunk.split_at_checked(2).ok_or(EndpointError::NotUtf8(part))?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| EndpointError::NotUtf8(part))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| EndpointError::NotUtf8(part))
}

/// As a URL, without the password and without a query.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_user = self.username.is_some() || self.password.is_some();
        let is_unix = self.transport == Transport::Unix;
        write!(f, "{}:{}", self.transport.scheme(), if is_unix && !has_user { "" } else { "//" })?;
        if let Some(username) = &self.username {
            write_encoded(f, username, "")?;
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if has_user {
            f.write_str("@")?;
        }
        match is_unix {
            true => write_encoded(f, &self.path, "/"),
            false => {
                write!(f, "{}{}{}", self.authority(), self.path, self.query.as_ref().map_or("", |_| "?***"))
            }
        }
    }
}

/// Like `Display`: a password has no business in a log.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// What is neither unreserved nor in `also` is percent-encoded.
fn write_encoded(f: &mut fmt::Formatter<'_>, text: &str, also: &str) -> fmt::Result {
    for byte in text.bytes() {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric() || "-._~".contains(character) || also.contains(character) {
            write!(f, "{character}")?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expect: &str) {
        let shown =
            url.parse::<Endpoint>().map_or_else(|error| error.to_string(), |endpoint| endpoint.to_string());
        assert_eq!(shown, expect, "{url}");
    }

    #[test]
    fn a_url_names_a_host_and_a_port() {
        check("mqtt://broker", "mqtt://broker:1883");
        check("mqtt://broker/", "mqtt://broker:1883");
        check("MQTT://broker:1884", "mqtt://broker:1884");
        check("tcp://127.0.0.1:2000", "mqtt://127.0.0.1:2000");
        check("mqtt://[::1]:2000", "mqtt://[::1]:2000");
    }

    #[test]
    fn a_password_is_never_printed() {
        check("mqtt://user:secret@broker", "mqtt://user:***@broker:1883");
        check("mqtt://:secret@broker", "mqtt://:***@broker:1883");
        let endpoint: Endpoint = "mqtt://user:secret@broker".parse().unwrap();
        assert!(!format!("{endpoint:?}").contains("secret"));
    }

    #[test]
    fn credentials_are_percent_decoded() {
        let endpoint: Endpoint = "mqtt://a%3Ab:c:d%20e@broker".parse().unwrap();
        assert_eq!((endpoint.username(), endpoint.password()), (Some("a:b"), Some("c:d e")));
        check("mqtt://%FF@broker", &EndpointError::NotUtf8("user name").to_string());
    }

    #[test]
    fn every_transport_has_its_port() {
        check("mqtts://broker", "mqtts://broker:8883");
        check("ssl://broker:1", "mqtts://broker:1");
        check("tls://broker", "mqtts://broker:8883");
        check("ws://broker", "ws://broker:80/mqtt");
        check("wss://u:p@[::1]/", "wss://u:***@[::1]:443/mqtt");
        check("http://broker", &EndpointError::UnknownScheme("http".to_owned()).to_string());
    }

    #[test]
    fn a_websocket_asks_for_the_path_and_the_query_of_its_url() {
        check("ws://broker/a%20b/c", "ws://broker:80/a%20b/c");
        check("wss://broker/mqtt?token=secret", "wss://broker:443/mqtt?***");
        let endpoint: Endpoint = "wss://user:pass@broker/mqtt?token=secret".parse().unwrap();
        assert!(!format!("{endpoint:?}").contains("secret"));
        assert_eq!(endpoint.websocket_url(), "wss://broker:443/mqtt?token=secret");
    }

    #[test]
    fn a_unix_socket_is_a_path() {
        check("unix:/run/broker.sock", "unix:/run/broker.sock");
        check("unix:///run/a%20b", "unix:/run/a%20b");
        check("unix://user:secret@/run/broker", "unix://user:***@/run/broker");
        let endpoint: Endpoint = "unix:/run/a%20b".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port(), endpoint.path()), ("", 0, "/run/a b"));
        for url in ["unix:", "unix:/", "unix:broker", "unix://host/run/broker", "unix:/run/"] {
            check(url, &EndpointError::NoSocket.to_string());
        }
        check("unix:/run/broker?x", &EndpointError::Superfluous("x".to_owned()).to_string());
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_way_out() {
        check("mqtt://", &EndpointError::NoHost.to_string());
        check("mqtt://:1883", &EndpointError::NoHost.to_string());
        check("mqtt://broker:0", &EndpointError::Port("0".to_owned()).to_string());
        check("mqtt://broker:70000", &EndpointError::Port("70000".to_owned()).to_string());
        check("mqtt://broker/topic", &EndpointError::Superfluous("/topic".to_owned()).to_string());
        check("mqtt://broker?x=1", &EndpointError::Superfluous("x=1".to_owned()).to_string());
        assert!(matches!("broker:1883".parse::<Endpoint>(), Err(EndpointError::UnknownScheme(_))));
        assert!(matches!("not a url".parse::<Endpoint>(), Err(EndpointError::Syntax(_))));
    }
}
