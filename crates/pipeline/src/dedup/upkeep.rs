//! What is done about ids besides deciding, a few shards at a time between two reads of the journal: expired ids are swept out, a
//! span of time that is over is written to a run, and what is on disk leaves memory where that is over its bound.

use tally_model::{EventId, Partition, Positions, partition_of};
use tracing::{info, warn};

use super::mix::Mix;
use super::run::{Rules, RunWriter};
use super::runs::Lost;
use super::table::{CODE_MAX, SHARDS};
use super::{Clocks, Dedup, Life, Time, age, now_of};

/// Shards looked at in one step: about 10 ms at a hundred million ids, so that a commit does not wait for it.
const STEP_SHARDS: usize = 32;
/// A run has the ids of this part of the time to live: an hour of a day. Each is one more filter to ask.
const RUNS_PER_LIFE: i64 = 24;
/// Where memory is over its bound, runs may be shorter, down to this part of that: bounds the files and filters, and says how
/// far memory can be over its bound.
const EARLIEST_PART: i64 = 8;
/// Expired ids are swept out after this part of the time to live..
const SWEEPS_PER_LIFE: i64 = 24;
/// ..but not more often than after so many units.
const SWEEP_UNITS_MIN: i64 = 64;
/// After a failed write, by the partitions' time.
const RETRY_S: i64 = 60;

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    work: Work,
    /// Nothing is sealed up to here again: there was nothing, or it failed and is tried later.
    no_run_upto_s: i64,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    None,
    /// Takes the dead out, from this shard on. With when it began, by partition, in units.
    Sweep { shard: usize, began: Vec<i64> },
    /// Writes a run, from this shard on.
    Seal { shard: usize, writer: Box<RunWriter> },
}

impl Dedup {
    /// Does one step of what is due. `judged` is how far the log is judged. Gives whether anything was due.
    pub fn keep_up(&mut self, judged: &Positions) -> bool {
        let was_idle = matches!(self.upkeep.work, Work::None);
        match std::mem::take(&mut self.upkeep.work) {
            Work::None => self.upkeep.work = self.next_work(),
            Work::Sweep { shard, began } => self.upkeep.work = self.sweep_on(shard, began),
            Work::Seal { shard, writer } => self.upkeep.work = self.seal_on(shard, writer, judged),
        }
        !(was_idle && matches!(self.upkeep.work, Work::None))
    }

    fn next_work(&mut self) -> Work {
        let over_s = self.times.iter().map(|time| time.now_s).min().unwrap_or(0);
        let span_s = self.whole_units(self.life.ttl_s / RUNS_PER_LIFE);
        if let Some(work) = self.seal_upto(over_s - over_s % span_s) {
            return work;
        }
        if self.memory_bytes() > self.memory_bytes_max {
            if self.evict() {
                return self.sweep();
            }
            let part_s = self.whole_units(span_s / EARLIEST_PART);
            if let Some(work) = self.seal_upto(over_s - over_s % part_s) {
                return work;
            }
        }
        let every = (self.life.units / SWEEPS_PER_LIFE).max(SWEEP_UNITS_MIN);
        let is_due = |time: &Time| time.now - time.swept_at >= every;
        if self.times.iter().any(is_due) { self.sweep() } else { Work::None }
    }

    /// At least one: what is sealed together is what has one code.
    fn whole_units(&self, seconds: i64) -> i64 {
        let unit_s = self.life.unit_s;
        (seconds.max(1) + unit_s - 1) / unit_s * unit_s
    }

    /// Begins a run of all ids first seen before then that are in none, if every partition's time is past that.
    fn seal_upto(&mut self, upto_s: i64) -> Option<Work> {
        let runs = self.runs.as_ref()?;
        let from_s = runs.upto_s();
        if upto_s <= from_s.max(self.upkeep.no_run_upto_s) {
            return None;
        }
        let rules =
            Rules { ttl_s: self.life.ttl_s as u64, unit_s: self.life.unit_s, partitions: self.times.len() as u16 };
        match RunWriter::create(&runs.folder, rules, self.seed, from_s, upto_s) {
            Ok(writer) => Some(Work::Seal { shard: 0, writer: Box::new(writer) }),
            Err(error) => {
                warn!(%error, "ids cannot be written to disk; they stay in memory");
                self.upkeep.no_run_upto_s = upto_s + RETRY_S;
                None
            }
        }
    }

