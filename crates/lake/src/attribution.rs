//! Attribution: which click or view each conversion is owed to, in a table of its own that follows `events`.
//!
//! A round takes up the rows of `events` that are new, and commits what they change together with the offsets that it has come
//! to: so each conversion has one row, whatever is killed when. A conversion whose click is not there yet is kept `unresolved`;
//! its click was looked for in everything up to that point, and from then on only new rows are.

mod rows;
mod search;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use deltalake_core::kernel::{Add, Remove};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::ObjectStore;
use tally_model::{
    AttributionWindows, EventId, Kind, Mark, Partition, Positions, Resolution, named_click_fits, position_marks,
};
use tracing::debug;

pub(crate) use self::rows::ATTRIBUTIONS_LAYOUT;
use self::rows::{Attribution, Conversion, Row, Touch};
pub use self::search::Searched;
use crate::compact::{MAINTENANCE, sorted};
use crate::error::{Doing, LakeError, Result};
use crate::events::Columns;
use crate::files::{read_file, read_files, write_file};
use crate::live_file::LiveFile;
use crate::new_file::Rows;
use crate::numbered::read_numbered;
use crate::query::Queries;
use crate::schema::ATTRIBUTIONS;
use crate::writer::{Lake, LakeView, committed_positions};

/// Events of one partition that a round takes up: bounds the conversions that it holds, also where a lake that is years old is
/// taken up from its beginning.
const OFFSETS_MAX: u64 = 1_000_000;
/// Conversions in memory whose click may still come. More stay unresolved until a restart has room for them.
const WAITING_MAX: usize = 200_000;
/// So many small files are worth merging, into one of at most so many rows.
const FILES_MIN: usize = 16;
const ROWS_MAX: usize = 250_000;

/// The one that writes `attributions`. After an error it is opened anew: the table says how far it is.
pub struct Attributor {
    lake: Lake,
    queries: Queries,
    windows: AttributionWindows,
    /// Up to where the table says that events are taken up, and up to where they are: rows without conversions need no commit.
    marked: Positions,
    seen: Positions,
    /// Files of `events` that have nothing new any more.
    read: HashSet<String>,
    waiting: Waiting,
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttributionRound {
    /// Conversions that are new.
    pub conversions: u64,
    /// Those that were resolved at once, and earlier ones whose click came.
    pub resolved: u64,
    /// In memory, for a click that may still come.
    pub waiting: u64,
    /// What finding clicks cost.
    pub searched: Searched,
    /// Whether everything in the view is taken up.
    pub is_level: bool,
}

/// Conversions by the click that they name, and the file that each stands in.
#[derive(Default)]
struct Waiting {
    by_click: HashMap<EventId, Vec<(Conversion, String)>>,
    rows: usize,
}

impl Lake {
    /// Takes up where the table stands.
    pub async fn attributor(&self, windows: AttributionWindows) -> Result<Attributor> {
        let partitions = self.view().committed.partitions();
        let (store, files, marked) = {
            let mut table = self.attributions.lock().await;
            table.refresh().await?;
            (table.store(), table.files().to_vec(), committed_positions(&table, partitions).await?)
        };
        let mut waiting = Waiting::default();
        let from_us = self.clock.now_us().saturating_sub(windows.click_us);
        for file in files.iter().filter(|file| is_unresolved(file)) {
            if file.newest_us("received_at").is_some_and(|newest_us| newest_us < from_us) {
                continue;
            }
            for batch in read_file(&store, file.path(), None).await? {
                for at in 0..batch.num_rows() {
                    waiting.add(rows::decode(&batch, at)?, file.path());
                }
            }
        }
        let queries = self.background_queries();
        let seen = marked.clone();
        let mut attributor =
            Attributor { lake: self.clone(), queries, windows, marked, seen, read: HashSet::new(), waiting };
        attributor.waiting.expire(from_us);
        attributor.publish().await?;
        Ok(attributor)
    }
}

impl Attributor {
    /// Up to where events are taken up.
    pub fn seen(&self) -> &Positions {
        &self.seen
    }

