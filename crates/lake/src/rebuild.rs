//! Counting a range of days again: its cells are made anew from raw events, compared with what the rollups say, and replaced
//! in one commit. The caller counts, day by day, so that this holds one day's cells and those of one month.
//!
//! Only parts that sum up versions of `events` which readers see are replaced. What a batch appends meanwhile sums up later
//! versions and stays: cells are sums of parts, so that both together are right, and the pipeline need not wait.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use deltalake_core::kernel::{Add, Remove};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tally_model::{Cell, CellKey, Cells, Counts, Days, Fact, Grain, Mark, RebuildReport, bucket_start_us};
use tokio::sync::OwnedMutexGuard;

use crate::compact::MAINTENANCE;
use crate::error::{Doing, LakeError, Result};
use crate::events::{self, Columns, FACT_COLUMNS};
use crate::files::{read_file, write_file};
use crate::live_file::LiveFile;
use crate::query::is_within_error;
use crate::rollups::{self, ROLLUPS_LAYOUT, Versions, summed};
use crate::schema::ROLLUPS;
use crate::writer::{Lake, LakeView};

/// The mark that counts rebuilds. Beside the one that compaction moves on too, it tells a lost answer from somebody else's run.
pub(crate) const REBUILDS: &str = "rebuilds";
const DAY_US: i64 = 86_400_000_000;
/// Cells that wait to be written to files; a sketch of users may take some KB.
const CELLS_WAITING_MAX: usize = 100_000;
/// How long, and how often, to wait for a moment in which no batch is between its two commits.
const BEGIN_WAIT: Duration = Duration::from_millis(100);
const BEGIN_TRIES: u32 = 100;

/// A range of days under way. Dropped before [`Rebuild::commit`], it leaves everything as it was.
pub struct Rebuild {
    lake: Lake,
    scope: Scope,
    /// Both tables as they are counted from and compared with.
    view: LakeView,
    /// As they stood when the files were listed: a process that is not this one is noticed by them.
    marks: Vec<Mark>,
    store: Arc<dyn ObjectStore>,
    month: HashMap<CellKey, Cell>,
    month_us: i64,
    waiting: Vec<(Cell, Versions)>,
    written: Vec<Add>,
    unreadable: HashSet<String>,
    report: RebuildReport,
    _maintaining: OwnedMutexGuard<()>,
}

/// Which cells: those of the days, and those of the months that have a day in them.
#[derive(Debug, Clone, Copy)]
struct Scope {
    days: Days,
    months: Days,
}

impl Scope {
    fn contains(self, grain: Grain, bucket_us: i64) -> bool {
        if grain == Grain::Month { self.months.contains(bucket_us) } else { self.days.contains(bucket_us) }
    }

    /// Whether all that a file holds is replaced, by the log's statistics: then it need not be readable.
    fn covers(self, file: &LiveFile) -> bool {
        let range = if file.text_bounds("grain") == Some(("month", "month")) { self.months } else { self.days };
        let bounds = [file.oldest_us("bucket"), file.newest_us("bucket")];
        bounds.into_iter().all(|bound| bound.is_some_and(|at_us| range.contains(at_us)))
    }
}

impl Lake {
    /// Begins to count days again. Compaction waits until it is done.
    pub async fn rebuild(&self, days: Days) -> Result<Rebuild> {
        let maintaining = self.maintaining.clone().lock_owned().await;
        for _ in 0..BEGIN_TRIES {
            self.publish().await?;
            let view = self.view();
            let rollups = self.rollups.lock().await;
            let is_live = |file: &Arc<LiveFile>| rollups.files().iter().any(|live| live.path() == file.path());
            if view.rollups.files.iter().all(is_live) {
                let scope = Scope { days, months: days.whole_months() };
                let mut marks = Vec::new();
                for name in [MAINTENANCE, REBUILDS] {
                    let before = rollups.mark(name).await?;
                    marks.push(Mark { name: name.to_owned(), before, after: before.unwrap_or(0) + 1 });
                }
                return Ok(Rebuild {
                    scope,
                    marks,
                    store: rollups.store(),
                    month: HashMap::new(),
                    month_us: i64::MIN,
                    waiting: Vec::new(),
                    written: Vec::new(),
                    unreadable: HashSet::new(),
                    report: RebuildReport {
                        days: days.to_string(),
                        months: scope.months.to_string(),
                        events_version: view.events_version(),
                        cells: 0,
                        replaced: false,
                        found: Default::default(),
                    },
                    lake: self.clone(),
                    view,
                    _maintaining: maintaining,
                });
            }
            drop(rollups);
            tokio::time::sleep(BEGIN_WAIT).await;
        }
        let cause = "batches follow each other without a pause; try again when less comes in".to_owned();
        Err(LakeError::Retry { doing: "begin to rebuild", cause })
    }
}

impl Rebuild {
    /// The days that have to be counted, in this order: those of whole months, since the cells of a month need all of them.
    pub fn days(&self) -> impl Iterator<Item = Days> + use<> {
        self.scope.months.each()
    }