    fn seal_on(&mut self, from_shard: usize, mut writer: Box<RunWriter>, judged: &Positions) -> Work {
        let upto_shard = (from_shard + STEP_SHARDS).min(SHARDS);
        let (from_s, upto_s) = writer.span_s();
        let mut ids: Vec<(u128, u32)> = Vec::new();
        for shard in from_shard..upto_shard {
            ids.clear();
            for (key, code) in self.table.shard(shard) {
                let now = now_of(&self.mix, &self.times, key);
                let age = age(now, code);
                let first_seen_s = (now - age) * self.life.unit_s;
                if age < self.life.units && (from_s..upto_s).contains(&first_seen_s) {
                    ids.push((key, u32::try_from(first_seen_s).unwrap_or(u32::MAX)));
                }
            }
            ids.sort_unstable();
            if let Err(error) = writer.put_shard(shard, &ids) {
                return self.seal_failed(*writer, &error);
            }
        }
        if upto_shard < SHARDS {
            return Work::Seal { shard: upto_shard, writer };
        }
        self.upkeep.no_run_upto_s = upto_s;
        let ids = writer.ids();
        if ids == 0 {
            writer.abandon();
            return Work::None;
        }
        match writer.finish(judged.clone()) {
            Ok(run) => {
                info!(ids, from_s, upto_s, "ids written to disk");
                if let Some(runs) = &mut self.runs {
                    runs.add(run);
                    runs.delete_expired(self.life.longest_s());
                }
                self.load_runs();
            }
            Err(error) => {
                warn!(%error, "ids cannot be written to disk; they stay in memory");
                self.upkeep.no_run_upto_s = upto_s + RETRY_S;
            }
        }
        Work::None
    }

    fn seal_failed(&mut self, writer: RunWriter, error: &std::io::Error) -> Work {
        warn!(%error, "ids cannot be written to disk; they stay in memory");
        self.upkeep.no_run_upto_s = writer.span_s().1 + RETRY_S;
        writer.abandon();
        Work::None
    }

    /// Lets the oldest ids that are in memory and on disk leave memory. The sweep that follows frees it.
    fn evict(&mut self) -> bool {
        let Some(runs) = &self.runs else { return false };
        // What has expired needs no file.
        let expired_s = self.times.iter().map(|time| time.now_s).min().unwrap_or(0) - self.life.longest_s();
        let from_s = self.memory_from_s.max(expired_s);
        let Some(upto_s) = runs.upto_from(from_s) else { return false };
        let before_s = std::mem::replace(&mut self.memory_from_s, upto_s);
        if !self.load_runs() {
            self.memory_from_s = before_s;
            return false;
        }
        true
    }

    /// A run that cannot be read is one less that memory can rely on; what it has is in memory still, as nothing was evicted yet.
    fn load_runs(&mut self) -> bool {
        let Some(runs) = &mut self.runs else { return false };
        match runs.load_before(self.memory_from_s) {
            Ok(()) => true,
            Err(Lost { path, cause, .. }) => {
                warn!(path = %path.display(), %cause, "a file of ids cannot be read and is not used; they stay in memory");
                false
            }
        }
    }

    fn sweep(&self) -> Work {
        Work::Sweep { shard: 0, began: self.times.iter().map(|time| time.now).collect() }
    }

    fn sweep_on(&mut self, from_shard: usize, began: Vec<i64>) -> Work {
        let upto_shard = (from_shard + STEP_SHARDS).min(SHARDS);
        self.sweep_shards(from_shard..upto_shard);
        if upto_shard < SHARDS {
            return Work::Sweep { shard: upto_shard, began };
        }
        for (time, began) in self.times.iter_mut().zip(began) {
            time.swept_at = time.swept_at.max(began);
        }
        self.clocks = Clocks::of(&self.times);
        Work::None
    }

    fn sweep_shards(&mut self, shards: std::ops::Range<usize>) {
        let Self { table, mix, times, clocks, life, memory_from_s, .. } = self;
        let dead = Dead { mix, times, clocks: *clocks, life: *life, memory_from_s: *memory_from_s };
        for shard in shards {
            table.sweep(shard, |code, key| dead.is(code, key));
        }
    }

    /// At once: before a clock jumps so far that ages could no longer be told.
    pub(super) fn sweep_all(&mut self) {
        self.sweep_shards(0..SHARDS);
        for time in &mut self.times {
            time.swept_at = time.now;
        }
        self.clocks = Clocks::of(&self.times);
    }

    /// All ids of a partition, since all have expired.
    pub(super) fn forget(&mut self, partition: Partition) {
        let Self { table, mix, times, .. } = self;
        let partitions = times.len() as u16;
        for shard in 0..SHARDS {
            table.sweep(shard, |_, key| {
                let id = EventId::from_u128(mix.id(key()));
                partition_of(id, partitions) == partition
            });
        }
    }
}

/// What tells whether a key in the table has expired, or is on disk and need not be here.
struct Dead<'a> {
    mix: &'a Mix,
    times: &'a [Time],
    clocks: Clocks,
    life: Life,
    memory_from_s: i64,
}

impl Dead<'_> {
    #[inline]
    fn is(&self, code: u32, key: &dyn Fn() -> u128) -> bool {
        let Clocks { latest, swept_from } = self.clocks;
        let age_by_latest = age(latest, code);
        // What is young by the latest of all times is so by its partition's own, which takes longer to find out.
        if age_by_latest < self.life.units && latest - swept_from < i64::from(CODE_MAX) - self.life.units {
            return (latest - age_by_latest) * self.life.unit_s < self.memory_from_s;
        }
        let now = now_of(self.mix, self.times, key());
        let age = age(now, code);
        age >= self.life.units || (now - age) * self.life.unit_s < self.memory_from_s
    }
}
