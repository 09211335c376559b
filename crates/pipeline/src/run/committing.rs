//! The second stage: one batch after the other into the lake, each tried until it is in.

use std::sync::Arc;
use std::time::Duration;

use tally_journal::Journal;
use tally_model::{Class, Clock, Kind};
use tokio::sync::watch;
use tracing::warn;

use super::{Due, PipelineError, Progress};
use crate::metrics::VerdictLabels;
use crate::{Batch, PipelineMetrics, Sink, SinkError};

/// Waits between tries of a commit double from the first to the last of these.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

pub struct Committing<S> {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) sink: S,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: PipelineMetrics,
    pub(super) progress: watch::Sender<Progress>,
}

impl<S: Sink> Committing<S> {
    /// Commits the events and then their cells, and lets the journal go as far as both are in.
    pub async fn commit(&mut self, due: &mut Due<S::Rows>) -> Result<(), PipelineError> {
        if due.batch.events() > 0 {
            let started = self.clock.elapsed();
            let version = retrying(&self.metrics, async || self.sink.commit_events(&mut due.batch).await).await?;
            retrying(&self.metrics, async || self.sink.commit_cells(version, &due.batch.cells).await).await?;
            self.journal.release(&due.batch.upto)?;
            self.observe(&due.batch, self.clock.elapsed().saturating_sub(started));
        }
        self.metrics.watermark_seconds.set(due.watermark_us as f64 / 1e6);
        let lag = self.journal.end().total().saturating_sub(due.batch.upto.total());
        self.metrics.lag_records.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.progress.send_replace(Progress {
            recovered: true,
            committed: due.batch.upto.clone(),
            watermark_us: due.watermark_us,
        });
        Ok(())
    }

    fn observe(&self, batch: &Batch<S::Rows>, elapsed: Duration) {
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(elapsed.as_secs_f64());
        self.metrics.batch_events.observe(batch.events() as f64);
        for kind in Kind::ALL {
            for class in Class::ALL {
                let count = batch.counts.of(kind, class);
                if count > 0 {
                    let labels = VerdictLabels { kind: kind.as_str(), class: class.as_str() };
                    self.metrics.verdicts.get_or_create(&labels).inc_by(count);
                }
            }
        }
    }
}

/// Tries until it succeeds: what is in the journal must get in, however long the store is away. Fatal errors end it.
pub(super) async fn retrying<T>(
    metrics: &PipelineMetrics,
    mut attempt: impl AsyncFnMut() -> Result<T, SinkError>,
) -> Result<T, PipelineError> {
    let mut wait = RETRY_FIRST;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(SinkError::Fatal(cause)) => return Err(PipelineError::Sink(cause)),
            Err(SinkError::Retry(error)) => {
                metrics.commit_retries.inc();
                warn!(%error, wait_ms = wait.as_millis() as u64, "commit failed; it is tried again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LAST);
            }
        }
    }
}
