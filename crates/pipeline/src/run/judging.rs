//! The first stage: reads the journal and judges, until a batch is due.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use tally_journal::{Journal, Reader, Stored};
use tally_model::{Clock, Device, Event, Judged, Positions, Reason, Region, StandIn, Verdict, stand_in};
use tracing::error;

use super::{PipelineError, PipelineSettings};
use crate::agents::Agents;
use crate::poison::{read_record, verdict_by};
use crate::{
    Arrival, Batch, Dedup, DoubleClicks, PersonsClick, PipelineMetrics, RollupBuilder, Rows, Sighted, Urgency, judge,
};

const READ_RECORDS: usize = 8_192;
/// Events decoded at once, before the first of them is judged: as many as the processor's nearest caches hold, and enough for their
/// ids to be looked up together.
const DECODED_EVENTS: usize = 128;
/// Whoever gets fewer than so many at once is level with the journal.
const FEW_RECORDS: usize = READ_RECORDS / 8;
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
pub struct Due<R> {
    pub batch: Batch<R>,
    /// Every event acknowledged before this instant is in this batch or an earlier one.
    pub watermark_us: i64,
}

/// What decisions depend on besides the record: a function of the log up to where it is judged.
pub(super) struct Memory {
    pub dedup: Dedup,
    pub clicks: DoubleClicks,
}

pub struct Judging<R> {
    reader: Box<dyn Reader>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    settings: PipelineSettings,
    urgency: Arc<Urgency>,
    metrics: PipelineMetrics,
    memory: Memory,
    agents: Agents,
    position: Positions,
    watermark_us: i64,
    horizon: Horizon,
    open: OpenBatch<R>,
    /// Whether the last read gave few records, and left nothing else to do.
    is_idle: bool,
    /// Why nothing follows what was given.
    ended: Option<PipelineError>,
}

/// A record that is an event.
struct Readable<'a> {
    record: &'a Stored,
    event: Event<&'a str>,
    device: Device,
}

/// What was judged since the last batch.
#[derive(Default)]
struct OpenBatch<R> {
    batch: Batch<R>,
    rollups: RollupBuilder,
    size: BatchSize,
    /// When its first read came back, by [`Clock::elapsed`].
    since: Option<Duration>,
    undecodable: u64,
}

impl<R: Rows> OpenBatch<R> {
    fn from(from: Positions) -> Self {
        Self { batch: Batch { from, ..Batch::default() }, ..Self::default() }
    }
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

impl<R: Rows> Judging<R> {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        settings: PipelineSettings,
        metrics: PipelineMetrics,
        memory: Memory,
        position: Positions,
    ) -> Result<Self, PipelineError> {
        Ok(Self {
            reader: journal.reader(&position)?,
            horizon: Horizon::set(clock.as_ref(), journal.as_ref()),
            journal,
            clock,
            settings,
            urgency: Arc::default(),
            metrics,
            memory,
            agents: Agents::default(),
            open: OpenBatch::from(position.clone()),
            position,
            watermark_us: 0,
            is_idle: false,
            ended: None,
        })
    }

    /// Hurries for those who wait.
    pub(super) fn with_urgency(self, urgency: Arc<Urgency>) -> Self {
        Self { urgency, ..self }
    }

