//! Exact deduplication by event id: of several events with one id, the one at the lowest offset counts.
//!
//! Time here is the latest time of receipt in the partition so far, never the machine's clock: whether an id is still
//! remembered then depends on the log's prefix alone, and clocks that jump back forget nothing early.
//!
//! Ids are held in memory ([`table`]). Given a folder, a span of time that is over is also written to a file ([`run`]), so that
//! a start need not read it from the lake, and memory beyond the bound is freed by forgetting there what a file has. Where an id
//! is held decides nothing.

mod filter;
mod mix;
mod run;
mod runs;
mod table;
mod upkeep;

use std::io;
use std::path::PathBuf;

use tally_model::{EventId, Partition, Positions, partition_of};

use mix::Mix;
use run::Rules;
use runs::{Lost, Runs};
use table::{CODE_MAX, Table};
use upkeep::Upkeep;

const SECOND_US: i64 = 1_000_000;
/// Up to so many seconds, a time to live is kept to the second; longer ones to this fraction of themselves, never too short.
const LIFE_UNITS: u64 = 100_000;
/// Records whose places in memory are asked for ahead of their turn.
const AHEAD: usize = 32;

/// Where ids may be put besides memory, and how much of that they may take.
#[derive(Debug, Clone)]
pub struct DedupOptions {
    /// Without one, all ids stay in memory, whatever the bound.
    pub folder: Option<PathBuf>,
    pub memory_bytes_max: u64,
    /// Secret: makes the places of ids unpredictable for those who choose ids.
    pub seed: u128,
}

#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    #[error("cannot open the ids in `{path}`: {cause}; mend the disk, or delete the folder: `events` has them too")]
    Folder { path: PathBuf, cause: io::Error },
    /// What is remembered is incomplete now: begin again from what is committed.
    #[error("cannot read the ids in `{path}`: {cause}; the file is deleted, a start restores them from `events`")]
    Lost { path: PathBuf, cause: io::Error },
}

impl From<Lost> for DedupError {
    fn from(Lost { path, cause, is_gone }: Lost) -> Self {
        if is_gone { Self::Lost { path, cause } } else { Self::Folder { path, cause } }
    }
}

/// A record to be decided on.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub partition: Partition,
    pub id: EventId,
    pub received_at_us: i64,
}

/// An id that was first seen in an earlier life.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub partition: Partition,
    pub id: EventId,
    pub first_seen_s: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighted {
    pub is_first: bool,
    /// The partition's time at this record: its id is remembered from then on.
    pub judged_at_s: i64,
}

/// The ids of all partitions that are remembered. A record's partition must be that which [`partition_of`] gives its id.
#[derive(Debug)]
pub struct Dedup {
    life: Life,
    mix: Mix,
    seed: u128,
    times: Vec<Time>,
    clocks: Clocks,
    table: Table,
    /// What was first seen before this is asked of the runs; all later ids are in memory.
    memory_from_s: i64,
    memory_bytes_max: u64,
    runs: Option<Runs>,
    upkeep: Upkeep,
}

/// How long an id is remembered, in units that a code can count.
#[derive(Debug, Clone, Copy)]
struct Life {
    ttl_s: i64,
    unit_s: i64,
    units: i64,
}

impl Life {
    fn new(ttl_s: u64) -> Self {
        let ttl_s = i64::try_from(ttl_s).unwrap_or(i64::MAX / 4);
        let unit_s = 1 + (ttl_s - 1).max(0) / LIFE_UNITS as i64;
        // So many units apart, two moments are a time to live apart wherever in their units they lie.
        Self { ttl_s, unit_s, units: (ttl_s + unit_s - 1 + unit_s - 1) / unit_s }
    }

    /// After which nothing is remembered, however its units lie.
    fn longest_s(&self) -> i64 {
        (self.units + 1) * self.unit_s
    }
}

/// The time of a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Time {
    /// 0 before its first record.
    now_s: i64,
    /// The same in units.
    now: i64,
    /// Since when no dead id of it is in the table, in units.
    swept_at: i64,
}

/// Of all partitions that had records, in units.
#[derive(Debug, Clone, Copy, Default)]
struct Clocks {
    latest: i64,
    /// Since when no dead id of any is in the table.
    swept_from: i64,
}

