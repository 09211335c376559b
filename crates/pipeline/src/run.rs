//! The one loop: reads the journal, asks the rules, commits. Two stages, so that judging goes on while a commit is synced.
//!
//! A thread reads and judges until a batch is due ([`Judging`]), and hands it over; the committer commits one batch at a time
//! and retries until it is in ([`Committing`]). After a restart both begin where the sink says that the log is committed.

mod committing;
mod judging;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tally_journal::{Journal, JournalError};
use tally_model::{Clock, Offset, Partition, Positions};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

pub use self::committing::Committing;
pub use self::judging::{Due, Judging};

use self::committing::retrying;
use self::judging::Memory;
use crate::double_click::ToldClicks;
use crate::{
    Dedup, DedupError, DedupOptions, DoubleClicks, Known, PipelineMetrics, RollupBuilder, Rows, Sighting, Sink,
    Urgency, Wanted,
};

/// How long one read waits for the first record: bounds how late a stop is noticed.
const READ_WAIT: Duration = Duration::from_millis(100);
/// Where few records come at a time, some hundred are waited for: a wake-up for each sync of the journal costs more than to judge
/// what it brought, and takes the CPU from those who answer. A commit is due after 250 ms at the soonest.
const GATHER_TIME: Duration = Duration::from_millis(5);
/// Between tries where the journal cannot be read.
const READ_RETRY: Duration = Duration::from_secs(1);
/// Ids put back at once, so that their places in memory are asked for ahead of their turn.
const RESTORED_AT_ONCE: usize = 4_096;

#[derive(Debug, Clone, Copy)]
pub struct PipelineSettings {
    /// A batch is committed when its first event has waited for this long..
    pub commit_after: Duration,
    /// ..or when it has this many events.
    pub commit_events_max: usize,
    pub dedup_ttl_s: u64,
    /// Clicks of one person on one ad that occurred less than this apart are one; 0 turns the rule off.
    pub double_click_ms: u64,
}

/// How far the figures are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Whether what an earlier run left was taken up; from then on events are judged as they come.
    pub recovered: bool,
    pub committed: Positions,
    /// Every event acknowledged before this instant is in the figures.
    pub watermark_us: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Dedup(#[from] DedupError),
    #[error("cannot commit to the lake: {0}")]
    Sink(String),
    #[error(
        "the journal ends at offset {end} of partition {partition}, but the lake has committed up to {committed}: this is not the journal that the lake was filled from; put the right one back"
    )]
    JournalBehind { partition: Partition, end: Offset, committed: Offset },
    #[error("the judging thread ended unexpectedly")]
    Stopped,
}

pub struct Pipeline<S> {
    pub journal: Arc<dyn Journal>,
    pub sink: S,
    pub clock: Arc<dyn Clock>,
    pub settings: PipelineSettings,
    pub dedup: DedupOptions,
    pub metrics: PipelineMetrics,
    pub progress: watch::Sender<Progress>,
    /// Who waits for the figures.
    pub urgency: Arc<Urgency>,
}

impl<S: Sink> Pipeline<S> {
    /// Runs until the journal is closed and everything in it is committed.
    pub async fn run(mut self) -> Result<(), PipelineError> {
        loop {
            let (settings, dedup, urgency) = (self.settings, self.dedup.clone(), self.urgency.clone());
            let (judging, committing) = self.start().await?;
            let (committing, ended) = both_stages(judging, committing).await?;
            let Err(PipelineError::Dedup(error @ DedupError::Lost { .. })) = ended else { return ended };
            // The file is gone, so this ends: what it had is restored from what is committed, as at any start.
            warn!(%error, "judging begins again from what is committed");
            let Committing { journal, sink, clock, metrics, progress } = committing;
            metrics.dedup_restarts.inc();
            self = Self { journal, sink, clock, settings, dedup, metrics, progress, urgency };
        }
    }

    /// Brings the rollups and the dedup state to exactly what the lake has committed, and gives the two stages. Whoever
    /// drives them hands every batch that is due from the first to the second, in order.
    pub async fn start(mut self) -> Result<(Judging<S::Rows>, Committing<S>), PipelineError> {
        self.count_what_a_crash_left_out().await?;
        let committed = self.sink.committed();
        let end = self.journal.end();
        for (partition, committed) in committed.iter() {
            if committed > end.next(partition) {
                return Err(PipelineError::JournalBehind { partition, end: end.next(partition), committed });
            }
        }
        let memory = self.restore(&committed).await?;
        // What the last run committed and had no time to let go. It is safe to: a sink makes what it was opened at durable first.
        self.journal.release(&committed)?;
        info!(
            committed = committed.total(),
            to_replay = end.total().saturating_sub(committed.total()),
            ids = memory.dedup.len(),
            files_of_ids = memory.dedup.runs(),
            "pipeline recovered"
        );
        let Self { journal, sink, clock, settings, metrics, progress, urgency, .. } = self;
        let judging =
            Judging::new(journal.clone(), clock.clone(), settings, metrics.clone(), memory, committed.clone())?
                .with_urgency(urgency);
        progress.send_modify(|progress| {
            progress.recovered = true;
            progress.committed = committed;
        });
        Ok((judging, Committing { journal, sink, clock, metrics, progress }))
    }

