//! Handlers as they are typed, and which of them takes a topic.

use super::republish::{Republish, Republisher};
use super::{Handler, Kind, OpenError, Options, exec, jsonl, sqlite, stdio, webhook};
use crate::endpoint::EndpointError;
#[cfg(feature = "postgres")]
use crate::store::postgres;
use mqtally_proto::topic::{self, TopicError};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Every form, for messages.
#[cfg(not(feature = "postgres"))]
const FORMS: &str =
    "print, jsonl:FILE, exec:CMD, stdio:CMD, http(s)://URL, sqlite:FILE?table=NAME or mqtt(s)://HOST:PORT";
#[cfg(feature = "postgres")]
const FORMS: &str = "print, jsonl:FILE, exec:CMD, stdio:CMD, http(s)://URL, sqlite:FILE?table=NAME, \
                     postgres://USER@HOST/DATABASE?table=NAME or mqtt(s)://HOST:PORT";

/// A handler as it is typed.
///
/// ```
/// use mqtally::handler::Spec;
/// let spec: Spec = "sqlite:readings.db?table=readings".parse()?;
/// assert_eq!(spec, Spec::Sqlite { path: "readings.db".into(), table: "readings".into() });
/// # Ok::<(), mqtally::handler::SpecError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Spec {
    /// `print`: one line a message.
    Print,
    /// `jsonl:FILE`: one JSON object a line, appended.
    Jsonl(PathBuf),
    /// `exec:CMD`: the shell runs a command for each message.
    Exec(String),
    /// `stdio:CMD`: one program that the shell starts takes all messages, as lines of JSON.
    Stdio(String),
    /// `http://…` or `https://…`: a POST for each message.
    Webhook(String),
    /// `sqlite:FILE?table=NAME`: a row for each message.
    Sqlite {
        /// The database.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// `mqtt://…`, `mqtts://…`, `ws://…`, `wss://…` or `unix:/…`: published on another broker.
    Republish(Box<Republish>),
    /// `postgres://USER@HOST/DATABASE?table=NAME`: a row for each message.
    #[cfg(feature = "postgres")]
    Postgres(postgres::Url),
}

/// Why a handler or route cannot be understood. Each message says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No handler is called this.
    #[error("{0:?} is no handler; use {FORMS}")]
    Unknown(String),
    /// A handler that is not there yet.
    #[error("a {0}:// handler is not supported; use {FORMS}")]
    NotSupported(String),
    /// What follows the colon is missing.
    #[error("{0}: names no {1}; write {0}:{2}")]
    Missing(&'static str, &'static str, &'static str),
    /// `print:` takes nothing.
    #[error("print takes nothing after it; how a line looks is set apart from it")]
    PrintTakesNothing,
    /// No table, or something else than a table.
    #[error("sqlite:FILE needs a table and takes nothing else; write sqlite:FILE?table=NAME")]
    NoTable,
    /// Not a database that can be written to.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Server(#[from] postgres::UrlError),
    /// No table.
    #[cfg(feature = "postgres")]
    #[error("a postgres:// handler needs a table; write postgres://USER@HOST/DATABASE?table=NAME")]
    NoTableAtServer,
    /// A table that cannot be.
    #[error("{0:?} cannot be a table here: {1}; use another name")]
    Table(String, &'static str),
    /// Not a URL that can be called; its text may hold secrets, and is not shown.
    #[error("the webhook's URL {0}; write https://HOST/PATH")]
    Url(&'static str),
    /// Not a broker's URL.
    #[error(transparent)]
    Broker(EndpointError),
    /// A broker as handler has no such option.
    #[error(
        "{0:?} is no option of a broker as handler; \
         use prefix=TEXT, qos=0|1|2, client-id=ID, outbox=FILE, cafile=FILE, or cert=FILE&key=FILE"
    )]
    BrokerOption(String),
    /// No topic can begin like this.
    #[error("the prefix {0:?} {1}; correct it")]
    Prefix(String, TopicError),
    /// A route without its parts.
    #[error("{0:?} is no route; write FILTER=HANDLER, such as 'alerts/+=exec:./page.sh'")]
    NoRoute(String),
    /// A route's filter is none.
    #[error("the topic filter {0:?} {1}")]
    Filter(String, TopicError),
    /// More routes than can be told apart.
    #[error("more than 255 routes; merge some of them")]
    TooManyRoutes,
}

impl Spec {
    /// Starts the handler. Files and databases are opened and repaired here, and block for that long; programs and webhooks
    /// are not tried.
    pub fn open(&self, options: &Options) -> Result<Handler, OpenError> {
        Ok(Handler(match self {
            Self::Print => Kind::Print(options.printer.clone().ok_or(OpenError::NoPrinter)?),
            Self::Jsonl(path) => Kind::Jsonl(jsonl::Jsonl::open(path, options.sync_files, options.time_max)?),
            Self::Exec(command) => Kind::Exec(exec::Exec::new(command, options)),
            Self::Stdio(command) => Kind::Stdio(stdio::Stdio::new(command, options)),
            Self::Webhook(url) => Kind::Webhook(webhook::Webhook::new(url, options)?),
            Self::Sqlite { path, table } => Kind::Sqlite(sqlite::Sqlite::open(path, table, options)?),
            Self::Republish(target) => Kind::Republish(Republisher::open(target, options)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Kind::Postgres(super::postgres::Postgres::open(url, options)?),
        }))
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let has_colon = text.len() > scheme.len();
        match scheme {
            "print" if has_colon => Err(SpecError::PrintTakesNothing),
            "print" => Ok(Self::Print),
            "jsonl" => Ok(Self::Jsonl(given(rest, "jsonl", "file", "FILE")?.into())),
            "exec" => Ok(Self::Exec(given(rest, "exec", "command", "CMD")?.to_owned())),
            "stdio" => Ok(Self::Stdio(given(rest, "stdio", "command", "CMD")?.to_owned())),
            "http" | "https" => webhook::check_url(text).map(|()| Self::Webhook(text.to_owned())),
            "sqlite" => table_in(given(rest, "sqlite", "file", "FILE?table=NAME")?),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" if has_colon => server(text),
            "mqtt" | "mqtts" | "ws" | "wss" | "unix" if has_colon => {
                Republish::parse(text).map(|target| Self::Republish(Box::new(target)))
            }
            "postgres" | "postgresql" if has_colon => Err(SpecError::NotSupported(scheme.to_owned())),
            // Not more than the first word: what follows may be a secret.
            _ => Err(SpecError::Unknown(scheme.to_owned())),
        }
    }
}

fn given<'a>(
    rest: &'a str,
    scheme: &'static str,
    what: &'static str,
    form: &'static str,
) -> Result<&'a str, SpecError> {
    let rest = rest.trim();
    if rest.is_empty() || rest.contains('\0') {
        Err(SpecError::Missing(scheme, what, form))
    } else {
        Ok(rest)
    }
}

