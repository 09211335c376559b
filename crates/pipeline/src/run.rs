//! The one loop: reads the journal, asks the rules, commits. Two stages, so that judging goes on while a commit is synced.
//!
//! A thread reads and judges until a batch is due, and hands it over; the committer commits one batch at a time and retries
//! until it is in. After a restart both begin where the sink says that the log is committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_journal::{Journal, JournalError, Reader};
use tally_model::{Clock, DecodeError, Device, Event, Judged, Offset, Partition, Positions, Region, decode_record};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::metrics::VerdictLabels;
use crate::{Batch, Dedup, PipelineMetrics, RollupBuilder, Sink, SinkError, judge};

/// How long one read waits for the first record: bounds how late a stop is noticed.
const READ_WAIT: Duration = Duration::from_millis(100);
const READ_RECORDS: usize = 8_192;
/// Bytes of records in a batch, which take about five times that in memory until they are committed.
const BATCH_BYTES_MAX: usize = 96 << 20;
/// Days times regions in a batch: each is a file of its own in the commit. Overshot by one read at most.
const BATCH_FILES_MAX: usize = 256;
const DAY_US: i64 = 86_400_000_000;
/// Waits between tries of a commit double from the first to the last of these.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub struct PipelineSettings {
    /// A batch is committed when its first event has waited for this long..
    pub commit_after: Duration,
    /// ..or when it has this many events.
    pub commit_events_max: usize,
    pub dedup_ttl_s: u64,
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
    #[error("cannot commit to the lake: {0}")]
    Sink(String),
    #[error("cannot read the record at partition {partition}, offset {offset}: {cause}")]
    Record { partition: Partition, offset: Offset, cause: DecodeError },
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
    pub metrics: PipelineMetrics,
    pub progress: watch::Sender<Progress>,
}

impl<S: Sink> Pipeline<S> {
    /// Runs until the journal is closed and everything in it is committed.
    pub async fn run(mut self) -> Result<(), PipelineError> {
        let judging = self.recover().await?;
        let committed = judging.position.clone();
        self.progress.send_replace(Progress { recovered: true, committed, watermark_us: 0 });
        let (to_commit, mut batches) = mpsc::channel(1);
        let stage = std::thread::Builder::new().name("tally-judge".into());
        let judging = stage
            .spawn(move || judging.run(&to_commit))
            .map_err(|error| PipelineError::Sink(format!("cannot start the judging thread: {error}")))?;
        while let Some(due) = batches.recv().await {
            self.commit(&due).await?;
        }
        let joined = tokio::task::spawn_blocking(move || judging.join()).await;
        joined.map_err(|_| PipelineError::Stopped)?.map_err(|_| PipelineError::Stopped)?
    }

    /// Brings the rollups and the dedup state to exactly what the lake has committed.
    async fn recover(&mut self) -> Result<Judging, PipelineError> {
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
        let committed = self.sink.committed();
        let end = self.journal.end();
        for (partition, committed) in committed.iter() {
            if committed > end.next(partition) {
                return Err(PipelineError::JournalBehind { partition, end: end.next(partition), committed });
            }
        }
        let mut dedup = Dedup::new(self.settings.dedup_ttl_s);
        let mut restore = |sighting: crate::Sighting| {
            dedup.partition(sighting.partition).restore(sighting.id, sighting.judged_at_s);
        };
        let ttl_s = self.settings.dedup_ttl_s;
        // A second try restores some ids again, which changes nothing.
        let newest = retrying(&self.metrics, async || self.sink.sightings(ttl_s, &mut restore).await).await?;
        for (partition, judged_at_s) in newest {
            dedup.partition(partition).move_on_to(judged_at_s);
        }
        self.metrics.dedup_ids.set(i64::try_from(dedup.len()).unwrap_or(i64::MAX));
        info!(
            committed = committed.total(),
            to_replay = end.total().saturating_sub(committed.total()),
            ids = dedup.len(),
            "pipeline recovered"
        );
        Ok(Judging {
            reader: self.journal.reader(&committed)?,
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            settings: self.settings,
            metrics: self.metrics.clone(),
            dedup,
            position: committed,
            watermark_us: 0,
            mark: Mark::set(self.clock.as_ref(), self.journal.as_ref()),
        })
    }

