//! Who may connect: a file of names and hashed passwords, in the form that mosquitto reads and writes.
//!
//! Each line is `NAME:$7$ITERATIONS$SALT$HASH`: PBKDF2-HMAC-SHA512, salt and hash in Base64. Empty lines and lines
//! that begin with `#` are skipped.

use super::inbox::{Inbox, Input};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::broker::ConnectionId;
use rustc_hash::FxHashMap;
use sha2::Sha512;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Iterations for new entries; what OWASP advises for PBKDF2-HMAC-SHA512.
const ITERATIONS: u32 = 210_000;
/// Above this a line is a mistake or an attack: checking one password would take longer than clients wait.
const ITERATIONS_MAX: u32 = 10_000_000;
const SALT_LENGTH: usize = 16;
const HASH_LENGTH: usize = 64;
/// Passwords checked at a time: each takes a whole core for about a tenth of a second.
const CHECKS_MAX: usize = 2;

/// Why a users file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The operating system refused.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is not an entry.
    #[error("{}:{line}: {detail}; write entries with --add-user or mosquitto_passwd", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A name that no line can hold.
    #[error(
        "a user name must be 1 to 65,535 bytes without ':' and control characters, and not begin with '#'"
    )]
    Name,
}

/// The entries of a users file.
#[derive(Debug, Clone, Default)]
pub struct Users {
    entries: FxHashMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    iterations: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Hashes do not belong into logs.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(..)")
    }
}

impl Users {
    /// Reads a users file.
    ///
    /// # Errors
    /// When it cannot be read, or at the first line that is not an entry.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let text = std::fs::read_to_string(path).map_err(|source| fault("read", path, source))?;
        Self::parse(&text).map_err(|(line, detail)| UsersError::Line { path: path.to_owned(), line, detail })
    }

    /// Whether `password` is that of `name`. Takes about a tenth of a second of one core, by design.
    ///
    /// An unknown name takes as long as a known one, so that the time does not tell which names exist.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        let entry = self.entries.get(name);
        let stand_in =
            Entry { iterations: ITERATIONS, salt: vec![0; SALT_LENGTH], hash: vec![0; HASH_LENGTH] };
        let matches = entry.unwrap_or(&stand_in).matches(password);
        matches && entry.is_some()
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut users = Self::default();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |detail| (index + 1, detail);
            let (name, hash) = line.split_once(':').ok_or(at("no ':' after the name"))?;
            let entry = Entry::parse(hash).map_err(at)?;
            if users.entries.insert(name.to_owned(), entry).is_some() {
                return Err(at("this name has an entry already"));
            }
        }
        Ok(users)
    }
}

/// Adds `name` to the users file at `path`, or gives it a new password; creates the file when absent.
///
/// The file is replaced whole, so that a crash leaves the old one or the new one.
///
/// # Errors
/// When the name cannot stand in a line, the file holds a malformed line, or it cannot be read or written.
pub fn add_user(path: &Path, name: &str, password: &[u8]) -> Result<(), UsersError> {
    if !is_name(name) {
        return Err(UsersError::Name);
    }
    let old = match std::fs::read_to_string(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => String::new(),
        other => other.map_err(|source| fault("read", path, source))?,
    };
    Users::parse(&old).map_err(|(line, detail)| UsersError::Line { path: path.to_owned(), line, detail })?;
    let entry = Entry::create(password).map_err(|source| fault("make a salt for", path, source))?;
    let others = old.lines().filter(|line| line.split_once(':').is_none_or(|(other, _)| other != name));
    let mut text: String = others.flat_map(|line| [line, "\n"]).collect();
    text.push_str(&format!("{name}:{}\n", entry.to_text()));
    replace(path, text.as_bytes()).map_err(|source| fault("write", path, source))
}

impl Entry {
    fn create(password: &[u8]) -> io::Result<Self> {
        let mut salt = vec![0; SALT_LENGTH];
        File::open("/dev/urandom")?.read_exact(&mut salt)?;
        let mut entry = Self { iterations: ITERATIONS, salt, hash: vec![0; HASH_LENGTH] };
        entry.hash = entry.derive(password);
        Ok(entry)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let fields: Vec<&str> = text.split('$').collect();
        let ["", "7", iterations, salt, hash] = fields[..] else {
            return Err("the password is not hashed as $7$ITERATIONS$SALT$HASH");
        };
        let iterations = iterations.parse().map_err(|_| "the number of iterations is not a number")?;
        let salt = BASE64.decode(salt).map_err(|_| "the salt is not Base64")?;
        let hash = BASE64.decode(hash).map_err(|_| "the hash is not Base64")?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err("the number of iterations is not between 1 and 10,000,000");
        }
        if hash.len() != HASH_LENGTH {
            return Err("the hash is not 64 bytes long");
        }
        Ok(Self { iterations, salt, hash })
    }

    fn to_text(&self) -> String {
        format!("$7${}${}${}", self.iterations, BASE64.encode(&self.salt), BASE64.encode(&self.hash))
    }

    fn matches(&self, password: &[u8]) -> bool {
        let derived = self.derive(password);
        // Every byte is looked at, so that the time does not tell how many of them were right.
        let difference = derived.iter().zip(&self.hash).fold(0, |seen, (a, b)| seen | (a ^ b));
        derived.len() == self.hash.len() && std::hint::black_box(difference) == 0
    }

    fn derive(&self, password: &[u8]) -> Vec<u8> {
        pbkdf2::pbkdf2_hmac_array::<Sha512, HASH_LENGTH>(password, &self.salt, self.iterations).to_vec()
    }
}

/// Checks credentials beside the engine, a few at a time.
pub(super) struct Gate {
    users: Arc<Users>,
    inbox: Arc<Inbox>,
    runtime: Handle,
    permits: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(users: Users, inbox: Arc<Inbox>, runtime: Handle) -> Self {
        Self { users: Arc::new(users), inbox, runtime, permits: Arc::new(Semaphore::new(CHECKS_MAX)) }
    }

    /// Answers with [`Input::Authenticated`]. What waits is bounded by the connections: each asks once.
    pub(super) fn check(&self, id: ConnectionId, name: Option<ByteString>, password: Option<Bytes>) {
        let (users, inbox, permits) =
            (Arc::clone(&self.users), Arc::clone(&self.inbox), Arc::clone(&self.permits));
        self.runtime.spawn(async move {
            let _permit = permits.acquire().await;
            let check =
                move || name.is_some_and(|name| users.verify(&name, password.as_deref().unwrap_or_default()));
            let accepted = tokio::task::spawn_blocking(check).await.unwrap_or(false);
            inbox.push(Input::Authenticated(id, accepted));
        });
    }
}

fn is_name(name: &str) -> bool {
    let length_fits = (1..=65_535).contains(&name.len());
    length_fits && !name.starts_with('#') && !name.contains(|c: char| c == ':' || c.is_control())
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

fn fault(act: &'static str, path: &Path, source: io::Error) -> UsersError {
    UsersError::Io { act, path: path.to_owned(), source }
}
