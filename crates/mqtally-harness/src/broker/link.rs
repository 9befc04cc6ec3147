//! The way out of the engine to one connection.

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A socket with what could not be written to it yet. The engine writes directly while the socket takes it, so the
/// usual answer costs one system call and wakes nobody.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    out: Mutex<Out>,
    backlog: AtomicUsize,
    /// The engine left bytes or an end for the connection's task.
    woken: Notify,
    /// The engine took this connection's packets.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Out {
    waiting: BytesMut,
    end: Option<End>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After everything has been written.
    Flush,
    /// At once.
    Abort,
}

impl Link {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            out: Mutex::default(),
            backlog: AtomicUsize::new(0),
            woken: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Bytes waiting to be written.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Writes `bytes` after what waits already, as far as the socket takes them, and keeps the rest.
    pub(super) fn send(&self, bytes: &mut BytesMut) {
        let mut out = self.lock();
        if out.waiting.is_empty() && self.write(bytes).is_ok() && bytes.is_empty() {
            return;
        }
        out.waiting.extend_from_slice(bytes);
        bytes.clear();
        self.backlog.store(out.waiting.len(), Ordering::Relaxed);
        drop(out);
        self.woken.notify_one();
    }

    /// Ends the connection; its task sees to it.
    pub(super) fn end(&self, end: End) {
        self.lock().end = Some(end);
        self.woken.notify_one();
    }

    /// The engine took this connection's packets: it may hand over more.
    pub(super) fn mark_taken(&self) {
        self.taken.notify_one();
    }

    /// Waits for [`Link::mark_taken`].
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Writes what the engine left behind, until it ends the connection; returns how.
    pub(super) async fn write_rest(&self) -> io::Result<End> {
        loop {
            let (end, waiting) = {
                let out = self.lock();
                (out.end, !out.waiting.is_empty())
            };
            match end {
                Some(end) => return Ok(end),
                None if waiting => tokio::select! {
                    ready = self.stream.writable() => ready.and_then(|()| self.write_waiting())?,
                    () = self.woken.notified() => {}
                },
                None => self.woken.notified().await,
            }
        }
    }

    /// Writes everything that waits.
    pub(super) async fn drain(&self) -> io::Result<()> {
        while self.backlog() > 0 {
            self.stream.writable().await?;
            self.write_waiting()?;
        }
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }

    fn write_waiting(&self) -> io::Result<()> {
        let mut out = self.lock();
        self.write(&mut out.waiting)?;
        self.backlog.store(out.waiting.len(), Ordering::Relaxed);
        if out.waiting.is_empty() {
            // A burst must not hold its memory for the life of the connection.
            out.waiting = BytesMut::new();
        }
        Ok(())
    }

    fn write(&self, bytes: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