impl Clocks {
    fn of(times: &[Time]) -> Self {
        let moved = || times.iter().filter(|time| time.now_s > 0);
        Self {
            latest: moved().map(|time| time.now).max().unwrap_or(0),
            swept_from: moved().map(|time| time.swept_at).min().unwrap_or(0),
        }
    }
}

impl Dedup {
    /// With what an earlier life left in the folder that is true of a log committed up to here. The rest is
    /// [restored](Dedup::restore), from [`Dedup::missing_from_s`] on.
    pub fn open(
        ttl_s: u64,
        partitions: u16,
        options: &DedupOptions,
        committed: &Positions,
    ) -> Result<Self, DedupError> {
        let life = Life::new(ttl_s);
        let rules = Rules { ttl_s, unit_s: life.unit_s, partitions };
        let mut runs = match &options.folder {
            Some(folder) => Some(
                Runs::open(folder, rules, committed)
                    .map_err(|cause| DedupError::Folder { path: folder.clone(), cause })?,
            ),
            None => None,
        };
        let seed = runs.as_ref().and_then(Runs::seed).unwrap_or(options.seed);
        let memory_from_s = runs.as_ref().map_or(0, |runs| runs.missing_from_s(life.longest_s()));
        if let Some(runs) = &mut runs {
            runs.load_before(memory_from_s)?;
        }
        Ok(Self {
            life,
            mix: Mix::new(seed),
            seed,
            times: vec![Time::default(); usize::from(partitions)],
            clocks: Clocks::default(),
            table: Table::new(),
            memory_from_s,
            memory_bytes_max: options.memory_bytes_max,
            upkeep: Upkeep::default(),
            runs,
        })
    }

    /// Decides on records in the order of the log.
    pub fn decide(&mut self, arrivals: &[Arrival], mut each: impl FnMut(Sighted)) -> Result<(), DedupError> {
        let mut keys = [0; AHEAD];
        for arrivals in arrivals.chunks(AHEAD) {
            for (key, arrival) in keys.iter_mut().zip(arrivals) {
                *key = self.mix.key(arrival.id.as_u128());
            }
            self.table.touch(&keys[..arrivals.len()]);
            for (key, arrival) in keys.iter().zip(arrivals) {
                each(self.decide_one(*key, arrival)?);
            }
        }
        Ok(())
    }

    fn decide_one(&mut self, key: u128, arrival: &Arrival) -> Result<Sighted, DedupError> {
        self.move_on_to(arrival.partition, arrival.received_at_us.div_euclid(SECOND_US));
        let Time { now_s: judged_at_s, now, .. } = self.time(arrival.partition);
        let is_first = match self.table.find(key) {
            Some(code) => {
                let is_first = age(now, code) >= self.life.units;
                if is_first {
                    self.table.replace(key, code_of(now));
                }
                is_first
            }
            None => {
                let is_first = !self.is_on_disk(key, judged_at_s)?;
                if is_first {
                    self.table.insert(key, code_of(now));
                }
                is_first
            }
        };
        Ok(Sighted { is_first, judged_at_s })
    }

    fn is_on_disk(&mut self, key: u128, now_s: i64) -> Result<bool, DedupError> {
        let Some(runs) = &mut self.runs else { return Ok(false) };
        let first_seen_s = runs.find(key, now_s - self.life.longest_s(), self.memory_from_s)?;
        let Life { unit_s, units, .. } = self.life;
        Ok(first_seen_s.is_some_and(|first_seen_s| now_s / unit_s - first_seen_s / unit_s < units))
    }

    /// From which second on the sightings that are committed must be [restored](Dedup::restore).
    pub fn missing_from_s(&self) -> i64 {
        self.memory_from_s
    }

    /// For how long ids are remembered, at the longest.
    pub fn remembered_for_s(&self) -> i64 {
        self.life.longest_s()
    }

    /// Puts back what an earlier life knew. Call in any order, before the first [`Dedup::decide`].
    pub fn restore(&mut self, known: &[Known]) {
        let mut keys = [0; AHEAD];
        for known in known.chunks(AHEAD) {
            for (key, known) in keys.iter_mut().zip(known) {
                *key = self.mix.key(known.id.as_u128());
            }
            self.table.touch(&keys[..known.len()]);
            for (key, known) in keys.iter().zip(known) {
                self.restore_one(*key, known);
            }
        }
    }