fn table_in(rest: &str) -> Result<Spec, SpecError> {
    let (path, table) = rest.rsplit_once("?table=").ok_or(SpecError::NoTable)?;
    if path.is_empty() || table.is_empty() {
        return Err(SpecError::NoTable);
    }
    sqlite::check_table(table)?;
    Ok(Spec::Sqlite { path: path.into(), table: table.to_owned() })
}

#[cfg(feature = "postgres")]
fn server(text: &str) -> Result<Spec, SpecError> {
    let url: postgres::Url = text.parse()?;
    match url.table() {
        None => Err(SpecError::NoTableAtServer),
        Some(table) if table == super::postgres::MARKS => {
            Err(SpecError::Table(table.to_owned(), "it holds the marks of messages that are done"))
        }
        Some(_) => Ok(Spec::Postgres(url)),
    }
}

/// As it was typed, but of a URL only the host: what follows may be a secret.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| path.display().to_string();
        match self {
            Self::Print => f.write_str("print"),
            Self::Jsonl(path) => write!(f, "jsonl:{}", shown(path)),
            Self::Exec(command) => write!(f, "exec:{command}"),
            Self::Stdio(command) => write!(f, "stdio:{command}"),
            Self::Webhook(url) => f.write_str(&webhook::without_secrets(url)),
            Self::Sqlite { path, table } => write!(f, "sqlite:{}?table={table}", shown(path)),
            Self::Republish(target) => target.fmt(f),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

/// Like `Display`: a secret has no business in a log.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spec({self})")
    }
}

/// A topic filter and the handler of the topics that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Topic filter.
    pub filter: String,
    /// What their messages go to.
    pub handler: Spec,
}

impl FromStr for Route {
    type Err = SpecError;

    /// `FILTER=HANDLER`. A filter may hold `=` itself: the handler begins after the first one that a handler follows.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut refused = None;
        for (at, _) in text.match_indices('=') {
            match text[at + 1..].parse() {
                Ok(handler) => return Self::checked(&text[..at], handler),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| SpecError::NoRoute(text.to_owned())))
    }
}

impl Route {
    fn checked(filter: &str, handler: Spec) -> Result<Self, SpecError> {
        match topic::validate_filter(filter) {
            Ok(()) => Ok(Self { filter: filter.to_owned(), handler }),
            Err(error) => Err(SpecError::Filter(filter.to_owned(), error)),
        }
    }

    /// Whether the route takes messages of this topic.
    pub fn takes(&self, topic: &str) -> bool {
        topic::matches(&self.filter, topic)
    }
}

/// Which handler takes a topic: the first route that selects it, else the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// In order; the first that selects a topic wins.
    pub routes: Vec<Route>,
    /// Takes the rest.
    pub default: Option<Spec>,
}

impl Routes {
    /// Routes from their typed forms, in order, and the default handler's.
    pub fn parse<'a>(
        routes: impl IntoIterator<Item = &'a str>,
        default: Option<&str>,
    ) -> Result<Self, SpecError> {
        let routes: Vec<Route> = routes.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        if routes.len() > usize::from(u8::MAX) {
            return Err(SpecError::TooManyRoutes);
        }
        Ok(Self { routes, default: default.map(str::parse).transpose()? })
    }

    /// Position in [`open`](Self::open)'s list of the handler that takes `topic`; the default is the last one. `None` where no
    /// handler takes it. It fits the inbox's [`Channel`](crate::inbox::Channel).
    pub fn position(&self, topic: &str) -> Option<u8> {
        let found = self.routes.iter().position(|route| route.takes(topic));
        let position = found.or(self.default.as_ref().map(|_| self.routes.len()));
        position.and_then(|position| u8::try_from(position).ok())
    }

    /// Starts the handlers: one for each route, in order, then the default. Routes with equal handlers share one.
    pub fn open(&self, options: &Options) -> Result<Vec<Arc<Handler>>, OpenError> {
        let mut opened: Vec<(&Spec, Arc<Handler>)> = Vec::new();
        for spec in self.routes.iter().map(|route| &route.handler).chain(&self.default) {
            let known = opened.iter().find(|(other, _)| *other == spec).map(|(_, handler)| handler.clone());
            let handler = known.map_or_else(|| spec.open(options).map(Into::into), Ok)?;
            opened.push((spec, handler));
        }
        Ok(opened.into_iter().map(|(_, handler)| handler).collect())
    }
}
