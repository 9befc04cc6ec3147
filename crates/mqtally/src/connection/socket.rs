//! TCP or a Unix socket: bytes in and out without waiting.

use crate::endpoint::{Endpoint, Transport};
use bytes::{Buf, BytesMut};
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Between two attempts to get into a Unix listener's queue; the dial's own limit ends them.
#[cfg(unix)]
const QUEUE_RETRY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    pub(super) async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        if endpoint.transport() == Transport::Unix {
            return Self::connect_unix(endpoint.path()).await;
        }
        let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Where TCP would wait for room in the listener's queue, a Unix socket says that there is none.
    #[cfg(unix)]
    async fn connect_unix(path: &str) -> io::Result<Self> {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if super::blocked(&error) => tokio::time::sleep(QUEUE_RETRY).await,
                connected => return connected.map(Self::Unix),
            }
        }
    }

    #[cfg(not(unix))]
    async fn connect_unix(_: &str) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets"))
    }

    /// A Unix socket's peer has no address.
    pub(super) fn peer(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            #[cfg(unix)]
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    /// Appends what is there; 0 at the peer's end.
    pub(super) fn read_buf(&self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(input),
            #[cfg(unix)]
            Self::Unix(stream) => stream.try_read_buf(input),
        }
    }

    /// Takes from `output` what the kernel takes now.
    pub(super) fn send(&self, output: &mut BytesMut) -> io::Result<()> {
        while !output.is_empty() {
            match self.write(output) {
                Ok(written) => output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends our direction.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown().await,
        }
    }

    /// From now on a drop resets the connection. A Unix socket knows no reset: it is closed as it is.
    pub(super) fn reset_on_drop(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_zero_linger(),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

/// For the layers above, which take an error of kind `WouldBlock` as "not now".
impl io::Read for &Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read(bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.try_read(bytes),
        }
    }
}

impl io::Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Socket::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
