//! The first stage: reads the journal and judges, until a batch is due.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tally_journal::{Journal, Reader, Stored};
use tally_model::{Clock, Device, Event, Judged, Positions, Reason, Region, StandIn, Verdict, stand_in};
use tracing::error;

use super::{PipelineError, PipelineSettings};
use crate::poison::{read_record, verdict_by};
use crate::{Batch, Dedup, PipelineMetrics, RollupBuilder, judge};

const READ_RECORDS: usize = 8_192;
/// Bytes of records in a batch, which take about five times that in memory until they are committed.
const BATCH_BYTES_MAX: usize = 96 << 20;
/// Days times regions in a batch: each is a file of its own in the commit. Overshot by one read at most.
const BATCH_FILES_MAX: usize = 256;
const DAY_US: i64 = 86_400_000_000;
const SECOND_US: i64 = 1_000_000;
/// 2000-01-01, the earliest time that capture takes: where a partition begins with a record that cannot be read, it has no
/// time yet.
const EARLIEST_S: i64 = 946_684_800;

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
    horizon: Horizon,
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
    undecodable: u64,
}

/// Where the journal ended at some instant: once we have read up to there, we have all that was acknowledged before it.
struct Horizon {
    at_us: i64,
    end: Positions,
}

impl Horizon {
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
            horizon: Horizon::set(clock.as_ref(), journal.as_ref()),
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
    /// only how far the figures are. Where the journal ended, what was judged before that is given first, and the reason with the
    /// next call.
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
            let judged = self.judge(&record);
            self.position.advance(record.partition, record.offset + 1);
            self.open.size.add(&judged.event, record.bytes.len());
            self.open.rollups.add(&judged.fact());
            self.open.batch.events.push(judged);
        }
        Ok(())
    }

    fn judge(&mut self, record: &Stored) -> Judged {
        let Stored { partition, offset, bytes } = record;
        let (event, device) = match read_record(bytes) {
            Ok(read) => read,
            Err(why) => return self.quarantine(record, &why),
        };
        let seen = self.dedup.partition(*partition);
        let is_first = seen.is_first(event.id, event.received_at_us);
        let judged_at_s = seen.now_s();
        let verdict = verdict_by(|| judge(&event, &device, is_first));
        Judged { partition: *partition, offset: *offset, judged_at_s, event, device, verdict }
    }

    /// A row for a record that is no event: the log goes on after it, and every offset is accounted for.
    fn quarantine(&mut self, record: &Stored, why: &str) -> Judged {
        let Stored { partition, offset, bytes } = record;
        if self.open.undecodable == 0 {
            // Once a batch: a downgrade may leave millions of them.
            error!(partition, offset, why, "a record cannot be read; it is quarantined, and may be resubmitted later");
        }
        self.open.undecodable += 1;
        let seen = self.dedup.partition(*partition);
        seen.move_on_to(EARLIEST_S);
        let judged_at_s = seen.now_s();
        let event =
            stand_in(StandIn { partition: *partition, offset: *offset, at_us: judged_at_s * SECOND_US, bytes, why });
        let verdict = Verdict::Not(Reason::Undecodable);
        Judged { partition: *partition, offset: *offset, judged_at_s, event, device: Device::NONE, verdict }
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
        if self.position.covers(&self.horizon.end) {
            self.watermark_us = self.horizon.at_us;
            self.horizon = Horizon::set(self.clock.as_ref(), self.journal.as_ref());
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