    /// Takes up the conversions of a view, looking for what they are owed to in everything that is committed. The view is one of
    /// some time ago, so that whatever a person did before converting is in.
    pub async fn round(&mut self, view: &LakeView) -> Result<AttributionRound> {
        let upto = self.next(&view.committed);
        let is_level = upto == view.committed;
        let mut round = AttributionRound { is_level, waiting: self.waiting.rows as u64, ..AttributionRound::default() };
        if upto == self.seen {
            self.merge().await?;
            return Ok(round);
        }
        let store = self.lake.events.lock().await.store();
        let (conversions, late_clicks) = self.new_rows(&store, view, &upto).await?;
        round.conversions = conversions.len() as u64;
        let (mut rows, searched) = self.resolve(&store, conversions).await?;
        round.searched = searched;
        let (late, settled) = self.waiting.resolve(&late_clicks, self.windows);
        let rewritten: HashSet<String> = late.iter().map(|(_, file)| file.clone()).collect();
        let late_places: HashSet<(Partition, i64)> =
            late.iter().map(|(row, _)| (row.conversion.partition, row.conversion.offset)).collect();
        rows.extend(late.into_iter().map(|(row, _)| row));
        let (resolved, unresolved): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.owed_to.is_some());
        round.resolved = resolved.len() as u64;
        if !resolved.is_empty() || !unresolved.is_empty() || upto.total() - self.marked.total() > OFFSETS_MAX {
            let kept = self.commit(&resolved, &unresolved, &rewritten, &late_places, &upto).await?;
            self.marked = upto.clone();
            self.waiting.moved(&kept);
            for click in settled {
                self.waiting.forget(click);
            }
            if let Some(file) = kept.unresolved {
                unresolved.into_iter().for_each(|row| self.waiting.add(row.conversion, &file));
            }
        }
        self.seen = upto;
        if is_level {
            self.read = view.events.files.iter().map(|file| file.path().to_owned()).collect();
        }
        self.waiting.expire(self.lake.clock.now_us().saturating_sub(self.windows.click_us));
        round.waiting = self.waiting.rows as u64;
        self.publish().await?;
        self.merge().await?;
        Ok(round)
    }

    /// How far this round goes.
    fn next(&self, committed: &Positions) -> Positions {
        let offsets = committed.iter().map(|(partition, offset)| offset.min(self.seen.next(partition) + OFFSETS_MAX));
        Positions::from_offsets(offsets.collect())
    }

    /// The conversions between what is seen and where this round goes, and the clicks there that somebody waits for.
    async fn new_rows(
        &self,
        store: &Arc<dyn ObjectStore>,
        view: &LakeView,
        upto: &Positions,
    ) -> Result<(Vec<Conversion>, HashMap<EventId, Touch>)> {
        let least = self.seen.iter().map(|(_, offset)| offset as i64).min().unwrap_or(0);
        let awaited: Arc<HashSet<EventId>> = Arc::new(self.waiting.by_click.keys().copied().collect());
        let (mut conversions, mut clicks) = (Vec::new(), HashMap::new());
        for file in view.events.files.iter() {
            let is_old = file.greatest_number("offset").is_some_and(|greatest| greatest < least);
            if is_old || self.read.contains(file.path()) {
                continue;
            }
            let (seen, upto, awaited) = (self.seen.clone(), upto.clone(), awaited.clone());
            let test = move |batch: &RecordBatch| is_new(batch, &seen, &upto, &awaited);
            let tested = ["event_id", "kind", "partition", "offset"];
            let (batches, _) = search::rows_that(store, file, &tested, Arc::new(test), None).await?;
            search::each_row(&batches, file, |row| match row {
                Row::Conversion(conversion) => conversions.push(conversion),
                Row::Touch(touch) => search::keep_first(&mut clicks, touch),
                Row::Nothing => {}
            })?;
        }
        conversions.sort_by_key(|conversion| (conversion.partition, conversion.offset));
        Ok((conversions, clicks))
    }

    /// What each conversion is owed to: the click that it names, and nothing else; where it names none, the person's last click,
    /// or else the last view.
    async fn resolve(
        &self,
        store: &Arc<dyn ObjectStore>,
        conversions: Vec<Conversion>,
    ) -> Result<(Vec<Attribution>, Searched)> {
        let events = self.lake.view().events;
        let (mut clicks, searched) = search::clicks(store, &events, &conversions, self.windows).await?;
        clicks.retain(|_, click| click.kind == Kind::Click);
        let mut rows: Vec<Attribution> =
            conversions.into_iter().map(|conversion| Attribution { conversion, owed_to: None }).collect();
        for row in &mut rows {
            let click = row.conversion.named_click().and_then(|id| clicks.get(&id));
            let fits = |click: &&Touch| named_click_fits(&row.conversion.converted(), &click.touched(), self.windows);
            row.owed_to = click.filter(fits).map(|click| (Resolution::ClickId, click.clone()));
        }
        for (kind, resolution) in [(Kind::Click, Resolution::LastClick), (Kind::Impression, Resolution::LastView)] {
            let is_open = |row: &Attribution| {
                row.owed_to.is_none() && row.conversion.named_click().is_none() && row.conversion.user_hash.is_some()
            };
            let open: Vec<usize> = (0..rows.len()).filter(|at| is_open(&rows[*at])).collect();
            let people: Vec<&Conversion> = open.iter().map(|at| &rows[*at].conversion).collect();
            let last = search::last_of_people(&self.queries, &events, &people, kind, self.windows).await?;
            for (place, touch) in last {
                rows[open[place]].owed_to = Some((resolution, touch));
            }
        }
        Ok((rows, searched))
    }

