//! The first stage: reads the journal and judges, until a batch is due.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tally_journal::{Journal, Reader};
use tally_model::{Clock, Device, Event, Judged, Offset, Partition, Positions, Region, decode_record};

use super::{PipelineError, PipelineSettings};
use crate::{Batch, Dedup, PipelineMetrics, RollupBuilder, judge};

const READ_RECORDS: usize = 8_192;
/// Bytes of records in a batch, which take about five times that in memory until they are committed.
const BATCH_BYTES_MAX: usize = 96 << 20;
/// Days times regions in a batch: each is a file of its own in the commit. Overshot by one read at most.
const BATCH_FILES_MAX: usize = 256;
const DAY_US: i64 = 86_400_000_000;

/// A batch whose time has come.
pub struct Due {
    pub batch: Batch,
    /// Every event acknowledged before this instant is in this batch or an earlier one.
    pub watermark_us: i64,
}

/// Everything that the decisions depend on.
pub struct Judging {
    reader: Box<dyn Reader>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    settings: PipelineSettings,
    metrics: PipelineMetrics,
    dedup: Dedup,
    position: Positions,
    watermark_us: i64,
    mark: Mark,
    open: OpenBatch,
    /// Why nothing follows what was given.
    ended: Option<PipelineError>,
}

/// What was judged since the last batch.
#[derive(Default)]
struct OpenBatch {
    batch: Batch,
    rollups: RollupBuilder,
    size: BatchSize,
    /// When its first read came back, by [`Clock::elapsed`].
    since: Option<Duration>,
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
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        settings: PipelineSettings,
        metrics: PipelineMetrics,
        dedup: Dedup,
        position: Positions,
    ) -> Result<Self, PipelineError> {
        Ok(Self {
            reader: journal.reader(&position)?,
            mark: Mark::set(clock.as_ref(), journal.as_ref()),
            journal,
            clock,
            settings,
            metrics,
            dedup,
            open: OpenBatch { batch: Batch { from: position.clone(), ..Batch::default() }, ..OpenBatch::default() },
            position,
            watermark_us: 0,
            ended: None,
        })
    }

    /// Reads once, waiting so long for the first record, and judges what came. Gives a batch if one is due; an empty one tells
    /// only how far the figures are. Where the journal ended, or holds something that cannot be read, what was judged before
    /// that is given first, and the reason with the next call.
    pub fn step(&mut self, wait: Duration) -> Result<Option<Due>, PipelineError> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        if let Err(error) = self.read(wait) {
            self.ended = Some(error);
        }
        self.move_watermark();
        let now = self.clock.elapsed();
        let waited = now.saturating_sub(*self.open.since.get_or_insert(now));
        let events = self.open.batch.events.len();
        let is_full = events >= self.settings.commit_events_max || self.open.size.is_full();
        let is_due = is_full || waited >= self.settings.commit_after || self.ended.is_some() || events == 0;
        Ok(is_due.then(|| self.close_batch()))
    }

    fn read(&mut self, wait: Duration) -> Result<(), PipelineError> {
        let room = self.settings.commit_events_max.saturating_sub(self.open.batch.events.len()).min(READ_RECORDS);
        for record in self.reader.read(room, wait)? {
            let judged = self.judge(record.partition, record.offset, &record.bytes)?;
            self.open.size.add(&judged.event, record.bytes.len());
            self.open.rollups.add(&judged.fact());
            self.open.batch.events.push(judged);
        }
        Ok(())
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

    fn close_batch(&mut self) -> Due {
        let next =
            OpenBatch { batch: Batch { from: self.position.clone(), ..Batch::default() }, ..OpenBatch::default() };
        let OpenBatch { mut batch, rollups, .. } = std::mem::replace(&mut self.open, next);
        batch.upto = self.position.clone();
        batch.cells = rollups.finish();
        self.metrics.dedup_ids.set(i64::try_from(self.dedup.len()).unwrap_or(i64::MAX));
        Due { batch, watermark_us: self.watermark_us }
    }

    fn move_watermark(&mut self) {
        if self.position.covers(&self.mark.end) {
            self.watermark_us = self.mark.at_us;
            self.mark = Mark::set(self.clock.as_ref(), self.journal.as_ref());
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
