//! The nightly recount: the days that events came in for are counted again from raw, and any difference is an alarm.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tally_lake::{Lake, LakeError, Queries};
use tally_model::{Clock, Differences};
use tracing::{error, info, warn};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After a run that could not be finished: what it lacks may be there by then, and it costs little until it is.
const RETRY_US: i64 = 3_600 * SECOND_US;

pub(crate) struct Recount {
    lake: Lake,
    queries: Queries,
    clock: Arc<dyn Clock>,
    dedup_ttl_s: u64,
    /// Seconds after midnight UTC.
    at_s: i64,
    due_us: i64,
    metrics: RecountMetrics,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct RecountMetrics {
    runs: Counter,
    failures: Counter,
    differences: Gauge,
    last_run_seconds: Gauge<f64, AtomicU64>,
}

impl RecountMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("tally_verify");
        registry.register("runs", "Scheduled recounts that came to their end", metrics.runs.clone());
        registry.register("failures", "Scheduled recounts that could not be finished", metrics.failures.clone());
        registry.register("differences", "Differences that the last recount found", metrics.differences.clone());
        registry.register_with_unit(
            "last_run_timestamp",
            "When the last recount came to its end, Unix time",
            Unit::Seconds,
            metrics.last_run_seconds.clone(),
        );
        metrics
    }
}

impl Recount {
    /// Runs each day at so many seconds after midnight UTC.
    pub fn new(lake: Lake, clock: Arc<dyn Clock>, at_s: i64, dedup_ttl_s: u64, metrics: RecountMetrics) -> Self {
        let (queries, due_us) = (lake.background_queries(), next_us(clock.now_us(), at_s));
        Self { lake, queries, clock, dedup_ttl_s, at_s, due_us, metrics }
    }

    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look().await;
        }
    }

    /// Recounts if it is time.
    async fn look(&mut self) {
        let now_us = self.clock.now_us();
        if now_us < self.due_us {
            return;
        }
        match self.recount().await {
            Ok(()) => {
                self.metrics.runs.inc();
                self.metrics.last_run_seconds.set(self.clock.now_us() as f64 / SECOND_US as f64);
                self.due_us = next_us(self.clock.now_us(), self.at_s);
            }
            Err(cause) => {
                self.metrics.failures.inc();
                self.due_us = now_us + RETRY_US;
                warn!(%cause, "the recount could not be finished; it is tried again in an hour");
            }
        }
    }

    /// Day by day, so that it holds the cells of one day at a time. Where anything differs, the same days come again next time.
    async fn recount(&self) -> Result<(), LakeError> {
        let touched = self.lake.touched().await?;
        let mut found = Differences::default();
        let mut cells = 0;
        for day in &touched.days {
            let report = self.queries.check_days(*day, self.dedup_ttl_s).await?;
            cells += report.cells_compared;
            found.add(report.found);
        }
        self.metrics.differences.set(i64::try_from(found.differences_total).unwrap_or(i64::MAX));
        let days = touched.days.len();
        let Some(first) = found.differences.first() else {
            info!(days, cells, events_version = touched.events_version, "recounted from raw events; everything holds");
            return self.lake.note_recounted(&touched).await;
        };
        error!(
            differences = found.differences_total,
            first = first.place,
            expected = first.expected,
            found = first.found,
            days,
            "figures differ from the raw events; see `tally verify --recount`, and mend them with `tally rebuild`"
        );
        Ok(())
    }
}

/// The first instant after `now_us` at a time of day.
fn next_us(now_us: i64, at_s: i64) -> i64 {
    let today_us = now_us - now_us.rem_euclid(DAY_US) + at_s * SECOND_US;
    if today_us > now_us { today_us } else { today_us + DAY_US }
}

#[cfg(test)]
mod tests;