    async fn commit(&mut self, due: &Due) -> Result<(), PipelineError> {
        if !due.batch.events.is_empty() {
            let started = Instant::now();
            let version = retrying(&self.metrics, async || self.sink.commit_events(&due.batch).await).await?;
            retrying(&self.metrics, async || self.sink.commit_cells(version, &due.batch.cells).await).await?;
            self.journal.release(&due.batch.upto)?;
            self.observe(&due.batch, started.elapsed());
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

    fn observe(&self, batch: &Batch, elapsed: Duration) {
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(elapsed.as_secs_f64());
        self.metrics.batch_events.observe(batch.events.len() as f64);
        for judged in &batch.events {
            let labels = VerdictLabels { kind: judged.event.kind.as_str(), class: judged.verdict.class().as_str() };
            self.metrics.verdicts.get_or_create(&labels).inc();
        }
    }
}

/// Tries until it succeeds: what is in the journal must get in, however long the store is away. Fatal errors end it.
async fn retrying<T>(
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

/// What bounds a batch besides its events: their bytes, and the files that they will be written to.
#[derive(Debug, Default)]
struct BatchSize {
    record_bytes: usize,
    days_and_regions: HashSet<(i64, Region)>,
}

impl BatchSize {
    fn add(&mut self, event: &Event, record_bytes: usize) {
        self.record_bytes += record_bytes;
        self.days_and_regions.insert((event.occurred_at_us.div_euclid(DAY_US), event.region));
    }

    fn is_full(&self) -> bool {
        self.record_bytes >= BATCH_BYTES_MAX || self.days_and_regions.len() >= BATCH_FILES_MAX
    }
}

/// A batch whose time has come.
struct Due {
    batch: Batch,
    watermark_us: i64,
}

/// The first stage: everything that the decisions depend on.
struct Judging {
    reader: Box<dyn Reader>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    settings: PipelineSettings,
    metrics: PipelineMetrics,
    dedup: Dedup,
    position: Positions,
    watermark_us: i64,
    mark: Mark,
}

/// Where the journal ended at some instant: once we have read up to there, we have all that was acknowledged before it.
struct Mark {
    at_us: i64,
    end: Positions,
}

impl Mark {
    fn set(clock: &dyn Clock, journal: &dyn Journal) -> Self {
        // The clock first: what is acknowledged before that is below the end that we see after it.
        let at_us = clock.now_us();
        Self { at_us, end: journal.end() }
    }
}

impl Judging {
    fn run(mut self, to_commit: &mpsc::Sender<Due>) -> Result<(), PipelineError> {
        loop {
            let (due, ended) = self.next_batch();
            if to_commit.blocking_send(due).is_err() {
                return Ok(());
            }
            match ended {
                None => {}
                Some(PipelineError::Journal(JournalError::Closed)) => return Ok(()),
                Some(error) => return Err(error),
            }
        }
    }

    /// Reads and judges until a batch is due; an empty one tells only how far the figures are. What was judged before the
    /// journal ended, or held something that cannot be read, is given together with that reason.
    fn next_batch(&mut self) -> (Due, Option<PipelineError>) {
        let mut batch = Batch { from: self.position.clone(), ..Batch::default() };
        let mut rollups = RollupBuilder::default();
        let mut size = BatchSize::default();
        let mut first_read: Option<Instant> = None;
        loop {
            let room = self.settings.commit_events_max.saturating_sub(batch.events.len()).min(READ_RECORDS);
            let (records, mut ended) = match self.reader.read(room, READ_WAIT) {
                Ok(records) => (records, None),
                Err(error) => (Vec::new(), Some(error.into())),
            };
            for record in records {
                match self.judge(record.partition, record.offset, &record.bytes) {
                    Ok(judged) => {
                        size.add(&judged.event, record.bytes.len());
                        rollups.add(&judged.fact());
                        batch.events.push(judged);
                    }
                    Err(error) => {
                        ended = Some(error);
                        break;
                    }
                }
            }
            self.move_watermark();
            let is_full = batch.events.len() >= self.settings.commit_events_max || size.is_full();
            let is_late = first_read.get_or_insert_with(Instant::now).elapsed() >= self.settings.commit_after;
            if is_full || is_late || ended.is_some() || batch.events.is_empty() {
                batch.upto = self.position.clone();
                batch.cells = rollups.finish();
                self.metrics.dedup_ids.set(i64::try_from(self.dedup.len()).unwrap_or(i64::MAX));
                return (Due { batch, watermark_us: self.watermark_us }, ended);
            }
        }
    }

    fn judge(&mut self, partition: Partition, offset: Offset, bytes: &[u8]) -> Result<Judged, PipelineError> {
        let event = decode_record(bytes).map_err(|cause| PipelineError::Record { partition, offset, cause })?;
        let seen = self.dedup.partition(partition);
        let is_first = seen.is_first(event.id, event.received_at_us);
        let judged_at_s = seen.now_s();
        let device = Device::of(event.user_agent.as_deref());
        let verdict = judge(&event, &device, is_first);
        self.position.advance(partition, offset + 1);
        Ok(Judged { partition, offset, judged_at_s, event, device, verdict })
    }

    fn move_watermark(&mut self) {
        if self.position.covers(&self.mark.end) {
            self.watermark_us = self.mark.at_us;
            self.mark = Mark::set(self.clock.as_ref(), self.journal.as_ref());
        }
    }
}

#[cfg(test)]
mod tests;