    /// Adds rows, and takes those whose click came out of the files of unresolved ones, in one commit.
    async fn commit(
        &self,
        resolved: &[Attribution],
        unresolved: &[Attribution],
        rewritten: &HashSet<String>,
        late: &HashSet<(Partition, i64)>,
        upto: &Positions,
    ) -> Result<Kept> {
        let mut table = self.lake.attributions.lock().await;
        let store = table.store();
        let now_ms = self.lake.now_ms();
        let (mut adds, mut removes): (Vec<Add>, Vec<Remove>) = (Vec::new(), Vec::new());
        let mut kept = Kept::default();
        for file in table.files().iter().filter(|file| rewritten.contains(file.path())) {
            let batches = read_files(&store, &[file.path()], &ATTRIBUTIONS).await?;
            let left = without(&concat_batches(&ATTRIBUTIONS, &batches)?, late)?;
            removes.push(file.replaced(now_ms));
            if left.num_rows() > 0 {
                let add = write(&store, left, now_ms).await?;
                kept.moved.insert(file.path().to_owned(), add.path.clone());
                adds.push(add);
            }
        }
        if removes.len() != rewritten.len() {
            return Err(LakeError::Damaged { what: "a file of unresolved conversions is not in the table".to_owned() });
        }
        if !resolved.is_empty() {
            adds.push(write(&store, rows::encode(resolved)?, now_ms).await?);
        }
        if !unresolved.is_empty() {
            let add = write(&store, rows::encode(unresolved)?, now_ms).await?;
            kept.unresolved = Some(add.path.clone());
            adds.push(add);
        }
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        table.commit(adds, removes, &position_marks(&self.marked, upto), operation).await?;
        Ok(kept)
    }

    /// Merges small files, those of unresolved conversions and others apart.
    async fn merge(&mut self) -> Result<()> {
        for unresolved in [false, true] {
            let mut table = self.lake.attributions.lock().await;
            let is_small = |file: &&Arc<LiveFile>| file.rows < ROWS_MAX / 2 && is_unresolved(file) == unresolved;
            let mut rows = 0;
            let fitting = table.files().iter().filter(is_small).take_while(|file| {
                rows += file.rows;
                rows <= ROWS_MAX
            });
            let small: Vec<Arc<LiveFile>> = fitting.cloned().collect();
            if small.len() < FILES_MIN {
                continue;
            }
            let (store, now_ms) = (table.store(), self.lake.now_ms());
            let paths: Vec<&str> = small.iter().map(|file| file.path()).collect();
            let small_rows = read_numbered(&store, &paths, &ATTRIBUTIONS).await?;
            let sorting = tokio::task::spawn_blocking(move || sorted(small_rows));
            let mut add = write(&store, sorting.await.doing("sort attributions")??, now_ms).await?;
            add.data_change = false;
            let path = add.path.clone();
            let before = table.mark(MAINTENANCE).await?;
            let mark = Mark { name: MAINTENANCE.to_owned(), before, after: before.unwrap_or(0) + 1 };
            let removes = small.iter().map(|file| file.rearranged(now_ms)).collect();
            let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
            table.commit(vec![add], removes, &[mark], operation).await?;
            drop(table);
            debug!(files = small.len(), rows, unresolved, "attributions merged");
            let moved = small.iter().map(|file| (file.path().to_owned(), path.clone())).collect();
            self.waiting.moved(&Kept { moved, unresolved: None });
            self.publish().await?;
        }
        Ok(())
    }

    /// Lets readers see the table as it is.
    async fn publish(&self) -> Result<()> {
        let table = self.lake.attributions.lock().await.reader_view();
        self.lake.show_attributions(table, self.seen.clone());
        Ok(())
    }
}

