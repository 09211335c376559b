//! The door: accepts connections, no more than there may be at once, hands each to the worker that has fewest, and closes so
//! that nobody who got in is left without an answer.

mod activity;
mod connection;
mod connections;
mod listener;
mod metrics;
mod stream;
pub(crate) mod tls;
mod workers;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::config::Config;
use connection::{Endpoints, Exchange};
use connections::{Connections, Turn};
use listener::Listener;
pub(crate) use metrics::DoorMetrics;
use tls::Tls;
use workers::Workers;

/// After an error that is the machine's and not one connection's, such as no file descriptor left: trying again at once would
/// only burn the CPU that could mend it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open door. Connections are cut when it is dropped; [`Door::close`] waits for them.
pub(crate) struct Door {
    pub address: SocketAddr,
    /// Whether it is time to go; each connection holds a receiver for as long as it is served.
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    _workers: Arc<Workers>,
}

impl Door {
    /// `prepare_worker` runs on each thread that serves connections before the first comes.
    pub fn open(
        config: &Config,
        endpoints: impl Endpoints,
        prepare_worker: fn(),
        metrics: &DoorMetrics,
    ) -> Result<Self> {
        let tls = Tls::open(&config.tls, tls::HTTP, metrics)?;
        let idle = Duration::from_millis(config.server.idle_timeout_ms);
        let workers = Arc::new(Workers::start(prepare_worker)?);
        let listener = workers.within(|| Listener::open(config.server.listen))?;
        let address = listener.address;
        let (closing, is_closing) = watch::channel(false);
        if let Some(tls) = &tls {
            tokio::spawn(Arc::clone(tls).watch(is_closing.clone()));
        }
        let accepting = Accepting {
            listener,
            connections: Connections::new(metrics),
            exchange: Exchange::new(endpoints, idle, tls, metrics),
            workers: Arc::clone(&workers),
            closing: is_closing,
        };
        let accepting = workers.spawn(accepting.run());
        Ok(Self { address, closing, accepting, _workers: workers })
    }

    /// Accepts no more, and waits until all connections are served to their end.
    pub async fn close(self) -> Result<()> {
        self.closing.send_replace(true);
        self.accepting.await.context("the listener ended unexpectedly")?;
        self.closing.closed().await;
        Ok(())
    }
}

struct Accepting<E> {
    listener: Listener,
    connections: Connections,
    exchange: Exchange<E>,
    workers: Arc<Workers>,
    closing: watch::Receiver<bool>,
}

impl<E: Endpoints> Accepting<E> {
    async fn run(mut self) {
        let mut closing = self.closing.clone();
        loop {
            let next = async {
                let turn = self.connections.turn().await;
                (turn, accept(&self.listener).await)
            };
            tokio::select! {
                (turn, (tcp, peer)) = next => self.serve(turn, tcp, peer),
                _ = closing.wait_for(|closing| *closing) => break,
            }
        }
        // Who waits in the queue of a socket that is ours would be reset with it.
        while !self.listener.is_handed_over
            && let Some(turn) = self.connections.free_turn()
            && let Some((tcp, peer)) = self.listener.accept_waiting()
        {
            self.serve(turn, tcp, peer);
        }
    }

    fn serve(&self, turn: Turn, tcp: TcpStream, peer: SocketAddr) {
        let connected = self.connections.connected(turn);
        let (exchange, closing) = (self.exchange.clone(), self.closing.clone());
        self.workers.spawn(async move {
            // From here on, this worker's own runtime is told when bytes come.
            match tokio::net::TcpStream::from_std(tcp) {
                Ok(tcp) => exchange.run(tcp, peer, connected, closing).await,
                Err(error) => warn!(%error, "cannot serve a connection"),
            }
        });
    }
}

/// The next connection, however many fail.
async fn accept(listener: &Listener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection; it is tried again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The peer was gone before we came to it.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}
