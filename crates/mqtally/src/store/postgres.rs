//! A store in a PostgreSQL database, which several processes share.
//!
//! A [`Url`] names the server, the database and, with `schema=`, the schema in which the store's tables are; whoever names
//! the same three shares the store. Everything else, such as version and access, is checked when it is opened.
//!
//! `sslmode=require` encrypts the connection, and checks whose certificate the server has. Without it nothing is encrypted, and
//! who uses such a store over a network is told so, unless `sslmode=disable` says that it is meant.

mod protection;

use super::StoreError;
use crate::tls::TlsError;
use fluent_uri::pct_enc::encoder::Query;
use fluent_uri::pct_enc::{DecodedChunk, EStr};
use protection::{Asked, Connector, Protection};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// Schema of a store whose URL names none.
pub const SCHEMA: &str = "mqtally";
/// The advisory lock ("mqty") under which tables are made; two that make one table at once fail. Who has waited for it would
/// not see what the other one made before it has looked into a table.
pub(crate) const LOCK_TABLES: &str =
    "SELECT pg_advisory_xact_lock(1836151929, 0); SELECT FROM pg_class LIMIT 0";
/// Oldest server that is known to do what the statements ask for.
const SERVER_VERSION_MIN: u32 = 150_000;
/// Where Debian's, Red Hat's and the project's own packages put the server's socket.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
/// What to say of a connection that [is exposed](Url::is_exposed).
pub(crate) const EXPOSED: &str = "the connection to the database is not encrypted: add sslmode=require to its URL, or \
                                  sslmode=disable where nobody can listen";
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How soon either side notices that the other's machine is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Where a store or a table is: `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?schema=NAME][&table=NAME]`.
///
/// `HOST` may be left out for the local socket, or be given as `?host=/DIRECTORY`. Shown without its password.
///
/// `sslmode=require` (or `verify-ca`, `verify-full`, which mean the same here) is TLS, with a certificate of the server that is for
/// `HOST` and that the system's authorities vouch for, or those in `sslrootcert=FILE`. `sslcert=FILE` and `sslkey=FILE` are
/// ours. A local socket is never encrypted.
///
/// ```
/// use mqtally::store::postgres::Url;
/// let url: Url = "postgres://app:secret@db/factory?schema=line_7".parse()?;
/// assert_eq!((url.schema(), url.to_string().as_str()), ("line_7", "postgres://app@db/factory?schema=line_7"));
/// # Ok::<(), mqtally::store::postgres::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    config: Box<Config>,
    protection: Protection,
    schema: Option<String>,
    table: Option<String>,
    shown: String,
}

/// Why a text is no [`Url`]. The text may hold a password and is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It cannot be read.
    #[error("the database's URL cannot be read ({0}); write postgres://USER@HOST/DATABASE")]
    Syntax(String),
    /// It leaves to the server whether the connection is encrypted, or says nothing that is known.
    #[error(
        "sslmode={0} does not say whether the connection to the database is encrypted; use require or disable"
    )]
    Mode(String),
    /// A file for TLS, without TLS.
    #[error("the database's URL names a file for TLS, and asks for none; add sslmode=require")]
    FilesWithoutTls,
    /// A certificate without its key, or the other way round.
    #[error("the database's URL has sslcert without sslkey, or sslkey without sslcert; give both")]
    HalfIdentity,
    /// A name that cannot be one.
    #[error("{0:?} cannot be a {1}; use letters, digits and _, at most 63")]
    Name(String, &'static str),
}

/// What is wrong with a shared store.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No connection.
    #[error("cannot be reached ({0}); check host and port, and that the server runs")]
    Unreachable(String),
    /// No TLS.
    #[error(
        "{0}; check sslmode and sslrootcert, and that the server's certificate is for the host in the URL"
    )]
    Unprotected(String),
    /// The server has no such database.
    #[error("the server says: {0}; make it with createdb, or name another")]
    NoDatabase(String),
    /// The server does not let us in, or not do what is needed.
    #[error("the server says: {0}; check the user, the password, pg_hba.conf, and what the user may do")]
    Denied(String),
    /// The server is too old.
    #[error("the server is PostgreSQL {0}; 15 or newer is needed")]
    OldServer(String),
    /// Topics and keys are UTF-8.
    #[error("the database's encoding is {0}; make one with createdb --encoding=UTF8 --template=template0")]
    Encoding(String),
    /// The schema holds something else.
    #[error("its schema {0:?} is no inbox of mqtally; it was left as it is, name another with ?schema=NAME")]
    Foreign(String),
    /// There is no inbox.
    #[error(
        "it has no inbox in the schema {0:?}; start 'mqtally sub' on it, or name another with ?schema=NAME"
    )]
    Missing(String),
    /// A newer program made it.
    #[error("has format {found}, this program reads up to {supported}; use the newer program")]
    Newer {
        /// Its format version.
        found: i32,
        /// The newest that is understood.
        supported: i32,
    },
    /// An older program made it, in a form that this one does not read.
    #[error(
        "has format {found}, this program reads format {expected}; let the program that made it work it off, or name another \
         with ?schema=NAME"
    )]
    OlderFormat {
        /// Its format version.
        found: i32,
        /// The format version that this program reads.
        expected: i32,
    },
    /// Another process is this member.
    #[error("another process works on it as {0:?}; stop that one, or give each its own client id")]
    InUse(String),
    /// Anything else, in the server's words.
    #[error("{0}")]
    Failed(String),
}

