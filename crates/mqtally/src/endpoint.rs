//! Where a broker is: a URL.

use fluent_uri::Uri;
use fluent_uri::component::Host;
use std::fmt;
use std::str::FromStr;

/// Port of MQTT over TCP where the URL gives none.
const PORT: u16 = 1883;

/// A broker's address, and the user name and password to give it, from a URL such as
/// `mqtt://user:secret@broker.example:1883`.
///
/// It prints without the password. `tcp://` means the same as `mqtt://`.
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
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<String>,
}

/// Why a URL names no broker that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is not a URL.
    #[error("not a broker URL: {0}; write mqtt://HOST:PORT")]
    Syntax(String),
    /// A transport that exists, and that is not there yet.
    #[error("{0}:// is not supported yet; use mqtt://HOST:PORT (plain TCP)")]
    NotSupportedYet(String),
    /// No transport for MQTT.
    #[error("{0}:// is no transport for MQTT; use mqtt://HOST:PORT")]
    UnknownScheme(String),
    /// Nothing to dial.
    #[error("the broker URL has no host; write mqtt://HOST:PORT")]
    NoHost,
    /// Not a number from 1 to 65535.
    #[error("the broker URL has port {0:?}; use a number from 1 to 65535")]
    Port(String),
    /// A percent-encoded part is not UTF-8.
    #[error("the {0} in the broker URL is not UTF-8 after percent-decoding; encode its UTF-8 bytes")]
    NotUtf8(&'static str),
    /// More than a broker's address.
    #[error("the broker URL goes on after the address ({0:?}); stop after HOST:PORT")]
    Superfluous(String),
}

impl Endpoint {
    /// A broker at `host` (name or address, IPv6 without brackets) and `port`, without credentials.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, username: None, password: None }
    }

    /// The same broker with this password, for one that does not stand in the URL.
    #[must_use]
    pub fn with_password(self, password: impl Into<String>) -> Self {
        Self { password: Some(password.into()), ..self }
    }

    /// Name or address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User name, decoded.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Password, decoded.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        let uri = Uri::parse(url).map_err(|error| EndpointError::Syntax(error.to_string()))?;
        check_scheme(&uri.scheme().as_str().to_ascii_lowercase())?;
        let authority =
            uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(EndpointError::NoHost)?;
        check_rest(&uri)?;
        let (username, password) = match authority.userinfo().map(fluent_uri::pct_enc::EStr::as_str) {
            None => (None, None),
            Some(userinfo) => credentials(userinfo)?,
        };
        let host = match authority.host_parsed() {
            Host::RegName(_) => decode(authority.host(), "host")?,
            _ => authority.host().trim_matches(['[', ']']).to_owned(),
        };
        Ok(Self {
            host,
            port: port(authority.port().map(fluent_uri::pct_enc::EStr::as_str))?,
            username,
            password,
        })
    }
}

fn check_scheme(scheme: &str) -> Result<(), EndpointError> {
    match scheme {
        "mqtt" | "tcp" => Ok(()),
        "mqtts" | "ssl" | "tls" | "ws" | "wss" | "unix" => {
            Err(EndpointError::NotSupportedYet(scheme.to_owned()))
        }
        _ => Err(EndpointError::UnknownScheme(scheme.to_owned())),
    }
}

fn check_rest(uri: &Uri<&str>) -> Result<(), EndpointError> {
    let path = Some(uri.path().as_str()).filter(|path| !matches!(*path, "" | "/"));
    let rest = path
        .or(uri.query().map(fluent_uri::pct_enc::EStr::as_str))
        .or(uri.fragment().map(fluent_uri::pct_enc::EStr::as_str));
    rest.map_or(Ok(()), |rest| Err(EndpointError::Superfluous(rest.to_owned())))
}

fn port(port: Option<&str>) -> Result<u16, EndpointError> {
    match port {
        None | Some("") => Ok(PORT),
        Some(digits) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| EndpointError::Port(digits.to_owned()))
        }
    }
}

fn credentials(userinfo: &str) -> Result<(Option<String>, Option<String>), EndpointError> {
    let (username, password) = match userinfo.split_once(':') {
        Some((username, password)) => (username, Some(decode(password, "password")?)),
        None => (userinfo, None),
    };
    let username =
        Some(decode(username, "user name")?).filter(|name| !(name.is_empty() && password.is_none()));
    Ok((username, password))
}

/// The URL's parser has checked that two hexadecimal digits follow every `%`.
fn decode(encoded: &str, part: &'static str) -> Result<String, EndpointError> {
    let mut chunks = encoded.split('%');
    let mut bytes = chunks.next().unwrap_or_default().as_bytes().to_vec();
    for chunk in chunks {
        let (digits, rest) = chunk.split_at_checked(2).ok_or(EndpointError::NotUtf8(part))?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| EndpointError::NotUtf8(part))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| EndpointError::NotUtf8(part))
}

/// As a URL, without the password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mqtt://")?;
        if let Some(username) = &self.username {
            write_encoded(f, username)?;
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if self.username.is_some() || self.password.is_some() {
            f.write_str("@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Like `Display`: a password has no business in a log.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

fn write_encoded(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))?;
            }
            _ => write!(f, "%{byte:02X}")?,
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
    fn a_transport_that_is_not_there_is_named() {
        for scheme in ["mqtts", "ws", "wss", "unix"] {
            check(
                &format!("{scheme}://broker"),
                &EndpointError::NotSupportedYet(scheme.to_owned()).to_string(),
            );
        }
        check("http://broker", &EndpointError::UnknownScheme("http".to_owned()).to_string());
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