    /// Calls `each` with every event of a day.
    pub async fn facts(&self, day: Days, each: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<()> {
        let date = events::date(day.from_us() / DAY_US)?;
        let store = self.lake.events.lock().await.store();
        for file in self.view.events.files.iter().filter(|file| file.partition_value("event_date") == Some(&date)) {
            let region = file.partition_value("region").unwrap_or_default();
            for rows in read_file(&store, file.path(), Some(&FACT_COLUMNS)).await? {
                events::each_fact(&rows, region, each)?;
            }
        }
        Ok(())
    }

    /// Takes what was counted of a day: all parts that its events add, of every grain.
    pub async fn count(&mut self, day: Days, parts: &[Cells]) -> Result<()> {
        let month_us = bucket_start_us(Grain::Month, day.from_us());
        if month_us != self.month_us {
            self.finish_month().await?;
            self.month_us = month_us;
        }
        let mut finer = HashMap::new();
        for part in parts.iter().flat_map(Cells::iter) {
            let cells = if part.grain == Grain::Month { &mut self.month } else { &mut finer };
            add_part(cells, part.to_cell());
        }
        if self.scope.days.contains(day.from_us()) {
            let before = self.cells_before(|grain, at_us| grain != Grain::Month && day.contains(at_us), day).await?;
            self.replace(before, by_key(finer)).await?;
        }
        Ok(())
    }

    /// Replaces the cells, if any of them differed, in one commit.
    pub async fn commit(mut self) -> Result<RebuildReport> {
        self.finish_month().await?;
        self.write_waiting().await?;
        if self.report.found.differences_total == 0 {
            self.take_back().await;
            return Ok(self.report);
        }
        let mut removed = Vec::new();
        for file in self.view.rollups.files.clone().iter() {
            removed.extend(self.take_out(file).await?);
        }
        let mut rollups = self.lake.rollups.lock().await;
        let operation = DeltaOperation::Write { mode: SaveMode::Overwrite, partition_by: None, predicate: None };
        rollups.commit(self.written, removed, &self.marks, operation).await?;
        drop(rollups);
        self.lake.publish().await?;
        self.report.replaced = true;
        Ok(self.report)
    }

    async fn finish_month(&mut self) -> Result<()> {
        if self.month_us == i64::MIN {
            return Ok(());
        }
        let cells = by_key(std::mem::take(&mut self.month));
        let month_us = self.month_us;
        let of_month = Days::of(month_us).whole_months();
        let before = self.cells_before(|grain, at_us| grain == Grain::Month && at_us == month_us, of_month).await?;
        self.replace(before, cells).await
    }

    /// What the rollups say of some cells, from the files whose buckets may be in a range.
    async fn cells_before(&mut self, wanted: impl Fn(Grain, i64) -> bool, range: Days) -> Result<Vec<Cell>> {
        let mut batches = Vec::new();
        for file in self.view.rollups.files.clone().iter().filter(|file| may_hold(file, range)) {
            for rows in self.rows_before(file).await? {
                batches.push(filter_record_batch(&rows, &mask(&rows, &wanted)?)?);
            }
        }
        let (cells, _) = rollups::merge(&batches)?;
        Ok(cells.iter().map(|cell| cell.to_cell()).collect())
    }

    /// The rows of a file; none of one that is damaged and will be replaced as a whole, which is one more difference.
    async fn rows_before(&mut self, file: &LiveFile) -> Result<Vec<RecordBatch>> {
        match read_file(&self.store, file.path(), None).await {
            Err(LakeError::Damaged { what }) if self.scope.covers(file) => {
                if self.unreadable.insert(file.path().to_owned()) {
                    let place =
                        || format!("rows of data file `rollups/{}`, which cannot be read ({what})", file.path());
                    self.report.found.expect(place, file.rows as i64, 0);
                }
                Ok(Vec::new())
            }
            rows => rows,
        }
    }

    /// Notes where the cells differ, and lets the new ones wait to be written. Both are sorted by their keys.
    async fn replace(&mut self, before: Vec<Cell>, cells: Vec<Cell>) -> Result<()> {
        compare(&before, &cells, &mut self.report);
        self.report.cells += cells.len() as u64;
        let versions = (1, self.report.events_version);
        self.waiting.extend(cells.into_iter().map(|cell| (cell, versions)));
        if self.waiting.len() >= CELLS_WAITING_MAX {
            self.write_waiting().await?;
        }
        Ok(())
    }

    async fn write_waiting(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let slots = tokio::task::spawn_blocking(move || {
            rollups::encode_slots(waiting.iter().map(|(cell, versions)| (cell.borrowed(), *versions)))
        });
        let slots = slots.await.doing("cut cells into files")??;
        for rows in slots {
            self.write(rows).await?;
        }
        Ok(())
    }

    async fn write(&mut self, rows: Vec<RecordBatch>) -> Result<()> {
        self.written.push(write_file(&self.store, ROLLUPS_LAYOUT, rows, Vec::new(), self.lake.now_ms()).await?);
        Ok(())
    }

    /// The removal of a file that holds cells which are replaced. Its other cells move on to a new file as they are.
    async fn take_out(&mut self, file: &LiveFile) -> Result<Option<Remove>> {
        let scope = self.scope;
        if scope.covers(file) {
            return Ok(Some(file.replaced(self.lake.now_ms())));
        }
        if !may_hold(file, scope.months) {
            return Ok(None);
        }
        let (mut kept, mut replaced) = (Vec::new(), 0);
        for rows in read_file(&self.store, file.path(), None).await? {
            let keep = mask(&rows, |grain, at_us| !scope.contains(grain, at_us))?;
            replaced += keep.false_count();
            let rows = filter_record_batch(&rows, &keep)?;
            if rows.num_rows() > 0 {
                // Column by column, since the reader's metadata may differ where the types do not.
                kept.push(RecordBatch::try_new(ROLLUPS.clone(), rows.columns().to_vec())?);
            }
        }
        if replaced == 0 {
            return Ok(None);
        }
        if !kept.is_empty() {
            self.write(kept).await?;
        }
        Ok(Some(file.replaced(self.lake.now_ms())))
    }

    /// Removes files that turned out not to be needed; those that stay are swept later.
    async fn take_back(&self) {
        for add in &self.written {
            let _ = self.store.delete(&Path::from(add.path.as_str())).await;
        }
    }
}

fn add_part(cells: &mut HashMap<CellKey, Cell>, part: Cell) {
    let Some(cell) = cells.get_mut(&part.key) else {
        cells.insert(part.key.clone(), part);
        return;
    };
    cell.counts.merge(&part.counts);
    if let Some(users) = part.users {
        cell.users.get_or_insert_default().merge(&users);
    }
}

fn by_key(cells: HashMap<CellKey, Cell>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = cells.into_values().collect();
    cells.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    cells
}

/// Whether the log's statistics let a file have a bucket in a range. Without statistics, it may.
fn may_hold(file: &LiveFile, range: Days) -> bool {
    let oldest_us = file.oldest_us("bucket").unwrap_or(i64::MIN);
    let newest_us = file.newest_us("bucket").unwrap_or(i64::MAX);
    oldest_us < range.to_us() && newest_us >= range.from_us()
}

/// Which rows are wanted, by their grain and bucket.
fn mask(rows: &RecordBatch, wanted: impl Fn(Grain, i64) -> bool) -> Result<BooleanArray> {
    let columns = Columns(rows);
    let (grains, buckets) = (columns.texts("grain")?, columns.times("bucket")?);
    (0..rows.num_rows())
        .map(|at| {
            let grain = Grain::parse(grains.value(at));
            let what = || LakeError::Damaged { what: format!("{:?} is no grain", grains.value(at)) };
            Ok(Some(wanted(grain.ok_or_else(what)?, buckets.value(at))))
        })
        .collect()
}

/// Walks both, which are sorted by key, and notes each number that is not the same.
fn compare(before: &[Cell], cells: &[Cell], report: &mut RebuildReport) {
    let (mut before, mut cells) = (before.iter().peekable(), cells.iter().peekable());
    loop {
        let (was, is) = match (before.peek(), cells.peek()) {
            (None, None) => return,
            (Some(_), None) => (before.next(), None),
            (None, Some(_)) => (None, cells.next()),
            (Some(was), Some(is)) => match was.key.cmp(&is.key) {
                std::cmp::Ordering::Less => (before.next(), None),
                std::cmp::Ordering::Greater => (None, cells.next()),
                std::cmp::Ordering::Equal => (before.next(), cells.next()),
            },
        };
        compare_cell(was, is, report);
    }
}

fn compare_cell(was: Option<&Cell>, is: Option<&Cell>, report: &mut RebuildReport) {
    let Some(key) = is.or(was).map(|cell| &cell.key) else { return };
    let counts = |cell: Option<&Cell>| cell.map(|cell| cell.counts).unwrap_or_default();
    let (counts_before, counts_now): (Counts, Counts) = (counts(was), counts(is));
    for ((column, expected), (_, found)) in summed(&counts_now).zip(summed(&counts_before)) {
        report.found.expect(|| format!("{}: {column}", place(key)), expected, found);
    }
    let users = |cell: Option<&Cell>| {
        cell.and_then(|cell| cell.users.as_ref()).map_or(0, |users| users.estimate().round() as i64)
    };
    let (expected, found) = (users(is), users(was));
    if !is_within_error(expected, found) {
        report.found.expect(|| format!("{}: users", place(key)), expected, found);
    }
}

/// A cell as people find it: `geo_day campaign_id=c currency=EUR country=DE region=eu bucket=2024-05-05T00:00:00Z`.
fn place(key: &CellKey) -> String {
    let or_null = |text: Option<&str>| text.unwrap_or("null").to_owned();
    let own = key.view.own_dimensions().iter().zip(&key.values);
    let own = own.map(|(dimension, value)| format!("{}={} ", dimension.as_str(), or_null(value.as_deref())));
    format!(
        "{}_{} campaign_id={} currency={} {}bucket={}",
        key.view.as_str(),
        key.grain.as_str(),
        key.campaign_id,
        or_null(key.currency.as_deref()),
        own.collect::<String>(),
        jiff::Timestamp::from_microsecond(key.bucket_us).unwrap_or_default()
    )
}
