//! TLS to the server, as `sslmode` and the files in the URL ask for it.
//!
//! Where there is TLS the server's certificate is always checked, and that it is for the host in the URL: `require` means here
//! what `verify-full` means everywhere. What would leave it to the server whether anybody can listen is refused.
//!
//! Deliberately absent: channel binding, which guards a password against whoever holds another certificate of the same host.

use super::UrlError;
use crate::tls::{self, Identity, Roots, Tls, TlsError};
use rustls::pki_types::ServerName;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// How the connection is protected from whoever listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Protection {
    /// Not at all, and nobody said that this is meant.
    #[default]
    Unsaid,
    /// Not at all: `sslmode=disable`.
    Plain,
    /// By TLS.
    Tls(Tls),
}

/// The parameters of a URL that are about it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Asked {
    /// Whether the parameter is one of these.
    pub(super) fn take(&mut self, name: &str, value: String) -> bool {
        match name {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root = Some(value),
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            _ => return false,
        }
        true
    }

    pub(super) fn protection(self) -> Result<Protection, UrlError> {
        let names_files = self.root.is_some() || self.certificate.is_some() || self.key.is_some();
        match self.mode.as_deref() {
            Some("require" | "verify-ca" | "verify-full") => self.tls().map(Protection::Tls),
            None | Some("disable") if names_files => Err(UrlError::FilesWithoutTls),
            None => Ok(Protection::Unsaid),
            Some("disable") => Ok(Protection::Plain),
            Some(mode) => Err(UrlError::Mode(mode.to_owned())),
        }
    }

    fn tls(self) -> Result<Tls, UrlError> {
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            _ => return Err(UrlError::HalfIdentity),
        };
        let roots = match self.root.as_deref() {
            None | Some("system") => Roots::System,
            Some(file) => Roots::CaFile(file.into()),
        };
        Ok(Tls { roots, identity })
    }
}

/// Makes connections over TLS; the files are read when it is made.
#[derive(Clone)]
pub(super) struct Connector(TlsConnector);

impl Connector {
    /// Blocks on files.
    pub(super) fn new(tls: &Tls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(tls::config(tls)?).into()))
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let unfit = |_| io::Error::other(format!("{host:?} is no name that a certificate can be for"));
        let name = ServerName::try_from(host.to_owned()).map_err(unfit)?;
        Ok(Handshake { connector: self.0.clone(), name })
    }
}

/// A handshake to be done with a server of this name.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, socket).await.map(Encrypted) })
    }
}

/// An encrypted connection.
pub(super) struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