    /// Reads once, waiting so long for the first record, and judges what came. Gives a batch if one is due; an empty one tells
    /// only how far the figures are. Where the journal ended, what was judged before that is given first, and the reason with the
    /// next call.
    pub fn step(&mut self, wait: Duration) -> Result<Option<Due<R>>, PipelineError> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        if let Err(error) = self.read(wait) {
            self.ended = Some(error);
        }
        self.move_watermark();
        let now = self.clock.elapsed();
        let waited = now.saturating_sub(*self.open.since.get_or_insert(now));
        let events = self.open.batch.events();
        let is_full = events >= self.settings.commit_events_max || self.open.size.is_full();
        let is_due = is_full
            || waited >= self.urgency.commit_after(self.settings.commit_after)
            || self.ended.is_some()
            || events == 0;
        Ok(is_due.then(|| self.close_batch()))
    }

    /// Whether more records would be worth a moment's wait.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle
    }

    fn read(&mut self, wait: Duration) -> Result<(), PipelineError> {
        let room = self.settings.commit_events_max.saturating_sub(self.open.batch.events()).min(READ_RECORDS);
        let records = self.reader.read(room, wait)?;
        let read_few = records.len() < FEW_RECORDS;
        let mut readable = Vec::with_capacity(DECODED_EVENTS.min(records.len()));
        for record in &records {
            match read_record(&record.bytes, &mut self.agents) {
                Ok((event, device)) => readable.push(Readable { record, event, device }),
                Err(why) => {
                    // In the order of the log: its time is that of the records before it.
                    self.judge_all(&mut readable)?;
                    self.quarantine(record, &why);
                }
            }
            if readable.len() == DECODED_EVENTS {
                self.judge_all(&mut readable)?;
            }
        }
        self.judge_all(&mut readable)?;
        let keeps_up = self.memory.dedup.keep_up(&self.position);
        self.is_idle = read_few && !keeps_up;
        Ok(())
    }

    /// Decides on ids many at a time, since looking one up waits for memory. Leaves no record.
    fn judge_all(&mut self, records: &mut Vec<Readable<'_>>) -> Result<(), PipelineError> {
        let arrivals: Vec<Arrival> = records
            .iter()
            .map(|Readable { record, event, .. }| Arrival {
                partition: record.partition,
                id: event.id,
                received_at_us: event.received_at_us,
            })
            .collect();
        let mut sighted = Vec::with_capacity(arrivals.len());
        self.memory.dedup.decide(&arrivals, |one| sighted.push(one))?;
        for (record, sighted) in records.drain(..).zip(sighted) {
            self.judge(record, sighted);
        }
        Ok(())
    }

    fn judge(&mut self, record: Readable<'_>, Sighted { is_first, judged_at_s }: Sighted) {
        let Readable { record, event, device } = record;
        let Memory { clicks, .. } = &mut self.memory;
        clicks.move_on_to(judged_at_s);
        let click = PersonsClick::of(&event);
        let is_double_click = click.is_some_and(|click| clicks.is_double(&click));
        let verdict = verdict_by(|| judge(&event, &device, is_first, is_double_click));
        if let (Some(click), Verdict::Counted) = (click, verdict) {
            clicks.counted(&click, judged_at_s);
        }
        let Stored { partition, offset, ref bytes } = *record;
        self.take(&Judged { partition, offset, judged_at_s, event, device, verdict }, bytes.len());
    }

    /// A row for a record that is no event: the log goes on after it, and every offset is accounted for.
    fn quarantine(&mut self, record: &Stored, why: &str) {
        let Stored { partition, offset, ref bytes } = *record;
        if self.open.undecodable == 0 {
            // Once a batch: a downgrade may leave millions of them.
            error!(partition, offset, why, "a record cannot be read; it is quarantined, and may be resubmitted later");
        }
        self.open.undecodable += 1;
        let Memory { dedup, clicks } = &mut self.memory;
        dedup.move_on_to(partition, EARLIEST_S);
        let judged_at_s = dedup.now_s(partition);
        clicks.move_on_to(judged_at_s);
        let event = stand_in(StandIn { partition, offset, at_us: judged_at_s * SECOND_US, bytes, why });
        let verdict = Verdict::Not(Reason::Undecodable);
        let event = event.map(String::as_str);
        self.take(&Judged { partition, offset, judged_at_s, event, device: Device::NONE, verdict }, bytes.len());
    }

    /// One more row of the open batch.
    fn take(&mut self, judged: &Judged<&str>, record_bytes: usize) {
        let fact = judged.fact();
        self.position.advance(judged.partition, judged.offset + 1);
        self.open.size.add(&judged.event, record_bytes);
        self.open.rollups.add(&fact);
        self.open.batch.counts.add_fact(&fact);
        self.open.batch.rows.add(judged);
    }

    fn close_batch(&mut self) -> Due<R> {
        let next = OpenBatch::from(self.position.clone());
        let OpenBatch { mut batch, rollups, .. } = std::mem::replace(&mut self.open, next);
        batch.upto = self.position.clone();
        batch.cells = rollups.finish();
        self.metrics.observe_memory(&self.memory.dedup, &self.memory.clicks);
        self.metrics.observe_agents(&self.agents);
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
    /// Most events are of the same as the one before.
    last: Option<(i64, Region)>,
}

impl BatchSize {
    fn add<T>(&mut self, event: &Event<T>, record_bytes: usize) {
        self.record_bytes += record_bytes;
        let file = (event.occurred_at_us.div_euclid(DAY_US), event.region);
        if self.last.replace(file) != Some(file) {
            self.days_and_regions.insert(file);
        }
    }

    fn is_full(&self) -> bool {
        self.record_bytes >= BATCH_BYTES_MAX || self.days_and_regions.len() >= BATCH_FILES_MAX
    }
}
