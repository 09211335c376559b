//! The keys as a running server knows them: read again when the file changes, so that nobody restarts to add or revoke one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tally_wire::Verifier;
use tracing::{error, info};

use super::Refusal;
use crate::keys::{Key, KeyFile, KeyId, Scope, Session, Stamp, Token};
use crate::serve::looking::Looking;

/// How long a revoked key may still work.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Keyring {
    file: KeyFile,
    /// Locked for a look or a change, never while anything waits.
    keys: RwLock<HashMap<KeyId, Known>>,
    seen: Mutex<Seen>,
    last_used: Family<KeyLabel, Gauge>,
    failures: Counter,
}

struct Known {
    key: Key,
    last_used: Gauge,
}

impl Known {
    fn may(&self, scope: Scope, now_s: i64) -> Result<(), Refusal> {
        let name = || self.key.name.clone();
        if self.key.is_expired(now_s) {
            return Err(Refusal::ExpiredKey { name: name() });
        }
        if !self.key.scopes.contains(&scope) {
            return Err(Refusal::MissingScope { name: name(), scope });
        }
        self.last_used.set(now_s);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    key: String,
}

/// The state of the file that is in force, and what was wrong with a later one.
struct Seen {
    stamp: Option<Stamp>,
    fault: Option<String>,
}

impl Keyring {
    pub fn open(file: KeyFile, registry: &mut Registry) -> Result<Self> {
        let (last_used, failures) = (Family::<KeyLabel, Gauge>::default(), Counter::default());
        registry.register_with_unit(
            "key_last_used_timestamp",
            "When an API key was last let in, since the start",
            Unit::Seconds,
            last_used.clone(),
        );
        registry.register(
            "reload_failures",
            "Times that a changed file of API keys could not be read",
            failures.clone(),
        );
        // The stamp first: what is changed after it is seen at the next look.
        let seen = Seen { stamp: file.stamp(), fault: None };
        let keys = file.read()?;
        let keyring = Self { file, keys: RwLock::default(), seen: Mutex::new(seen), last_used, failures };
        keyring.put_in_force(keys);
        Ok(keyring)
    }

    pub fn is_empty(&self) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether the token is that of a key that may do this now.
    pub fn check(&self, token: &Token, scope: Scope, now_s: i64) -> Result<KeyId, Refusal> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let known = keys.get(&token.id).filter(|known| known.key.is_proved_by(token)).ok_or(Refusal::UnknownKey)?;
        known.may(scope, now_s)?;
        Ok(token.id)
    }

    /// A session for who holds a key to the figures, until so long from now or the key's own end.
    pub fn open_session(&self, token: &Token, for_s: i64, now_s: i64) -> Result<Session, Refusal> {
        self.check(token, Scope::Query, now_s)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Known { key, .. } = keys.get(&token.id).ok_or(Refusal::UnknownKey)?;
        let expires_at_s = key.expires_at_s.unwrap_or(i64::MAX).min(now_s.saturating_add(for_s));
        Ok(Session::open(key, expires_at_s))
    }

    /// Whether the session is still good for the figures; gives the name of its key.
    pub fn check_session(&self, session: &Session, now_s: i64) -> Result<String, Refusal> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let known = keys.get(&session.id).filter(|known| session.is_proved_by(&known.key));
        let known = known.filter(|_| now_s < session.expires_at_s).ok_or(Refusal::EndedSession)?;
        known.may(Scope::Query, now_s)?;
        Ok(known.key.name.clone())
    }

    /// What a login of the Postgres wire is checked against: the key of a name that may ask now, and is good for logging in.
    pub fn verifier(&self, name: &str, now_s: i64) -> Option<(KeyId, Verifier)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (id, known) = keys.iter().find(|(_, known)| known.key.name == name)?;
        let verifier = known.key.verifier()?;
        known.may(Scope::Query, now_s).ok()?;
        Some((*id, verifier))
    }

    /// Whether a key that somebody has proved to hold is still good for this.
    pub fn check_id(&self, id: KeyId, scope: Scope, now_s: i64) -> Result<(), Refusal> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&id).ok_or(Refusal::UnknownKey)?.may(scope, now_s)
    }

    /// Reads the file again if it changed. One that cannot be read changes nothing: half a file must lock nobody out.
    pub fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.stamp();
        if stamp == seen.stamp && seen.fault.is_none() {
            return;
        }
        match self.file.read() {
            Ok(keys) => {
                info!(keys = keys.len(), "API keys read again");
                self.put_in_force(keys);
                *seen = Seen { stamp, fault: None };
            }
            Err(fault) => {
                let fault = format!("{fault:#}");
                if seen.fault.as_ref() != Some(&fault) {
                    error!(error = fault, "the API keys from before stay in force");
                    self.failures.inc();
                }
                seen.fault = Some(fault);
            }
        }
    }

    fn put_in_force(&self, keys: Vec<Key>) {
        let label = |key: &Key| KeyLabel { key: key.name.clone() };
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for gone in known.values().filter(|old| keys.iter().all(|key| key.name != old.key.name)) {
            self.last_used.remove(&label(&gone.key));
        }
        let entry = |key: Key| (key.id, Known { last_used: self.last_used.get_or_create_owned(&label(&key)), key });
        *known = keys.into_iter().map(entry).collect();
    }
}

/// Looks at the file now and then, for ever.
pub(crate) async fn keep_up(keyring: Arc<Keyring>) {
    let mut looking = Looking::every(LOOK_EVERY);
    loop {
        looking.next().await;
        let keyring = keyring.clone();
        // A disk that hangs must not hang a thread that answers requests.
        if tokio::task::spawn_blocking(move || keyring.refresh()).await.is_err() {
            error!("looking at the API keys failed; it is tried again");
        }
    }
}