impl Url {
    /// Whether a text means a database of this kind rather than a file.
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// The schema with the store's tables.
    pub fn schema(&self) -> &str {
        self.schema.as_deref().unwrap_or(SCHEMA)
    }

    /// The schema, where the URL names one.
    pub fn given_schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The table that a handler writes to.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// Whether anybody on the way can read and change what is sent, and nobody said that this is meant.
    pub fn is_exposed(&self) -> bool {
        let is_far = |host: &Host| match host {
            Host::Tcp(name) => {
                name != "localhost" && !name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
            Host::Unix(_) => false,
        };
        self.protection == Protection::Unsaid && self.config.get_hosts().iter().any(is_far)
    }

    /// Whether both lead to one database, as one user. Two names of one server count as two.
    pub fn is_same_database(&self, other: &Self) -> bool {
        let place = |url: &Self| {
            (url.config.get_hosts().to_vec(), url.port(), url.database().to_owned(), url.user().to_owned())
        };
        place(self) == place(other)
    }

    fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(5_432)
    }

    fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if !Self::is_meant_by(text) {
            return Err(UrlError::Syntax("another scheme".into()));
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut schema, mut table, mut asked, mut others) = (None, None, Asked::default(), Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("schema", name) => schema = Some(checked(name, "schema")?),
                ("table", name) => table = Some(checked(name, "table")?),
                (name, value) if asked.take(name, decoded(value).unwrap_or_default()) => {}
                _ => others.push(parameter),
            }
        }
        let rest = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        let config = format!("{base}{rest}").parse::<Config>();
        let mut config = config.map_err(|error| UrlError::Syntax(said(&error)))?;
        let protection = asked.protection()?;
        complete(&mut config, &protection);
        Ok(Self { config: Box::new(config), protection, schema, table, shown: without_password(text) })
    }
}

/// What the URL leaves open.
fn complete(config: &mut Config, protection: &Protection) {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host_path(SOCKET_DIRECTORY);
    }
    if config.get_application_name().is_none() {
        config.application_name("mqtally");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIME_MAX);
    }
    if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_))) {
        config.keepalives_idle(SILENCE_MAX / 3).keepalives_interval(SILENCE_MAX / 3).keepalives_retries(3);
        config.tcp_user_timeout(SILENCE_MAX);
    }
    let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    let encrypts =
        matches!(protection, Protection::Tls(_)) && !(is_local && config.get_hostaddrs().is_empty());
    config.ssl_mode(if encrypts { SslMode::Require } else { SslMode::Disable });
}

fn checked(encoded: &str, what: &'static str) -> Result<String, UrlError> {
    let name = decoded(encoded).unwrap_or_default();
    if name.is_empty() || name.len() > 63 || name.contains('\0') || name.starts_with("pg_") {
        return Err(UrlError::Name(name, what));
    }
    Ok(name)
}

fn decoded(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    for chunk in EStr::<Query>::new(encoded)?.decode() {
        match chunk {
            DecodedChunk::Unencoded(text) => bytes.extend_from_slice(text.as_bytes()),
            DecodedChunk::PctDecoded(byte) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Passwords stand before the `@`, or in a parameter.
fn without_password(text: &str) -> String {
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let shown = match base.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, place)) => {
                format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default())
            }
            None => base.to_owned(),
        },
        None => base.to_owned(),
    };
    let kept: Vec<_> =
        query.split('&').filter(|part| !part.is_empty() && !part.starts_with("password=")).collect();
    if kept.is_empty() { shown } else { format!("{shown}?{}", kept.join("&")) }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Like `Display`: a password has no business in a log.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl StoreError {
    /// The error for `source` at `url`, told apart by what the user can do about it.
    pub(crate) fn from_postgres(url: &Url, source: &tokio_postgres::Error) -> Self {
        let text = said(source);
        let problem = match source.code() {
            Some(&SqlState::INVALID_CATALOG_NAME) => Problem::NoDatabase(text),
            Some(
                &SqlState::INVALID_PASSWORD
                | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                | &SqlState::INSUFFICIENT_PRIVILEGE,
            ) => Problem::Denied(text),
            Some(_) => Problem::Failed(text),
            // The driver has no other way to tell.
            None if text.starts_with("error performing TLS handshake") => Problem::Unprotected(text),
            None => Problem::Unreachable(text),
        };
        Self::postgres(url, problem)
    }

    pub(crate) fn postgres(url: &Url, problem: Problem) -> Self {
        Self::Postgres { store: url.to_string(), problem }
    }
}

