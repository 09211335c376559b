//! The lake as the pipeline sees it: versions of `events`, rollups that follow them, marks. It keeps what was committed, and
//! fails in every way that a store far away can.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_model::{Cells, Fact, Judged, Mark, Partition, Positions, Standing, Verdict, position_mark, position_marks};
use tally_pipeline::{Batch, PersonsClick, Sighting, Sink, SinkError, Wanted};

use crate::bug::Bug;
use crate::world::World;

#[derive(Default)]
pub struct SimLake(Mutex<Tables>);

#[derive(Default)]
pub struct Tables {
    /// The first has number 1.
    pub versions: Vec<Version>,
    /// Parts of cells, with the version that they count.
    pub parts: Vec<(i64, Cells)>,
    counted: i64,
    /// A commit that a killed process had sent: it arrives if its number is still free.
    late: Option<(i64, Version)>,
    /// Whether one did, in this life.
    pub late_arrived: bool,
    /// For [`Bug::DedupWithoutOffset`]: an index that is written before the commit.
    judged: Vec<Sighting>,
}

#[derive(Default, Clone)]
pub struct Version {
    pub rows: Vec<Judged>,
    marks: Vec<Mark>,
}

impl SimLake {
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The late commit arrives, or is refused for good.
    pub fn late_commit_arrives(&self, world: &World) {
        let mut tables = self.tables();
        if let Some((number, version)) = tables.late.take()
            && number == tables.latest() + 1
        {
            world.count("late commit arrived");
            tables.late_arrived = true;
            tables.versions.push(version);
        }
    }
}

impl Tables {
    fn latest(&self) -> i64 {
        self.versions.len() as i64
    }

    fn mark(&self, name: &str) -> Option<i64> {
        let marks = self.versions.iter().rev().flat_map(|version| version.marks.iter().rev());
        marks.filter(|mark| mark.name == name).map(|mark| mark.after).next()
    }

    pub fn committed(&self, partitions: u16) -> Positions {
        let mut committed = Positions::start(partitions);
        for partition in 0..partitions {
            committed.advance(partition, self.mark(&position_mark(partition)).unwrap_or(0) as u64);
        }
        committed
    }

    pub fn rows(&self) -> impl Iterator<Item = &Judged> {
        self.versions.iter().flat_map(|version| &version.rows)
    }

    fn holder(&self, marks: &[Mark]) -> Option<i64> {
        let at = self.versions.iter().rposition(|version| marks.iter().any(|mark| version.marks.contains(mark)))?;
        Some(at as i64 + 1)
    }
}

/// One process's connection to the lake.
pub struct SimSink {
    world: Arc<World>,
    lake: Arc<SimLake>,
    committed: Positions,
    /// The version that it was opened at: what a restart takes up is as of this one.
    opened_at: i64,
}

impl SimSink {
    pub fn new(world: Arc<World>, lake: Arc<SimLake>) -> Self {
        let (committed, opened_at) = {
            let tables = lake.tables();
            (tables.committed(world.plan.partitions), tables.latest())
        };
        Self { world, lake, committed, opened_at }
    }

    /// A call on its way: takes its time, and may fail without effect.
    async fn call(&self, what: &str) -> Result<(), SinkError> {
        let slow_ms = if self.world.trouble("lake is slow", 500) { self.world.plan.troubles.lake_slow_ms } else { 2 };
        self.world.sleep_ms(0, slow_ms).await;
        self.world.step_or_never(what).await;
        match self.world.trouble("lake failed", self.world.plan.troubles.lake_fails) {
            true => Err(SinkError::Retry("the store is away".to_owned())),
            false => Ok(()),
        }
    }

    /// How many of so many rows come, before a read breaks off.
    fn told_of(&self, rows: usize) -> usize {
        match self.world.trouble("reading broke off", self.world.plan.troubles.lake_fails) {
            true => self.world.chance.below(rows as u64 + 1) as usize,
            false => rows,
        }
    }

    fn answer_is_lost(&self) -> bool {
        self.world.trouble("answer of a commit lost", self.world.plan.troubles.answer_lost)
    }

    /// Puts a version under its number if that is free.
    async fn put(&self, number: i64, version: Version) -> bool {
        if self.world.step("put events").is_err() {
            if self.world.chance.permille(self.world.plan.troubles.late_commit) {
                self.world.count("commit on its way at a crash");
                self.lake.tables().late = Some((number, version));
            }
            return std::future::pending().await;
        }
        let mut tables = self.lake.tables();
        if tables.latest() + 1 != number {
            return false;
        }
        tables.versions.push(version);
        true
    }
}

impl Sink for SimSink {
    type Rows = Vec<Judged>;

    fn committed(&self) -> Positions {
        self.committed.clone()
    }