    async fn count_what_a_crash_left_out(&mut self) -> Result<(), PipelineError> {
        for version in retrying(&self.metrics, async || self.sink.versions_to_count().await).await? {
            let cells = retrying(&self.metrics, async || {
                let mut rollups = RollupBuilder::default();
                self.sink.facts(version, &mut |fact| rollups.add(fact)).await?;
                Ok(rollups.finish())
            });
            let cells = cells.await?;
            retrying(&self.metrics, async || self.sink.commit_cells(version, &cells).await).await?;
            info!(version, cells = cells.len(), "counted a version that a crash had left out");
        }
        Ok(())
    }

    async fn restore(&mut self, committed: &Positions) -> Result<Memory, PipelineError> {
        let PipelineSettings { dedup_ttl_s, double_click_ms, .. } = self.settings;
        let mut dedup = Dedup::open(dedup_ttl_s, self.journal.partitions(), &self.dedup, committed)?;
        let wanted = Wanted {
            ids_from_s: dedup.missing_from_s(),
            ids_for_s: dedup.remembered_for_s(),
            clicks_for_s: DoubleClicks::new(double_click_ms).memory_s(),
        };
        let mut told = ToldClicks::default();
        let mut known = Vec::with_capacity(RESTORED_AT_ONCE);
        let newest = retrying(&self.metrics, async || {
            // A second try tells some clicks again; ids that are told twice change nothing.
            told = ToldClicks::default();
            let mut restore = |Sighting { partition, id, judged_at_s, click }: Sighting| {
                known.push(Known { partition, id, first_seen_s: judged_at_s });
                if known.len() == known.capacity() {
                    dedup.restore(&known);
                    known.clear();
                }
                if let Some(click) = click {
                    told.tell(click, judged_at_s);
                }
            };
            self.sink.sightings(wanted, &mut restore).await
        });
        let newest = newest.await?;
        dedup.restore(&known);
        let log_time_s = newest.iter().map(|(_, judged_at_s)| *judged_at_s).max().unwrap_or(i64::MIN);
        for (partition, judged_at_s) in newest {
            dedup.move_on_to(partition, judged_at_s);
        }
        let clicks = DoubleClicks::restored(double_click_ms, told, log_time_s);
        self.metrics.observe_memory(&dedup, &clicks);
        Ok(Memory { dedup, clicks })
    }
}

/// Drives the two stages until the first has ended and all that it gave is committed.
async fn both_stages<S: Sink>(
    judging: Judging<S::Rows>,
    mut committing: Committing<S>,
) -> Result<(Committing<S>, Result<(), PipelineError>), PipelineError> {
    let (to_commit, mut batches) = mpsc::channel(1);
    let read_retries = committing.metrics.read_retries.clone();
    let stage = std::thread::Builder::new().name("tally-judge".into());
    let judging = stage
        .spawn(move || judge_until_closed(judging, &to_commit, &read_retries))
        .map_err(|error| PipelineError::Sink(format!("cannot start the judging thread: {error}")))?;
    while let Some(mut due) = batches.recv().await {
        committing.commit(&mut due).await?;
    }
    let joined = tokio::task::spawn_blocking(move || judging.join()).await;
    let ended = joined.map_err(|_| PipelineError::Stopped)?.map_err(|_| PipelineError::Stopped)?;
    Ok((committing, ended))
}

fn judge_until_closed<R: Rows>(
    mut judging: Judging<R>,
    to_commit: &mpsc::Sender<Due<R>>,
    read_retries: &Counter,
) -> Result<(), PipelineError> {
    loop {
        match judging.step(READ_WAIT) {
            // For want of file descriptors, say. The records are there, and none of them was passed over.
            Err(PipelineError::Journal(error @ JournalError::Io { .. })) => {
                read_retries.inc();
                warn!(%error, wait_ms = READ_RETRY.as_millis() as u64, "reading the journal failed; it is tried again");
                std::thread::sleep(READ_RETRY);
            }
            Ok(None) if judging.is_idle() => std::thread::sleep(GATHER_TIME),
            Ok(None) => {}
            Ok(Some(due)) => {
                if to_commit.blocking_send(due).is_err() {
                    return Ok(());
                }
            }
            Err(PipelineError::Journal(JournalError::Closed)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
