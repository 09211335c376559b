//! The exports of a data folder: a file with the rows of each, and one beside it that says what it is, so that a restart knows
//! which are whole and which broke off.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tally_model::{Clock, Entropy, Format};
use tokio::task::AbortHandle;
use tracing::{info, warn};
use utoipa::ToSchema;

use crate::ApiError;

/// Exports that are kept, running ones included.
const EXPORTS_MAX: usize = 100;
/// How long one is kept.
const KEPT_FOR_S: i64 = 24 * 3_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExportState)]
pub(crate) enum State {
    /// For its turn: one runs at a time.
    Waiting,
    Running,
    Done,
    Failed,
}

/// What is known of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Export {
    pub id: String,
    pub state: State,
    pub format: String,
    /// Written so far.
    pub bytes: u64,
    pub created_at_s: i64,
    pub expires_at_s: i64,
    /// Why there is no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ExportMetrics {
    kept: Gauge,
    kept_bytes: Gauge,
    pub failures: Counter,
}

impl ExportMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("tally_exports");
        registry.register("kept", "Exports that are kept, running ones included", metrics.kept.clone());
        registry.register("kept_bytes", "Bytes of exports that are kept", metrics.kept_bytes.clone());
        registry.register("failures", "Exports that failed", metrics.failures.clone());
        metrics
    }
}

pub(crate) struct Store {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub metrics: ExportMetrics,
    /// Locked for a look or a change, never while anything is written.
    exports: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    export: Export,
    /// Of the task that makes it.
    running: Option<AbortHandle>,
}

impl Store {
    /// What an earlier process left: whole exports go on to be there, and of the others it is said that they broke off.
    pub fn open(
        folder: PathBuf,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        registry: &mut Registry,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut exports = BTreeMap::new();
        for file in std::fs::read_dir(&folder)?.flatten() {
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != "state") {
                continue;
            }
            let read = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Export>(&text).ok());
            let Some(export) = read.filter(|export| path.file_stem().is_some_and(|stem| *stem == *export.id)) else {
                warn!(file = %path.display(), "an export cannot be read and is removed");
                let _ = std::fs::remove_file(&path);
                continue;
            };
            exports.insert(export.id.clone(), Entry { export, running: None });
        }
        let metrics = ExportMetrics::register(registry);
        let store = Self { folder, clock, entropy, metrics, exports: Mutex::new(exports) };
        for export in store.list() {
            let kept = std::fs::metadata(store.file(&export)).map(|about| about.len()).ok();
            if export.state == State::Done && kept == Some(export.bytes) {
                continue;
            }
            if export.state != State::Failed {
                store.fail(&export.id, "the server was stopped before it was whole; make it again");
            }
        }
        store.remove_strangers()?;
        store.remove_expired();
        Ok(store)
    }

    /// Files of which nothing is known, such as those of exports that broke off.
    fn remove_strangers(&self) -> std::io::Result<()> {
        let known: Vec<PathBuf> =
            self.list().iter().flat_map(|export| [self.file(export), self.state_file(&export.id)]).collect();
        for file in std::fs::read_dir(&self.folder)?.flatten() {
            if !known.contains(&file.path()) {
                let _ = std::fs::remove_file(file.path());
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn file(&self, export: &Export) -> PathBuf {
        self.folder.join(format!("{}.{}", export.id, export.format))
    }

    fn state_file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.state"))
    }

    fn now_s(&self) -> i64 {
        self.clock.now_us().div_euclid(1_000_000)
    }

    pub fn list(&self) -> Vec<Export> {
        self.lock().values().map(|entry| entry.export.clone()).collect()
    }

    pub fn get(&self, id: &str) -> Option<Export> {
        self.remove_expired();
        self.lock().get(id).map(|entry| entry.export.clone())
    }

    /// A new one, which waits.
    pub fn create(&self, format: Format) -> Result<Export, ApiError> {
        self.remove_expired();
        let now_s = self.now_s();
        let export = Export {
            // Nobody guesses it.
            id: format!("{:032x}", self.entropy.bits()),
            state: State::Waiting,
            format: format.as_str().to_owned(),
            bytes: 0,
            created_at_s: now_s,
            expires_at_s: now_s + KEPT_FOR_S,
            error: None,
        };
        let mut exports = self.lock();
        if exports.len() >= EXPORTS_MAX {
            return Err(ApiError::Waiting(format!(
                "there are {EXPORTS_MAX} exports; delete some (DELETE /v1/exports/..)"
            )));
        }
        exports.insert(export.id.clone(), Entry { export: export.clone(), running: None });
        drop(exports);
        self.keep(&export);
        Ok(export)
    }

    pub fn is_made_by(&self, id: &str, running: AbortHandle) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.running = Some(running);
        }
    }

    pub fn progress(&self, id: &str, state: State, bytes: u64) {
        let changed = self.lock().get_mut(id).map(|entry| {
            let is_new = entry.export.state != state;
            entry.export.state = state;
            entry.export.bytes = bytes;
            (is_new, entry.export.clone())
        });
        if let Some((true, export)) = changed {
            self.keep(&export);
        }
    }

    pub fn fail(&self, id: &str, why: &str) {
        let failed = self.lock().get_mut(id).map(|entry| {
            entry.export.state = State::Failed;
            entry.export.bytes = 0;
            entry.export.error = Some(why.to_owned());
            entry.export.clone()
        });
        if let Some(export) = failed {
            self.metrics.failures.inc();
            let _ = std::fs::remove_file(self.file(&export));
            self.keep(&export);
        }
    }

    /// Stops it if it runs, and removes its file. Whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        let Some(entry) = self.lock().remove(id) else { return false };
        if let Some(running) = entry.running {
            running.abort();
        }
        let _ = std::fs::remove_file(self.file(&entry.export));
        let _ = std::fs::remove_file(self.state_file(id));
        self.count();
        true
    }

    pub fn remove_expired(&self) {
        let now_s = self.now_s();
        let expired: Vec<String> =
            self.list().into_iter().filter(|export| export.expires_at_s <= now_s).map(|export| export.id).collect();
        for id in expired {
            self.remove(&id);
            info!(id, "an export expired");
        }
    }

    /// Writes down what is known of it: half a file is never found under the name.
    fn keep(&self, export: &Export) {
        let path = self.state_file(&export.id);
        let part = path.with_extension("part");
        let text = serde_json::to_vec(export).unwrap_or_default();
        if let Err(error) = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &path)) {
            warn!(%error, id = export.id, "an export's state cannot be written; a restart will not know of it");
        }
        self.count();
    }

    fn count(&self) {
        let exports = self.lock();
        let bytes: u64 = exports.values().map(|entry| entry.export.bytes).sum();
        self.metrics.kept.set(i64::try_from(exports.len()).unwrap_or(i64::MAX));
        self.metrics.kept_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