    async fn sightings(
        &mut self,
        _: Wanted,
        each: &mut (dyn FnMut(Sighting) + Send),
    ) -> Result<Vec<(Partition, i64)>, SinkError> {
        self.call("read ids").await?;
        let tables = self.lake.tables();
        let mut times: BTreeMap<Partition, i64> = BTreeMap::new();
        let opened_with: Vec<&Judged> =
            tables.versions.iter().take(self.opened_at as usize).flat_map(|version| &version.rows).collect();
        let told = self.told_of(opened_with.len());
        for judged in opened_with.iter().take(told) {
            let time = times.entry(judged.partition).or_default();
            *time = judged.judged_at_s.max(*time);
            if let Some(mut sighting) = first_sighting(judged) {
                if self.world.bug == Some(Bug::ClicksForgotten) {
                    sighting.click = None;
                }
                each(sighting);
            }
        }
        if self.world.bug == Some(Bug::DedupWithoutOffset) {
            tables.judged.iter().copied().for_each(each);
        }
        match told < opened_with.len() {
            true => Err(SinkError::Retry("reading broke off".to_owned())),
            false => Ok(times.into_iter().collect()),
        }
    }

    async fn commit_events(&mut self, batch: &mut Batch<Self::Rows>) -> Result<i64, SinkError> {
        let marks = position_marks(&batch.from, &batch.upto);
        if self.world.bug == Some(Bug::DedupWithoutOffset) {
            self.lake.tables().judged.extend(batch.rows.iter().filter_map(first_sighting));
        }
        self.call("commit events").await?;
        loop {
            let (latest, found): (i64, Vec<_>) = {
                let tables = self.lake.tables();
                (tables.latest(), marks.iter().map(|mark| tables.mark(&mark.name)).collect())
            };
            let standing = match self.world.bug {
                Some(Bug::NoMarkCheck) => Standing::Ready,
                _ => Standing::of(&marks, &found),
            };
            match standing {
                Standing::Ready => {}
                Standing::AlreadyIn => {
                    let held = self.lake.tables().holder(&marks);
                    return held.ok_or_else(|| SinkError::Fatal("a mark stands in no version".to_owned()));
                }
                Standing::Moved { .. } => return Err(SinkError::Fatal("another process writes here".to_owned())),
            }
            self.world.sleep_ms(0, 2).await;
            if self.world.trouble("conflicting commit", self.world.plan.troubles.conflict) {
                // Maintenance: a version of its own that changes no row.
                self.lake.tables().versions.push(Version::default());
            }
            let mut version = Version { rows: batch.rows.clone(), marks: marks.clone() };
            if self.world.bug == Some(Bug::MarkBeforeData) {
                let only_marks = Version { rows: Vec::new(), marks: std::mem::take(&mut version.marks) };
                if !self.put(latest + 1, only_marks).await {
                    continue;
                }
                self.world.step_or_never("mark is in").await;
                self.lake.tables().versions.push(version);
                self.committed = batch.upto.clone();
                return Ok(latest + 2);
            }
            if !self.put(latest + 1, version).await {
                continue;
            }
            self.world.step_or_never("events are in").await;
            if self.answer_is_lost() {
                return Err(SinkError::Retry("no answer came".to_owned()));
            }
            (self.committed, self.opened_at) = (batch.upto.clone(), latest + 1);
            return Ok(latest + 1);
        }
    }

    async fn commit_cells(&mut self, version: i64, cells: &Cells) -> Result<(), SinkError> {
        self.call("commit cells").await?;
        let is_in = self.lake.tables().counted >= version && self.world.bug != Some(Bug::RollupTwice);
        if !is_in {
            self.world.step_or_never("put cells").await;
            let mut tables = self.lake.tables();
            tables.parts.push((version, cells.clone()));
            tables.counted = tables.counted.max(version);
        }
        self.world.step_or_never("cells are in").await;
        match self.answer_is_lost() {
            true => Err(SinkError::Retry("no answer came".to_owned())),
            false => Ok(()),
        }
    }

    async fn versions_to_count(&mut self) -> Result<Vec<i64>, SinkError> {
        self.call("look for versions").await?;
        let tables = self.lake.tables();
        let opened_with = (1..=self.opened_at).zip(&tables.versions);
        let later = opened_with.filter(|(number, _)| *number > tables.counted);
        Ok(later.filter(|(_, version)| !version.rows.is_empty()).map(|(number, _)| number).collect())
    }

    async fn facts(&mut self, version: i64, each: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<(), SinkError> {
        self.call("read events").await?;
        let tables = self.lake.tables();
        let rows = tables.versions.get(version as usize - 1).map(|version| version.rows.as_slice()).unwrap_or_default();
        let told = self.told_of(rows.len());
        rows.iter().take(told).for_each(|judged| each(&judged.fact()));
        if told < rows.len() { Err(SinkError::Retry("reading broke off".to_owned())) } else { Ok(()) }
    }
}

fn first_sighting(judged: &Judged) -> Option<Sighting> {
    let Judged { partition, judged_at_s, event, verdict, .. } = judged;
    let click = PersonsClick::of(event).filter(|_| *verdict == Verdict::Counted);
    let sighting = Sighting { partition: *partition, id: event.id, judged_at_s: *judged_at_s, click };
    verdict.remembers_id().then_some(sighting)
}
