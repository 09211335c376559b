//! Connections, no more at once than leave file descriptors for the journal and the lake. Beyond that a new one waits in the
//! kernel's queue until another is closed: senders wait or go elsewhere, and what is connected is served in full.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

/// Kept for files: the journal and the writing lake take a few dozen, each of the questions that run at once some more.
const FILES_RESERVED: usize = 256;
/// Where the limit of the process cannot be read: what Linux gives by default.
const OPEN_FILES_DEFAULT: usize = 1_024;

/// How many connections there may be, and how many there are.
pub(crate) struct Connections {
    max: usize,
    turns: Arc<Semaphore>,
    open: Gauge,
}

impl Connections {
    pub fn new(registry: &mut Registry) -> Self {
        let max = connections_max(open_files_max(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()));
        let (open, bound) = <(Gauge, Gauge)>::default();
        bound.set(i64::try_from(max).unwrap_or(i64::MAX));
        let registry = registry.sub_registry_with_prefix("tally_server");
        registry.register("connections", "Open connections", open.clone());
        registry.register(
            "connections_max",
            "Connections that there may be at once, by the limit of open files",
            bound,
        );
        Self { max, turns: Arc::new(Semaphore::new(max)), open }
    }

    pub fn on(self, listener: TcpListener) -> BoundedListener {
        BoundedListener { listener, connections: self, is_full: false }
    }
}

fn connections_max(open_files_max: usize) -> usize {
    (open_files_max - FILES_RESERVED.min(open_files_max / 2)).clamp(1, Semaphore::MAX_PERMITS)
}

/// The soft limit, from the text of `/proc/self/limits`.
fn open_files_max(limits: &str) -> usize {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Semaphore::MAX_PERMITS,
        soft => soft.and_then(|soft| soft.parse().ok()).unwrap_or(OPEN_FILES_DEFAULT),
    }
}

pub(crate) struct BoundedListener {
    listener: TcpListener,
    connections: Connections,
    /// Whether it was said that all are taken; it is said again once half of them were free.
    is_full: bool,
}

impl BoundedListener {
    async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        let Connections { max, turns, .. } = &self.connections;
        let free = turns.available_permits();
        if free == 0 && !self.is_full {
            let cure = "raise the limit of open files, or find out who holds them";
            warn!(connections = max, "all connections are taken, new ones wait; {cure}");
        }
        self.is_full = free == 0 || (self.is_full && free < max / 2);
        Arc::clone(turns).acquire_owned().await.ok()
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let turn = self.turn().await;
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.connections.open.inc();
        (Connection { stream, open: self.connections.open.clone(), _turn: turn }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Makes room for another when dropped.
pub(crate) struct Connection {
    stream: TcpStream,
    open: Gauge,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_file_descriptors_for_the_rest() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             47                   48                   processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(open_files_max(limits), 1_024);
        assert_eq!(open_files_max("nothing of the kind"), OPEN_FILES_DEFAULT);
        assert_eq!([1_024, 20_000, 100, 1].map(connections_max), [768, 19_744, 50, 1]);
        assert_eq!(open_files_max("Max open files  unlimited  unlimited  files"), Semaphore::MAX_PERMITS);
    }
}
