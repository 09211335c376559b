//! The door: accepts connections, no more than there may be at once, serves each for as long as it is of use, and closes so
//! that nobody who got in is left without an answer.

mod activity;
mod connection;
mod connections;
mod metrics;
mod stream;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::config::Config;
use connection::Exchange;
use connections::Connections;
pub(crate) use metrics::DoorMetrics;
use tls::Tls;

/// After an error that is the machine's and not one connection's, such as no file descriptor left: trying again at once would
/// only burn the CPU that could mend it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open door. It closes when dropped, but only [`Door::close`] waits for those inside.
pub(crate) struct Door {
    pub address: SocketAddr,
    /// Whether it is time to go; each connection holds a receiver for as long as it is served.
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Door {
    pub async fn open(config: &Config, routes: Router, metrics: &DoorMetrics) -> Result<Self> {
        let connections = Connections::new(metrics);
        let tls = Tls::open(&config.tls, metrics)?;
        let idle = Duration::from_millis(config.server.idle_timeout_ms);
        let exchange = Exchange::new(routes, idle, tls.clone(), metrics);
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; stop what else uses that port, or give another with --listen")
        })?;
        let address = listener.local_addr()?;
        let (closing, is_closing) = watch::channel(false);
        if let Some(tls) = tls {
            tokio::spawn(tls.watch(is_closing.clone()));
        }
        let accepting = tokio::spawn(accept_until(listener, connections, exchange, is_closing));
        Ok(Self { address, closing, accepting })
    }

    /// Accepts no more, and waits until all connections are served to their end.
    pub async fn close(self) -> Result<()> {
        self.closing.send_replace(true);
        self.accepting.await.context("the listener ended unexpectedly")?;
        self.closing.closed().await;
        Ok(())
    }
}

async fn accept_until(
    listener: TcpListener,
    mut connections: Connections,
    exchange: Exchange,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = async { (connections.turn().await, accept(&listener).await) } => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let (turn, (tcp, peer)) = accepted;
        let connected = connections.connected(turn);
        tokio::spawn(exchange.clone().run(tcp, peer, connected, closing.clone()));
    }
}

/// The next connection, however many fail.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
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
