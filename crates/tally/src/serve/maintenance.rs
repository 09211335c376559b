//! What runs beside the events: merging small files, removing those no longer used, measuring the tables.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tally_lake::{CompactionSettings, Lake};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config::LakeConfig;

/// Unused files are looked for once in the time of so many rounds of compaction.
const ROUNDS_PER_SWEEP: u32 = 60;

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
        let mut swept: Option<Instant> = None;
        loop {
            tokio::time::sleep(self.every).await;
            // Under load there may be something to merge for hours: what else is to be done does not wait for its end.
            while self.compact().await {
                self.sweep_if_due(&mut swept).await;
            }
            self.sweep_if_due(&mut swept).await;
            self.measure();
        }
    }

    /// Merges one group of files of each table, and says whether there was one.
    async fn compact(&self) -> bool {
        match self.lake.compact(CompactionSettings::default()).await {
            Ok(done) => {
                for run in &done {
                    self.compactions.get_or_create(&TableLabel { table: run.table }).inc();
                    debug!(
                        table = run.table,
                        files_before = run.files_before,
                        files_after = run.files_after,
                        rows = run.rows,
                        "compacted"
                    );
                }
                self.measure();
                !done.is_empty()
            }
            Err(error) => {
                self.failures.inc();
                warn!(%error, "compaction failed; it is tried again later");
                false
            }
        }
    }

    async fn sweep_if_due(&self, swept: &mut Option<Instant>) {
        if swept.is_none_or(|at| at.elapsed() >= self.every * ROUNDS_PER_SWEEP) {
            self.sweep().await;
            *swept = Some(Instant::now());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tally_lake::EventRows;
    use tally_model::{Cells, Device, Event, Judged, Kind, ManualClock, Positions, Verdict};

    const T0_US: i64 = 1_700_000_000_000_000;
    const DAY_US: i64 = 86_400_000_000;

    #[tokio::test]
    async fn the_size_of_the_tables_is_known_after_each_merge_while_there_is_more_to_merge() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path(), 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
        for offset in 0..8 {
            let of_day = |days_ago: i64| {
                let at_us = T0_US - days_ago * DAY_US;
                let event = Event::new(uuid::Uuid::from_u128(7), Kind::Click, at_us, "c", "a");
                let judged_at_s = T0_US / 1_000_000;
                Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict: Verdict::Counted }
            };
            let mut rows = EventRows::from_iter(&[of_day(0), of_day(1)]);
            let next = |offset| Positions::from_offsets(vec![offset]);
            let version = lake.commit_events(&mut rows, &next(offset), &next(offset + 1)).await.unwrap();
            lake.commit_cells(version, &Cells::default()).await.unwrap();
        }
        let maintenance = Maintenance::new(lake, &LakeConfig { compact_every_s: 10 }, &mut Registry::default());
        let files = || maintenance.files.get_or_create(&TableLabel { table: "events" }).get();
        maintenance.measure();
        assert_eq!(files(), 16);
        assert!(maintenance.compact().await);
        assert_eq!(files(), 9, "one day is merged, the other is still to come");
        assert!(maintenance.compact().await);
        assert_eq!(files(), 2);
        assert!(!maintenance.compact().await);
    }
}
