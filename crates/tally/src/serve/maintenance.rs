//! What runs beside the events: merging small files, removing those no longer used, measuring the tables.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tally_lake::{CompactionSettings, Lake};
use tracing::{debug, warn};

use crate::config::LakeConfig;

/// Unused files are looked for after this many rounds of compaction.
const ROUNDS_PER_SWEEP: u64 = 60;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: &'static str,
}

pub(crate) struct Maintenance {
    lake: Lake,
    every: Duration,
    files: Family<TableLabel, Gauge>,
    rows: Family<TableLabel, Gauge>,
    bytes: Family<TableLabel, Gauge>,
    cells_bytes: Gauge,
    compactions: Family<TableLabel, Counter>,
    failures: Counter,
}

impl Maintenance {
    pub fn new(lake: Lake, config: &LakeConfig, registry: &mut Registry) -> Self {
        let maintenance = Self {
            lake,
            every: Duration::from_secs(config.compact_every_s),
            files: Family::default(),
            rows: Family::default(),
            bytes: Family::default(),
            cells_bytes: Gauge::default(),
            compactions: Family::default(),
            failures: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("tally_lake");
        registry.register("files", "Data files of the current version", maintenance.files.clone());
        registry.register("rows", "Rows of the current version", maintenance.rows.clone());
        registry.register("size_bytes", "Bytes of the current version's data files", maintenance.bytes.clone());
        registry.register("cells_bytes", "Memory of cells that reports add up", maintenance.cells_bytes.clone());
        registry.register("compactions", "Runs that merged files", maintenance.compactions.clone());
        registry.register("maintenance_failures", "Rounds of maintenance that failed", maintenance.failures.clone());
        maintenance
    }

    pub async fn run(self) {
        self.measure();
        for round in 1.. {
            tokio::time::sleep(self.every).await;
            self.compact().await;
            if round % ROUNDS_PER_SWEEP == 1 {
                self.sweep().await;
            }
            self.measure();
        }
    }

    /// Until nothing is worth merging.
    async fn compact(&self) {
        loop {
            match self.lake.compact(CompactionSettings::default()).await {
                Ok(done) if done.is_empty() => return,
                Ok(done) => {
                    for run in done {
                        self.compactions.get_or_create(&TableLabel { table: run.table }).inc();
                        debug!(
                            table = run.table,
                            files_before = run.files_before,
                            files_after = run.files_after,
                            rows = run.rows,
                            "compacted"
                        );
                    }
                }
                Err(error) => {
                    self.failures.inc();
                    warn!(%error, "compaction failed; it is tried again later");
                    return;
                }
            }
        }
    }

    async fn sweep(&self) {
        match self.lake.sweep().await {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "removed unused data files"),
            Err(error) => {
                self.failures.inc();
                warn!(%error, "cannot remove unused data files; it is tried again later");
            }
        }
    }

    fn measure(&self) {
        self.cells_bytes.set(i64::try_from(self.lake.cells_bytes()).unwrap_or(i64::MAX));
        for size in self.lake.view().sizes() {
            let label = TableLabel { table: size.name };
            let set = |gauge: &Family<TableLabel, Gauge>, value: u64| {
                gauge.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.files, size.files as u64);
            set(&self.rows, size.rows as u64);
            set(&self.bytes, size.bytes);
        }
    }
}
