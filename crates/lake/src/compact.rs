//! Compaction: few large sorted files instead of many small ones, while writing goes on.
//!
//! Our own rather than the library's OPTIMIZE, which can duplicate every row when two run at once (decision 0003). Rows are
//! rearranged, never changed; a maintenance mark and a last look at the files keep a second or a stale run out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use deltalake_core::kernel::Add;
use deltalake_core::protocol::DeltaOperation;
use object_store::ObjectStore;
use tally_model::{Grain, Mark, bucket_start_us};
use tokio::sync::Mutex;
use tracing::debug;

use crate::error::{Doing, LakeError, Result};
use crate::events::EVENTS_LAYOUT;
use crate::files::{read_files, write_file};
use crate::live_file::LiveFile;
use crate::new_file::Rows;
use crate::numbered::read_numbered;
use crate::rollups::{self, ROLLUPS_LAYOUT};
use crate::schema::{EVENTS_FILE, ROLLUPS};
use crate::table::Table;
use crate::writer::Lake;

/// The mark that each change of files other than a batch's moves on.
pub(crate) const MAINTENANCE: &str = "maintenance";
/// Files that differ in rows by less than this factor are merged with each other: every row is rewritten a logarithmic
/// number of times, instead of with each arrival.
const TIER_FACTOR: usize = 8;
/// A day, or a slot, that gets no file for so long is settled: few files are worth merging then, since the rest will not come.
const SETTLED_MS: i64 = 120_000;
const SETTLED_FILES_MIN: usize = 4;

/// Compressed bytes that one run reads: bounds its memory also where single events are large.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Clone, Copy)]
pub struct CompactionSettings {
    /// So many files of alike size are worth merging.
    pub files_min: usize,
    /// Rows that one run holds in memory.
    pub rows_max: usize,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self { files_min: 8, rows_max: 500_000 }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionReport {
    pub table: &'static str,
    pub files_before: usize,
    pub files_after: usize,
    pub rows: usize,
}

impl Lake {
    /// Merges one group of files of each table, where there is one worth it, and nobody else is at the files.
    pub async fn compact(&self, settings: CompactionSettings) -> Result<Vec<CompactionReport>> {
        let Ok(_maintaining) = self.maintaining.try_lock() else { return Ok(Vec::new()) };
        // One after the other, but neither waits for the other's success.
        let events = self.compact_events(settings).await;
        let rollups = self.compact_rollups(settings).await;
        let reports: Vec<CompactionReport> = [events?, rollups?].into_iter().flatten().collect();
        if !reports.is_empty() {
            self.publish().await?;
        }
        Ok(reports)
    }

    async fn compact_events(&self, settings: CompactionSettings) -> Result<Option<CompactionReport>> {
        // Files that are not counted yet stay as they are: catching up reads them by name.
        let now_ms = self.now_ms();
        let counted: HashSet<String> = self.view().events.files.iter().map(|file| file.path().to_owned()).collect();
        let choose = |files: &[Arc<LiveFile>]| {
            let files = files.iter().filter(|file| counted.contains(file.path()));
            event_files(files, settings, now_ms)
        };
        let Some(run) = Run::begin("events", &self.events, choose).await? else { return Ok(None) };
        let rows = read_numbered(&run.store, &run.paths(), &EVENTS_FILE).await?;
        let sorting = tokio::task::spawn_blocking(move || sorted(rows));
        let sorted = sorting.await.doing("sort events")??;
        let partition_values = ["event_date", "region"].map(|name| {
            let value = run.inputs.first().and_then(|file| file.partition_value(name)).unwrap_or_default();
            (name, value.to_owned())
        });
        let add = write_file(&run.store, EVENTS_LAYOUT, sorted, partition_values.to_vec(), self.now_ms()).await?;
        run.finish(&self.events, vec![add], self.now_ms()).await
    }