    fn restore_one(&mut self, key: u128, &Known { partition, first_seen_s, .. }: &Known) {
        self.move_on_to(partition, first_seen_s);
        let now = self.time(partition).now;
        let age_of_this = now - first_seen_s / self.life.unit_s;
        let is_expired = age_of_this >= self.life.units;
        // All that came after the first gap belongs in memory, also what a later run has.
        if is_expired || first_seen_s < self.memory_from_s {
            return;
        }
        let code = code_of(now - age_of_this);
        match self.table.find(key) {
            Some(known) if age(now, known) <= age_of_this => {}
            Some(_) => self.table.replace(key, code),
            None => self.table.insert(key, code),
        }
    }

    /// Moves a partition's time on; never back.
    pub fn move_on_to(&mut self, partition: Partition, received_at_s: i64) {
        if received_at_s > self.time(partition).now_s {
            self.move_forward_to(partition, received_at_s);
        }
    }

    fn move_forward_to(&mut self, partition: Partition, received_at_s: i64) {
        let then = received_at_s / self.life.unit_s;
        // A code says how old an id is as long as no id is older than codes can count: a jump that is longer than that is gone
        // in steps.
        let countable = i64::from(CODE_MAX) - self.life.units;
        loop {
            let Time { now_s, now, swept_at } = self.time(partition);
            if now_s == 0 || then - swept_at < countable {
                break;
            }
            if then - now >= self.life.units {
                self.forget(partition);
                break;
            }
            self.sweep_all();
            let step = then.min(now + countable - 1);
            self.set_time(partition, (step * self.life.unit_s).max(now_s));
        }
        self.set_time(partition, received_at_s);
        if then - self.time(partition).swept_at >= countable {
            // There is nothing of it in the table.
            if let Some(time) = self.times.get_mut(usize::from(partition)) {
                time.swept_at = then;
            }
            self.clocks = Clocks::of(&self.times);
        }
    }

    fn set_time(&mut self, partition: Partition, now_s: i64) {
        let Some(time) = self.times.get_mut(usize::from(partition)) else { return };
        (time.now_s, time.now) = (now_s, now_s / self.life.unit_s);
        self.clocks.latest = self.clocks.latest.max(time.now);
    }

    /// The partition's time; 0 before its first record.
    pub fn now_s(&self, partition: Partition) -> i64 {
        self.time(partition).now_s
    }

    fn time(&self, partition: Partition) -> Time {
        self.times.get(usize::from(partition)).copied().unwrap_or_default()
    }

    /// About how many ids are remembered: some that have expired are still among them.
    pub fn len(&self) -> u64 {
        let on_disk = self.runs.as_ref().map_or(0, |runs| runs.ids_before(self.memory_from_s));
        self.table.len() as u64 + on_disk
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take of memory, filters of what is on disk included.
    pub fn memory_bytes(&self) -> u64 {
        self.table.bytes() + self.runs.as_ref().map_or(0, Runs::bytes)
    }

    /// Files of ids on disk.
    pub fn runs(&self) -> usize {
        self.runs.as_ref().map_or(0, Runs::len)
    }

    /// Blocks of those that were read since the start.
    pub fn reads(&self) -> u64 {
        self.runs.as_ref().map_or(0, |runs| runs.reads)
    }
}

/// The code of a moment, in units. Codes come round; [`age`] tells which moment is meant.
#[inline]
fn code_of(at: i64) -> u32 {
    at.rem_euclid(i64::from(CODE_MAX)) as u32 + 1
}

/// How many units before `now` the moment of a code was.
#[inline]
fn age(now: i64, code: u32) -> i64 {
    (now - i64::from(code - 1)).rem_euclid(i64::from(CODE_MAX))
}

/// The time of the partition that a key belongs to, in units.
fn now_of(mix: &Mix, times: &[Time], key: u128) -> i64 {
    times[usize::from(partition_of(EventId::from_u128(mix.id(key)), times.len() as u16))].now
}

#[cfg(test)]
mod tests;
