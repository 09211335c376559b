//! Has conversions attributed while events come in: round after round, each over what was committed some moments ago.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tally_lake::{Attributor, Lake, LakeError};
use tally_model::{AttributionWindows, Clock};
use tally_pipeline::Progress;
use tokio::sync::watch;
use tracing::warn;

/// Between looks at how far the figures are.
const PAUSE: Duration = Duration::from_millis(250);
/// A round looks through all events of the window for people's clicks and views. So that rounds take a tenth of the time, each is
/// followed by a pause of so many times its own length, up to a bound; the next one takes up all that came meanwhile.
const PAUSES_OF_A_ROUND: u32 = 9;
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Before a round that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// What was received within this of each other may reach the journal in another order: a click may come in behind a conversion
/// that was received after it.
const SETTLE_US: i64 = 1_000_000;

pub(crate) struct Attribution {
    pub lake: Lake,
    pub clock: Arc<dyn Clock>,
    pub windows: AttributionWindows,
    pub progress: watch::Receiver<Progress>,
    pub metrics: AttributionMetrics,
}

#[derive(Debug, Clone)]
pub(crate) struct AttributionMetrics {
    records: Gauge,
    conversions: Counter,
    resolved: Counter,
    waiting: Gauge,
    files_searched: Counter,
    row_groups_read: Counter,
    failures: Counter,
    round_seconds: Histogram,
}

impl AttributionMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Gauge::default(),
            conversions: Counter::default(),
            resolved: Counter::default(),
            waiting: Gauge::default(),
            files_searched: Counter::default(),
            row_groups_read: Counter::default(),
            failures: Counter::default(),
            round_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
        };
        let registry = registry.sub_registry_with_prefix("tally_attribution");
        registry.register(
            "records",
            "Records of the log taken up, of all partitions together",
            metrics.records.clone(),
        );
        registry.register("conversions", "Conversions taken up", metrics.conversions.clone());
        registry.register("resolved", "Conversions that a click or view was found for", metrics.resolved.clone());
        registry.register("waiting", "Conversions whose click may still come", metrics.waiting.clone());
        registry.register("files_searched", "Files looked into for clicks", metrics.files_searched.clone());
        registry.register("row_groups_read", "Parts of them that were read", metrics.row_groups_read.clone());
        registry.register("failures", "Rounds that failed and are tried again", metrics.failures.clone());
        registry.register_with_unit("round", "Time of a round", Unit::Seconds, metrics.round_seconds.clone());
        metrics
    }
}

impl Attribution {
    pub async fn run(mut self) {
        loop {
            let Err(error) = self.follow().await else { return };
            self.metrics.failures.inc();
            warn!(%error, "attribution failed; it goes on from where the table stands");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Until something fails, or the pipeline is gone.
    async fn follow(&mut self) -> Result<(), LakeError> {
        let mut attributor = self.lake.attributor(self.windows).await?;
        let mut done = None;
        loop {
            // What is in this view was received before now; once the figures are past now, all that came before it is in too.
            let (view, now_us) = (self.lake.view(), self.clock.now_us());
            if done == Some(view.events_version()) {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            while self.progress.borrow().watermark_us < now_us + SETTLE_US {
                if self.progress.has_changed().is_err() {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
            let started = self.clock.elapsed();
            while !self.round(&mut attributor, &view).await? {}
            done = Some(view.events_version());
            let took = self.clock.elapsed().saturating_sub(started);
            tokio::time::sleep((took * PAUSES_OF_A_ROUND).min(PAUSE_MAX)).await;
        }
    }

    /// Whether all of the view is taken up.
    async fn round(&self, attributor: &mut Attributor, view: &tally_lake::LakeView) -> Result<bool, LakeError> {
        let started = self.clock.elapsed();
        let round = attributor.round(view).await?;
        self.metrics.records.set(i64::try_from(attributor.seen().total()).unwrap_or(i64::MAX));
        self.metrics.conversions.inc_by(round.conversions);
        self.metrics.resolved.inc_by(round.resolved);
        self.metrics.waiting.set(i64::try_from(round.waiting).unwrap_or(i64::MAX));
        self.metrics.files_searched.inc_by(round.searched.files);
        self.metrics.row_groups_read.inc_by(round.searched.row_groups);
        self.metrics.round_seconds.observe(self.clock.elapsed().saturating_sub(started).as_secs_f64());
        Ok(round.is_level)
    }
}
