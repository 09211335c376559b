//! The Postgres port: its socket, its certificate, and who of the key holders may come in.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tally_capture::{Caller, Limits};
use tally_lake::Sql;
use tally_model::{Clock, SystemEntropy};
use tally_wire::{Denied, Holder, Users, Wire, WireMetrics};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::access::{Keyring, Refusal};
use super::door::DoorMetrics;
use super::door::tls::{POSTGRES, Tls};
use crate::config::{Config, PostgresConfig};
use crate::keys::{KeyId, Scope};

/// What is to serve, and watch over its certificate, for as long as it is polled. None where it is turned off, or the port is
/// taken: nobody who only counts shall fail to start for a second server on the machine.
pub(super) fn open(
    config: &Config,
    sql: Sql,
    holders: Holders,
    door_metrics: &DoorMetrics,
    registry: &mut Registry,
) -> Result<Option<impl Future<Output = ()> + Send + 'static>> {
    let metrics = WireMetrics::register(registry);
    let Some(listen) = config.postgres.listen()? else { return Ok(None) };
    // First: a bad certificate stops the start, whatever becomes of the port.
    let tls = Tls::open(&config.tls, POSTGRES, door_metrics)?;
    let Some(listener) = bind(&config.postgres, listen)? else { return Ok(None) };
    let users = match config.postgres_requires_keys(listen) {
        false => Users::Anyone,
        true => {
            let holders = Arc::new(holders);
            Users::Keys(Box::new(move |name| holders.find(name)))
        }
    };
    info!(address = %listener.local_addr()?, tls = tls.is_some(), "serving Postgres");
    let acceptor = tls.clone().map(|tls| Box::new(move || tls.acceptor()) as Box<dyn Fn() -> _ + Send + Sync>);
    let wire = Wire { listener, tls: acceptor, users, sql, entropy: Arc::new(SystemEntropy), metrics };
    Ok(Some(async move {
        // Never said: this ends by being dropped.
        let (_open, closing) = watch::channel(false);
        let watching = async {
            match tls {
                Some(tls) => tls.watch(closing).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = wire.run() => if let Err(error) = ended {
                error!(%error, "the Postgres port stopped; restart tally to open it again");
            },
            () = watching => {}
        }
    }))
}

/// The holders of keys, with the limits that they have over HTTP too.
pub(super) struct Holders {
    pub keyring: Arc<Keyring>,
    pub limits: Arc<Limits>,
    pub clock: Arc<dyn Clock>,
}

impl Holders {
    /// Who holds the key of this name now.
    fn find(self: &Arc<Self>, name: &str) -> Option<Holder> {
        let (key, verifier) = self.keyring.verifier(name, self.now_s())?;
        let holders = self.clone();
        Some(Holder { verifier, may_ask: Box::new(move || holders.may_ask(key)) })
    }

    fn may_ask(&self, key: KeyId) -> Result<(), Denied> {
        let checked = self.keyring.check_id(key, Scope::Query, self.now_s());
        checked.map_err(|refusal| Denied::ForGood(refusal.to_string()))?;
        let limited = self.limits.key(Caller { key_id: key.0.into() });
        limited.map_err(|limited| Denied::Now(Refusal::Limited(limited).to_string()))
    }

    fn now_s(&self) -> i64 {
        self.clock.now_us().div_euclid(1_000_000)
    }
}

fn bind(config: &PostgresConfig, listen: SocketAddr) -> Result<Option<TcpListener>> {
    match TcpListener::bind(listen) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse && config.is_default() => {
            warn!(%listen, "the Postgres port is taken, so there is none here; give this server another one (postgres.listen)");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {listen} (postgres.listen)")),
    }
}