    async fn compact_rollups(&self, settings: CompactionSettings) -> Result<Option<CompactionReport>> {
        let now_ms = self.now_ms();
        let choose = |files: &[Arc<LiveFile>]| rollup_files(files.iter(), settings, now_ms);
        let Some(run) = Run::begin("rollups", &self.rollups, choose).await? else { return Ok(None) };
        let batches = read_files(&run.store, &run.paths(), &ROLLUPS).await?;
        let slots = tokio::task::spawn_blocking(move || merge_cells(&batches)).await.doing("merge cells")??;
        let mut adds = Vec::with_capacity(slots.len());
        for rows in slots {
            let add = write_file(&run.store, ROLLUPS_LAYOUT, rows.clone(), Vec::new(), self.now_ms()).await?;
            // What was asked of the old files will be asked of the new ones.
            self.cells.add_in_place_of(&run.inputs, &add.path, &rows);
            adds.push(add);
        }
        run.finish(&self.rollups, adds, self.now_ms()).await
    }
}

/// One compaction of one table, from choosing the files to the commit.
struct Run {
    table: &'static str,
    store: Arc<dyn ObjectStore>,
    inputs: Vec<Arc<LiveFile>>,
    /// As it stood when the files were chosen: who else compacts in between is noticed by it.
    mark: Option<i64>,
}

impl Run {
    async fn begin(
        name: &'static str,
        table: &Mutex<Table>,
        choose: impl Fn(&[Arc<LiveFile>]) -> Option<Vec<Arc<LiveFile>>>,
    ) -> Result<Option<Self>> {
        let table = table.lock().await;
        let Some(inputs) = choose(table.files()) else { return Ok(None) };
        debug!(table = name, files = inputs.len(), "compaction begun");
        Ok(Some(Self { table: name, store: table.store(), inputs, mark: table.mark(MAINTENANCE).await? }))
    }

    fn paths(&self) -> Vec<&str> {
        self.inputs.iter().map(|file| file.path()).collect()
    }

    /// Swaps the files, if all of the old ones are still live.
    async fn finish(self, table: &Mutex<Table>, mut adds: Vec<Add>, now_ms: i64) -> Result<Option<CompactionReport>> {
        let mut table = table.lock().await;
        if !self.inputs.iter().all(|input| table.files().iter().any(|live| live.path() == input.path())) {
            return Ok(None);
        }
        let rows_before: usize = self.inputs.iter().map(|file| file.rows).sum();
        let remove = self.inputs.iter().map(|file| file.rearranged(now_ms)).collect();
        for add in &mut adds {
            add.data_change = false;
        }
        let files_after = adds.len();
        let mark = Mark { name: MAINTENANCE.to_owned(), before: self.mark, after: self.mark.unwrap_or(0) + 1 };
        let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
        table.commit(adds, remove, &[mark], operation).await?;
        Ok(Some(CompactionReport {
            table: self.table,
            files_before: self.inputs.len(),
            files_after,
            rows: rows_before,
        }))
    }
}

/// Files of one day and region, of alike size; where none are due, those of one that is settled.
fn event_files<'a>(
    files: impl Iterator<Item = &'a Arc<LiveFile>>,
    settings: CompactionSettings,
    now_ms: i64,
) -> Option<Vec<Arc<LiveFile>>> {
    let mut places: BTreeMap<_, Vec<Arc<LiveFile>>> = BTreeMap::new();
    for file in files.filter(|file| is_small(file, settings)) {
        let partition = (file.partition_value("event_date"), file.partition_value("region"));
        places.entry(partition).or_default().push(file.clone());
    }
    let alike = places.values().flat_map(|files| by_tier(files));
    fullest(alike, settings).or_else(|| settled(places.into_values(), settings, now_ms))
}

/// Files as commits leave them, with all grains and views; or files of one slot, of alike size, or few of a settled one. Where no
/// group is due, a large one that is not cut into slots yet, as earlier versions left them of a past that was loaded.
fn rollup_files<'a>(
    files: impl Iterator<Item = &'a Arc<LiveFile>>,
    settings: CompactionSettings,
    now_ms: i64,
) -> Option<Vec<Arc<LiveFile>>> {
    let mut places: BTreeMap<_, Vec<Arc<LiveFile>>> = BTreeMap::new();
    let (mut commits, mut uncut) = (Vec::new(), None);
    for file in files {
        match slot_of(file) {
            slot if is_small(file, settings) => match slot {
                Some(slot) => places.entry(slot).or_default().push(file.clone()),
                None => commits.push(file.clone()),
            },
            Some(_) => {}
            None => uncut = uncut.or_else(|| Some(vec![file.clone()])),
        }
    }
    let alike = places.values().flat_map(|files| by_tier(files));
    fullest(alike.chain([commits]), settings).or_else(|| settled(places.into_values(), settings, now_ms)).or(uncut)
}