/// An error in the server's own words where it has some.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(said), _) => match said.detail() {
            Some(detail) => format!("{} ({detail})", said.message()),
            None => said.message().to_owned(),
        },
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Connects, and checks that the server will do. The current runtime drives the connection.
pub(crate) async fn connect(url: &Url) -> Result<Client, StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::from_postgres(url, &error);
    let client = match &url.protection {
        Protection::Tls(tls) => {
            let unusable =
                |error: TlsError| StoreError::postgres(url, Problem::Unprotected(error.to_string()));
            let connector = Connector::new(tls).map_err(unusable)?;
            let (client, connection) = url.config.connect(connector).await.map_err(failed)?;
            tokio::spawn(connection);
            client
        }
        Protection::Unsaid | Protection::Plain => {
            let (client, connection) = url.config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(connection);
            client
        }
    };
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
               current_setting('server_encoding')";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    if row.get::<_, i32>(0).cast_unsigned() < SERVER_VERSION_MIN {
        return Err(StoreError::postgres(url, Problem::OldServer(row.get(1))));
    }
    match row.get(2) {
        "UTF8" => Ok(client),
        other => Err(StoreError::postgres(url, Problem::Encoding(other.to_owned()))),
    }
}

/// `name` as SQL, whatever it holds.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_no_password_and_keeps_its_own_parameters_from_the_driver() {
        let check = |text: &str, expect: (&str, Option<&str>, &str)| {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.schema(), url.table(), url.to_string().as_str()), expect);
            assert!(!format!("{url:?}").contains("secret"));
        };
        check("postgres://u:secret@h/d", ("mqtally", None, "postgres://u@h/d"));
        check(
            "postgresql:///d?host=/tmp&table=a%20b",
            ("mqtally", Some("a b"), "postgresql:///d?host=/tmp&table=a%20b"),
        );
        check(
            "postgres://u@h/d?password=secret&schema=s&sslmode=require",
            ("s", None, "postgres://u@h/d?schema=s&sslmode=require"),
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_without_repeating_the_password() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(expect) && !error.contains("secret"), "{error}");
        };
        check("postgres://u:secret@h/d?sslmode=prefer", "use require or disable");
        check("postgres://u:secret@h/d?sslmode=", "use require or disable");
        check("postgres://u:secret@h/d?sslrootcert=ca.pem", "add sslmode=require");
        check("postgres://u:secret@h/d?sslmode=disable&sslrootcert=ca.pem", "add sslmode=require");
        check("postgres://u:secret@h/d?sslmode=require&sslcert=c.pem", "give both");
        check("postgres://u:secret@h:port/d", "cannot be read");
        check("postgres://u:secret@h/d?schema=", "cannot be a schema");
        check("postgres://u:secret@h/d?table=pg_class", "cannot be a table");
        check("postgres://u:secret@h/d?nonsense=1", "cannot be read");
        check("mysql://u:secret@h/d", "another scheme");
    }

    #[test]
    fn what_is_said_decides_who_can_listen() {
        let check = |text: &str, mode: SslMode, exposed: bool| {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.config.get_ssl_mode(), url.is_exposed()), (mode, exposed), "{text}");
        };
        check("postgres://u@db.example/d", SslMode::Disable, true);
        check("postgres://u@10.0.0.1/d", SslMode::Disable, true);
        check("postgres://u@db.example/d?sslmode=disable", SslMode::Disable, false);
        check("postgres://u@localhost/d", SslMode::Disable, false);
        check("postgres://u@127.0.0.1/d", SslMode::Disable, false);
        check("postgres://u@/d", SslMode::Disable, false);
        check("postgres://u@/d?sslmode=require", SslMode::Disable, false);
        for mode in ["require", "verify-ca", "verify-full"] {
            check(&format!("postgres://u@db.example/d?sslmode={mode}"), SslMode::Require, false);
        }
        check("postgres://u@h/d?sslmode=require&sslrootcert=%2Fetc%2Fca.pem", SslMode::Require, false);
    }

    #[test]
    fn one_database_is_known_by_host_port_name_and_user() {
        let same = |a: &str, b: &str| a.parse::<Url>().unwrap().is_same_database(&b.parse().unwrap());
        assert!(same("postgres://u:x@h/d", "postgresql://u@h:5432/d?table=t&schema=other"));
        assert!(same("postgres://u@h", "postgres://u@h/u"));
        assert!(!same("postgres://u@h/d", "postgres://u@h/e"));
        assert!(!same("postgres://u@h/d", "postgres://v@h/d"));
        assert!(!same("postgres://u@h/d", "postgres://u@h:5433/d"));
    }
}
