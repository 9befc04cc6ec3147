//! Whom to trust and who we are, on `mqtts://` and `wss://`.
//!
//! A [`Tls`] belongs to an [`Endpoint`](crate::endpoint::Endpoint): `endpoint.with_tls(tls)`. Its files are read at
//! every dial, so that renewed certificates are taken up by the next connection; the system's roots are read once.
//!
//! Deliberately absent: switching verification off. A broker with a certificate of its own making is trusted by
//! naming that certificate, or its issuer's, as [`Roots::CaFile`]. One that is marked as an authority's, as `openssl req -x509`
//! does it, is trusted to issue others only.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, InconsistentKeys, RootCertStore,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// How to dial a broker over TLS 1.2 or 1.3. The server's certificate has to be for the host in the URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may vouch for the broker.
    pub roots: Roots,
    /// Who we are, where the broker asks for a client certificate.
    pub identity: Option<Identity>,
}

/// Who may vouch for a broker's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// The authorities that the operating system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
    #[default]
    System,
    /// The certificates in this PEM file, and no others (`ca_file`).
    CaFile(PathBuf),
}

/// A client certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM file: our certificate first, then those between it and the authority.
    pub certificate: PathBuf,
    /// PEM file: the private key of the certificate, not encrypted.
    pub key: PathBuf,
}

/// Why there is no TLS connection. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or not ours to read.
    #[error("cannot read the {what} {}: {error}; name a file that can be read", path.display())]
    Unreadable {
        /// Which option named it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A file has other things in it.
    #[error("the {what} {} is not usable: {why}; give PEM, unencrypted", path.display())]
    Unusable {
        /// Which option named it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error("the key {} does not match the certificate {}; give the key that it was made for", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Somebody wants TLS, and the transport has none.
    #[error(
        "{0}:// is not encrypted, and a CA file or certificate was given; write mqtts:// or wss://, or give none"
    )]
    Plain(&'static str),
    /// The operating system trusts nobody.
    #[error(
        "the system has no trusted certificates ({0}); install ca-certificates, or name the broker's authority with a CA file (ca_file)"
    )]
    NoSystemRoots(String),
    /// The URL's host can stand in no certificate.
    #[error("{0:?} is neither a host name nor an address that a certificate can be for")]
    ServerName(String),
    /// Nobody whom we trust vouches for the broker.
    #[error(
        "the broker's certificate comes from an unknown issuer; name that issuer's certificate with a CA file (ca_file)"
    )]
    UnknownIssuer,
    /// The broker's certificate was valid once.
    #[error("the broker's certificate has expired; renew it, or check this machine's clock")]
    Expired,
    /// The broker shows a certificate that is for issuing others.
    #[error(
        "the broker's certificate is marked as an authority's (CA:TRUE), which a server's may not be; make one with \
         basicConstraints=CA:FALSE"
    )]
    Authority,
    /// The broker's certificate will be valid.
    #[error("the broker's certificate is not valid yet; check the clocks of both machines")]
    NotValidYet,
    /// The broker's certificate is for another host.
    #[error("the broker's certificate is not for {host}{}; dial a name that it is for", presented(.names))]
    WrongName {
        /// The host in the URL.
        host: String,
        /// What it is for.
        names: Vec<String>,
    },
    /// The broker wants to know who we are.
    #[error("the broker asks for a client certificate; give certificate and key")]
    IdentityWanted,
    /// The broker does not take our certificate, or none of our offers.
    #[error("the broker ended the TLS handshake: {0}; check the client certificate against what it accepts")]
    Refused(String),
    /// Something else that is no lawful TLS.
    #[error("no TLS with the broker: {0}; is this port for TLS?")]
    Protocol(rustls::Error),
}

impl Tls {
    /// Whether it names files, and so is of use with TLS only.
    pub(crate) fn names_files(&self) -> bool {
        self.roots != Roots::System || self.identity.is_some()
    }

    /// Reads the files as each dial does. Blocks on them.
    pub(crate) fn check(&self) -> Result<(), TlsError> {
        config(self).map(drop)
    }
}

/// A TLS client for a connection to `host`; blocks on files.
pub(crate) fn client(tls: &Tls, host: &str) -> Result<ClientConnection, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))?;
    ClientConnection::new(Arc::new(config(tls)?), name).map_err(|error| explained(error, host))
}

/// What the error means to whoever dials `host`.
pub(crate) fn explained(error: rustls::Error, host: &str) -> TlsError {
    match error {
        rustls::Error::InvalidCertificate(error) => distrusted(error, host),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => TlsError::IdentityWanted,
        rustls::Error::AlertReceived(alert) => TlsError::Refused(format!("{alert:?}")),
        error => TlsError::Protocol(error),
    }
}

fn distrusted(error: CertificateError, host: &str) -> TlsError {
    let host = host.to_owned();
    match error {
        // A bad signature is how an authority of the same name shows, such as one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsError::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsError::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsError::NotValidYet,
        // rustls has no word of its own for it, and passes on what webpki says.
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => TlsError::Authority,
        CertificateError::NotValidForName => TlsError::WrongName { host, names: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            TlsError::WrongName { host, names: presented }
        }
        error => TlsError::Protocol(error.into()),
    }
}

/// Reads the files.
pub(crate) fn config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .with_root_certificates(roots(&tls.roots)?);
    let Some(Identity { certificate, key }) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("client certificate", certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unread("key", key, error))?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyMismatch { certificate: certificate.clone(), key: key.clone() }
        }
        error => unusable("key", key, error.to_string()),
    })
}

fn roots(roots: &Roots) -> Result<Arc<RootCertStore>, TlsError> {
    match roots {
        Roots::System => system_roots(),
        Roots::CaFile(path) => {
            let mut store = RootCertStore::empty();
            for certificate in certificates("CA file", path)? {
                store.add(certificate).map_err(|error| unusable("CA file", path, error.to_string()))?;
            }
            Ok(Arc::new(store))
        }
    }
}

/// Read once: there are a hundred and more, and they outlive a process.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(store))))
}

/// Those who may vouch, one by one, for a library that keeps its own store of them; at least one.
pub(crate) fn root_certificates(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match roots {
        Roots::CaFile(path) => certificates("CA file", path),
        Roots::System => match rustls_native_certs::load_native_certs() {
            found if found.certs.is_empty() => Err(TlsError::NoSystemRoots(
                found.errors.first().map_or_else(String::new, ToString::to_string),
            )),
            found => Ok(found.certs),
        },
    }
}

/// At least one.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|error| unread(what, path, error))? {
        none if none.is_empty() => Err(unusable(what, path, "there is no certificate in it".to_owned())),
        certificates => Ok(certificates),
    }
}

fn unread(what: &'static str, path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => TlsError::Unreadable { what, path: path.to_owned(), error },
        error => unusable(what, path, error.to_string()),
    }
}

fn unusable(what: &'static str, path: &Path, why: String) -> TlsError {
    TlsError::Unusable { what, path: path.to_owned(), why }
}

/// rustls tells a name with its kind around it: `DnsName("broker.example")`.
fn presented(names: &[String]) -> String {
    let bare = |name: &String| match name.split_once('(') {
        Some((_, name)) => name.trim_matches(['"', ')']).to_owned(),
        None => name.clone(),
    };
    match names {
        [] => String::new(),
        names => format!(" but for {}", names.iter().map(bare).collect::<Vec<_>>().join(", ")),
    }
}