/// Grain, view and month of a file that holds only these.
fn slot_of(file: &LiveFile) -> Option<(String, String, i64)> {
    let (grain, greatest_grain) = file.text_bounds("grain")?;
    let (view, greatest_view) = file.text_bounds("view")?;
    let month = bucket_start_us(Grain::Month, file.oldest_us("bucket")?);
    let is_one = grain == greatest_grain && view == greatest_view;
    is_one.then(|| (grain.to_owned(), view.to_owned(), month))
}

/// Whether a run could hold it and another like it.
fn is_small(file: &LiveFile, settings: CompactionSettings) -> bool {
    file.rows * 2 <= settings.rows_max && file.size_bytes() * 2 <= BYTES_MAX
}

fn by_tier(files: &[Arc<LiveFile>]) -> impl Iterator<Item = Vec<Arc<LiveFile>>> + use<> {
    let mut tiers: BTreeMap<u32, Vec<Arc<LiveFile>>> = BTreeMap::new();
    for file in files {
        tiers.entry(file.rows.max(1).ilog(TIER_FACTOR)).or_default().push(file.clone());
    }
    tiers.into_values()
}

/// The small files of a place that no file came to lately, up to the largest that the smaller ones are worth rewriting.
fn settled(
    places: impl Iterator<Item = Vec<Arc<LiveFile>>>,
    settings: CompactionSettings,
    now_ms: i64,
) -> Option<Vec<Arc<LiveFile>>> {
    let is_settled =
        |files: &Vec<Arc<LiveFile>>| files.iter().all(|file| file.add.modification_time + SETTLED_MS <= now_ms);
    let worth = places.filter(is_settled).map(|mut files| {
        files.sort_by_key(|file| file.rows);
        let (mut smaller, mut count) = (0, 0);
        for (at, file) in files.iter().enumerate() {
            if file.rows <= smaller * TIER_FACTOR {
                count = at + 1;
            }
            smaller += file.rows;
        }
        files.truncate(count);
        files
    });
    fullest(worth, CompactionSettings { files_min: settings.files_min.min(SETTLED_FILES_MIN), ..settings })
}

/// The group with the most files, cut to what a run may hold.
fn fullest(
    groups: impl Iterator<Item = Vec<Arc<LiveFile>>>,
    settings: CompactionSettings,
) -> Option<Vec<Arc<LiveFile>>> {
    let mut fullest = groups.filter(|group| group.len() >= settings.files_min).max_by_key(Vec::len)?;
    fullest.sort_by_key(|file| file.rows);
    let (mut rows, mut bytes) = (0, 0);
    let fitting = fullest.iter().take_while(|file| {
        rows += file.rows;
        bytes += file.size_bytes();
        rows <= settings.rows_max && bytes <= BYTES_MAX
    });
    let fitting = fitting.count();
    fullest.truncate(fitting);
    (fullest.len() > 1).then_some(fullest)
}

/// By campaign, then time: what reports filter by stands together.
pub(crate) fn sorted(rows: Rows) -> Result<Rows> {
    let mut places = Vec::new();
    for (batch, rows) in rows.batches.iter().enumerate() {
        // Numbers of texts have their order.
        let campaigns = column(rows, "campaign_id")?.as_primitive::<Int32Type>();
        let times = column(rows, "occurred_at")?.as_primitive::<TimestampMicrosecondType>();
        let keys = campaigns.iter().zip(times.values()).enumerate();
        places.extend(keys.map(|(at, (campaign, time_us))| (campaign, *time_us, batch, at)));
    }
    places.sort_unstable();
    Ok(Rows { order: Some(places.into_iter().map(|(.., batch, at)| (batch, at)).collect()), ..rows })
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let column = rows.column_by_name(name);
    column.ok_or_else(|| LakeError::Damaged { what: format!("a data file has no column `{name}`") })
}

/// Adds up equal cells.
fn merge_cells(batches: &[RecordBatch]) -> Result<Vec<Vec<RecordBatch>>> {
    let (cells, versions) = rollups::merge(batches)?;
    rollups::encode_slots(cells.iter().zip(versions))
}
