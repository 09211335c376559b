//! The port: accepts as many connections as there may be, and gives each a session of its own.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::api::RandomPidSecretKeyGenerator;
use datafusion_postgres::pgwire::tokio::TlsAcceptor;
use tally_lake::Sql;
use tally_model::Entropy;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::cancel::Cancels;
use crate::connection;
use crate::metrics::WireMetrics;
use crate::scram::Verifier;
use crate::session::Session;
use crate::startup::Startup;

/// A BI server holds a pool of ten or so; each connection holds a session's catalog, about a megabyte.
const CONNECTIONS_MAX: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is known of a name at this moment.
pub type HolderOf = dyn Fn(&str) -> Option<Holder> + Send + Sync;

/// Whether a statement is answered now, asked before each: a session may outlive its key, and send without end.
pub type MayAsk = dyn Fn() -> Result<(), Denied> + Send + Sync;

/// Who may log in with a key.
pub struct Holder {
    pub verifier: Verifier,
    /// Of this very key, whatever later has its name.
    pub may_ask: Box<MayAsk>,
}

/// Why a statement is not answered, in words for its sender.
#[derive(Debug)]
pub enum Denied {
    /// The session ends.
    ForGood(String),
    Now(String),
}

/// Who may come in.
pub enum Users {
    /// Whoever connects, as over HTTP where no keys are needed.
    Anyone,
    Keys(Box<HolderOf>),
}

pub struct Wire {
    pub listener: TcpListener,
    /// The certificate of the moment; none where there is no TLS.
    pub tls: Option<Box<dyn Fn() -> TlsAcceptor + Send + Sync>>,
    pub users: Users,
    pub sql: Sql,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: WireMetrics,
}

/// What all connections share.
pub(crate) struct Shared {
    pub users: Users,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: WireMetrics,
    pub cancels: Arc<Cancels>,
    pub names: RandomPidSecretKeyGenerator,
    /// Of this process: what unknown users are told apart by.
    pub secret: u128,
}

impl Wire {
    /// Serves until dropped, and all connections with it.
    pub async fn run(self) -> std::io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let secret = self.entropy.bits();
        let shared = Arc::new(Shared {
            users: self.users,
            entropy: self.entropy,
            metrics: self.metrics,
            cancels: Arc::default(),
            names: RandomPidSecretKeyGenerator::default(),
            secret,
        });
        let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut serving = JoinSet::new();
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    warn!(%error, "cannot accept a connection of the Postgres wire; it is tried again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while serving.try_join_next().is_some() {}
            let Ok(turn) = turns.clone().try_acquire_owned() else {
                shared.metrics.refused_connections.inc();
                refuse(socket);
                continue;
            };
            let session = match Session::new(&self.sql, shared.metrics.clone()) {
                Ok(session) => Arc::new(session),
                Err(error) => {
                    warn!(%error, "cannot make a session of the Postgres wire");
                    continue;
                }
            };
            let startup = Arc::new(Startup::new(shared.clone(), session.clone()));
            let shared = shared.clone();
            let tls = self.tls.as_ref().map(|current| current());
            serving.spawn(async move {
                let _turn = turn;
                shared.metrics.connections.inc();
                let ended = connection::serve(socket, tls, &shared, startup, session).await;
                shared.metrics.connections.dec();
                if let Err(error) = ended {
                    debug!(%error, "a connection of the Postgres wire broke off");
                }
            });
        }
    }
}

/// Says why before it closes, in the form that every client reads, also one that asks for TLS first.
fn refuse(socket: tokio::net::TcpStream) {
    let fields = "SFATAL\0VFATAL\0C53300\0Mtoo many connections; close some, or try again in a moment\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap_or_default();
    let message = [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat();
    if let Ok(mut socket) = socket.into_std() {
        // It is new, so its buffer takes these few bytes without waiting; a client that is gone needs none.
        let _ = socket.write_all(&message);
    }
}