/// Where unresolved rows are after a commit.
#[derive(Default)]
struct Kept {
    /// From the file that was replaced to the one that has what is left of it.
    moved: HashMap<String, String>,
    /// The file of the new ones.
    unresolved: Option<String>,
}

impl Waiting {
    fn add(&mut self, conversion: Conversion, file: &str) {
        if self.rows >= WAITING_MAX {
            return;
        }
        if let Some(click) = conversion.named_click() {
            self.by_click.entry(click).or_default().push((conversion, file.to_owned()));
            self.rows += 1;
        }
    }

    /// The conversions that clicks fit, with the file of each, and the clicks that nobody waits for from now on: one that came
    /// and does not fit, does not later.
    fn resolve(
        &self,
        clicks: &HashMap<EventId, Touch>,
        windows: AttributionWindows,
    ) -> (Vec<(Attribution, String)>, Vec<EventId>) {
        let mut late = Vec::new();
        for (id, click) in clicks {
            for (conversion, file) in self.by_click.get(id).into_iter().flatten() {
                if named_click_fits(&conversion.converted(), &click.touched(), windows) {
                    let owed_to = Some((Resolution::ClickId, click.clone()));
                    late.push((Attribution { conversion: conversion.clone(), owed_to }, file.clone()));
                }
            }
        }
        late.sort_by_key(|(row, _)| (row.conversion.partition, row.conversion.offset));
        (late, clicks.keys().copied().collect())
    }

    fn forget(&mut self, click: EventId) {
        self.rows -= self.by_click.remove(&click).map_or(0, |rows| rows.len());
    }

    fn moved(&mut self, kept: &Kept) {
        for (_, file) in self.by_click.values_mut().flatten() {
            if let Some(to) = kept.moved.get(file) {
                file.clone_from(to);
            }
        }
    }

    /// Lets go of those received before this: their window has passed.
    fn expire(&mut self, from_us: i64) {
        self.by_click.retain(|_, rows| {
            rows.retain(|(conversion, _)| conversion.received_at_us >= from_us);
            !rows.is_empty()
        });
        self.rows = self.by_click.values().map(Vec::len).sum();
    }
}

async fn write(store: &Arc<dyn ObjectStore>, rows: impl Into<Rows>, now_ms: i64) -> Result<Add> {
    write_file(store, ATTRIBUTIONS_LAYOUT, rows, Vec::new(), now_ms).await
}

fn is_unresolved(file: &LiveFile) -> bool {
    let unresolved = Resolution::Unresolved.as_str();
    file.text_bounds("resolution") == Some((unresolved, unresolved))
}

/// Conversions at these offsets, and the clicks that are awaited.
fn is_new(
    batch: &RecordBatch,
    seen: &Positions,
    upto: &Positions,
    awaited: &HashSet<EventId>,
) -> std::result::Result<BooleanArray, ArrowError> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("a data file has no column `{name}`")))
    };
    let (ids, kinds) = (column("event_id")?.as_binary::<i32>(), column("kind")?.as_string::<i32>());
    let partitions = column("partition")?.as_primitive::<Int32Type>();
    let offsets = column("offset")?.as_primitive::<Int64Type>();
    let is_wanted = |at: usize| {
        let partition = Partition::try_from(partitions.value(at)).unwrap_or_default();
        let offset = u64::try_from(offsets.value(at)).unwrap_or_default();
        if !(seen.next(partition)..upto.next(partition)).contains(&offset) {
            return false;
        }
        match kinds.value(at) {
            kind if kind == Kind::Conversion.as_str() => true,
            kind if kind == Kind::Click.as_str() => {
                !awaited.is_empty() && EventId::from_slice(ids.value(at)).is_ok_and(|id| awaited.contains(&id))
            }
            _ => false,
        }
    };
    Ok((0..batch.num_rows()).map(|at| Some(is_wanted(at))).collect())
}

/// The rows that are not at these places.
fn without(batch: &RecordBatch, places: &HashSet<(Partition, i64)>) -> Result<RecordBatch> {
    let columns = Columns(batch);
    let offsets = columns.numbers("offset")?;
    let keep: BooleanArray = (0..batch.num_rows())
        .map(|at| Ok(Some(!places.contains(&(rows::partition(&columns, at)?, offsets.value(at))))))
        .collect::<Result<_>>()?;
    Ok(filter_record_batch(batch, &keep)?)
}
