//! Writing: the commit of a batch, the rollups that follow it, and what a restart has to catch up with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use tally_model::{Cells, Clock, Fact, Mark, Partition, Positions, position_mark, position_marks};
use tokio::sync::{Mutex, watch};
use url::Url;

use crate::cell_cache::CellCache;
use crate::error::{Doing, LakeError, Result};
use crate::event_rows::EventRows;
use crate::events::{self, FACT_COLUMNS, FirstSighting, SIGHTING_AND_CLICK_COLUMNS, SIGHTING_COLUMNS};
use crate::files::read_file;
use crate::new_file::NewFile;
use crate::query::{Past, Queries};
use crate::rebuild::REBUILDS;
use crate::rollups::{self, ROLLUPS_LAYOUT};
use crate::schema::{
    ATTRIBUTION_STATISTICS, ATTRIBUTIONS, EVENTS, EVENTS_FILE, EVENTS_PARTITION_COLUMNS, EVENTS_STATISTICS,
    ROLLUP_STATISTICS, ROLLUPS,
};
use crate::sql::Sql;
use crate::store::SyncedStore;
use crate::sweep::Unused;
use crate::table::{Table, TableSpec, TableVersion};

/// The mark in `rollups`: the version of `events` up to which they are summed up.
const COUNTED: &str = "events";

/// More cells than that in one commit are no live traffic: they are not kept in memory for what may be asked.
const FRESH_CELLS_MAX: usize = 100_000;

/// Files of rollups that are encoded at once, where a commit has many.
const ENCODED_AT_ONCE: usize = 4;

/// Footers of files that are kept, so that the next question does not read them again: about 50 KB each.
const FOOTERS_BYTES_MAX: usize = 128 << 20;

/// [`newest_s`](crate::live_file::LiveFile::newest_s) of a file without statistics.
const UNKNOWN_S: i64 = i64::MAX / 1_000_000;

/// The tables, for the one process that writes them. Cheap to clone.
#[derive(Clone)]
pub struct Lake {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Arc<Mutex<Table>>,
    pub(crate) rollups: Arc<Mutex<Table>>,
    pub(crate) attributions: Arc<Mutex<Table>>,
    past: Past,
    /// The cells of rollups that are asked for, or new.
    pub(crate) cells: CellCache,
    /// Knows the footers of files that were read.
    files: Arc<RuntimeEnv>,
    /// What readers see. `events` and `rollups` move on only when both tell of the same events.
    view: Arc<watch::Sender<LakeView>>,
    pub(crate) unused: Arc<Mutex<Unused>>,
    /// Held by whoever rearranges, replaces or removes files: one at a time.
    pub(crate) maintaining: Arc<Mutex<()>>,
}

/// `events` and `rollups` as of the same events, and `attributions` as far as they are.
#[derive(Debug, Clone)]
pub struct LakeView {
    pub(crate) events: TableVersion,
    pub(crate) rollups: TableVersion,
    /// How often cells were replaced.
    pub(crate) rebuilds: i64,
    pub committed: Positions,
    pub(crate) attributions: TableVersion,
    /// Every conversion below these positions has its row in `attributions`.
    pub attributed: Positions,
}

/// Which first sightings are wanted. More of them may be given.
#[derive(Debug, Clone, Copy)]
pub struct WantedSightings {
    /// Ids judged from this second on..
    pub ids_from_s: i64,
    /// ..and not longer than this before the newest of their partition.
    pub ids_for_s: i64,
    /// With the clicks among those judged at most this long before the newest of all.
    pub clicks_for_s: i64,
}

/// How large a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    pub name: &'static str,
    pub version: i64,
    pub files: usize,
    pub rows: usize,
    pub bytes: u64,
}

impl LakeView {
    pub fn events_version(&self) -> i64 {
        self.events.version
    }

    /// The data files of `events`.
    pub fn event_files(&self) -> Vec<PathBuf> {
        let root = Path::new("/");
        self.events.files.iter().map(|file| root.join(file.scan.object_meta.location.as_ref())).collect()
    }

    pub fn sizes(&self) -> [TableSize; 3] {
        let tables = [("events", &self.events), ("rollups", &self.rollups), ("attributions", &self.attributions)];
        tables.map(|(name, table)| TableSize {
            name,
            version: table.version,
            files: table.files.len(),
            rows: table.files.iter().map(|file| file.rows).sum(),
            bytes: table.files.iter().map(|file| file.size_bytes()).sum(),
        })
    }
}

impl Lake {
    /// Opens the tables below `folder`, or makes them. `partitions` is how many the log has; those that have events already
    /// are known without it.
    pub async fn open(folder: &Path, partitions: u16, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_on(SyncedStore::open(), folder, partitions, clock).await
    }

    /// The same, writing through another store: one that fails on purpose, in tests and simulations.
    pub async fn open_on(
        store: Arc<dyn ObjectStore>,
        folder: &Path,
        partitions: u16,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let (events_url, rollups_url) = (table_url(folder, "events")?, table_url(folder, "rollups")?);
        let events = Table::open_or_create(&store, &events_url, events_spec()).await?;
        let rollups = Table::open_or_create(&store, &rollups_url, rollups_spec()).await?;
        let attributions_url = table_url(folder, "attributions")?;
        let attributions = Table::open_or_create(&store, &attributions_url, attributions_spec()).await?;
        let used = events.files().iter().filter_map(|file| file.greatest_number("partition")).max().unwrap_or(-1) + 1;
        let partitions = partitions.max(u16::try_from(used).unwrap_or(u16::MAX));
        if counted_version(&rollups).await? > events.version() {
            let what = "the rollups count versions that `events` does not have; restore both tables from one back-up";
            return Err(LakeError::Damaged { what: what.to_owned() });
        }
        // After a crash between the two commits, readers see the events that are counted, until the rest is.
        let counted = counted_version(&rollups).await?;
        let seen = match uncounted_versions(&events, counted).await?.first() {
            None => (events.reader_view(), committed_positions(&events, partitions).await?),
            Some(uncounted) => {
                let earlier = Table::open_at(&store, &events_url, events_spec(), uncounted - 1).await?;
                (earlier.reader_view(), committed_positions(&earlier, partitions).await?)
            }
        };
        let view = LakeView {
            events: seen.0,
            rollups: rollups.reader_view(),
            rebuilds: rollups.mark(REBUILDS).await?.unwrap_or(0),
            committed: seen.1,
            attributions: attributions.reader_view(),
            attributed: committed_positions(&attributions, partitions).await?,
        };
        let past = Past { store: store.clone(), url: events_url, spec: events_spec() };
        Ok(Self {
            clock,
            past,
            cells: CellCache::new(0),
            files: RuntimeEnvBuilder::new().with_metadata_cache_limit(FOOTERS_BYTES_MAX).build_arc()?,
            events: Arc::new(Mutex::new(events)),
            rollups: Arc::new(Mutex::new(rollups)),
            attributions: Arc::new(Mutex::new(attributions)),
            view: Arc::new(watch::Sender::new(view)),
            unused: Arc::default(),
            maintaining: Arc::default(),
        })
    }

    /// With about this much memory for cells that are asked for again and again, or new.
    pub fn with_cells_bytes(self, bytes_max: u64) -> Self {
        Self { cells: CellCache::new(bytes_max), ..self }
    }

    /// The memory that cells take.
    pub fn cells_bytes(&self) -> u64 {
        self.cells.bytes()
    }

    /// Whether there is a lake below `folder`.
    pub fn exists(folder: &Path) -> bool {
        folder.join("events").join("_delta_log").is_dir()
    }

    /// What readers see now.
    pub fn view(&self) -> LakeView {
        self.view.borrow().clone()
    }

    pub fn queries(&self) -> Queries {
        Queries::new(self.view.subscribe(), self.past.clone(), self.cells.clone(), &self.files)
    }

    /// The same for work that nobody waits for.
    pub fn background_queries(&self) -> Queries {
        Queries::background(self.view.subscribe(), self.past.clone(), &self.files)
    }

    /// With so much memory for each statement.
    pub fn sql(&self, statement_bytes: usize) -> Result<Sql> {
        Sql::new(self.view.subscribe(), &self.files, statement_bytes)
    }

    /// Up to where the log is committed. Read from the table, not from memory.
    pub async fn committed(&self) -> Result<Positions> {
        let partitions = self.view.borrow().committed.partitions();
        committed_positions(&*self.events.lock().await, partitions).await
    }

    /// Commits a batch together with its positions, and gives the version. The same batch again is not committed twice.
    pub async fn commit_events(&self, rows: &mut EventRows, from: &Positions, upto: &Positions) -> Result<i64> {
        let files = rows.finish().await?;
        let mut table = self.events.lock().await;
        table.write_and_commit(files, &position_marks(from, upto), self.now_ms()).await
    }

    /// Commits what one version of `events` adds to the rollups, once, and lets readers see both.
    pub async fn commit_cells(&self, version: i64, cells: &Cells) -> Result<()> {
        let mut rollups = self.rollups.lock().await;
        let counted = rollups.mark(COUNTED).await?;
        if counted.is_none_or(|counted| counted < version) {
            let rows = cells.iter().map(|cell| (cell, (version, version)));
            // Of a past that is loaded at once: cut at once, since to do so later would be to write it all again.
            let is_large = cells.len() > FRESH_CELLS_MAX;
            let mut files = if is_large { rollups::encode_slots(rows)? } else { vec![rollups::encode(rows)?] };
            files.retain(|rows| !rows.is_empty());
            let layout = ROLLUPS_LAYOUT.fresh();
            let encode = |rows: Vec<RecordBatch>| NewFile::encode(layout, rows, Vec::new());
            let files = stream::iter(files.into_iter().map(encode)).buffered(ENCODED_AT_ONCE).try_collect().await?;
            let mark = Mark { name: COUNTED.to_owned(), before: counted, after: version };
            rollups.write_and_commit(files, &[mark], self.now_ms()).await?;
            if let (false, false, Some(newest)) = (is_large, cells.is_empty(), rollups.files().last()) {
                self.cells.add(newest.path(), cells);
            }
        }
        drop(rollups);
        self.publish().await
    }

    /// The versions whose events are not in the rollups yet, oldest first.
    pub async fn versions_to_count(&self) -> Result<Vec<i64>> {
        let counted = counted_version(&*self.rollups.lock().await).await?;
        uncounted_versions(&*self.events.lock().await, counted).await
    }

    /// Calls `each` with every event that a version added.
    pub async fn facts(&self, version: i64, each: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<()> {
        let (store, added) = {
            let events = self.events.lock().await;
            (events.store(), events.added_in(version).await?)
        };
        for add in added {
            let region = add.partition_values.get("region").cloned().flatten().unwrap_or_default();
            for rows in read_file(&store, &add.path, Some(&FACT_COLUMNS)).await? {
                events::each_fact(&rows, &region, each)?;
            }
        }
        Ok(())
    }

    /// Calls `each` with every first sighting that is wanted, and gives the time of each partition in seconds.
    pub async fn sightings(
        &self,
        wanted: WantedSightings,
        each: &mut (dyn FnMut(FirstSighting<'_>) + Send),
    ) -> Result<Vec<(Partition, i64)>> {
        let (store, view) = {
            let events = self.events.lock().await;
            (events.store(), events.reader_view())
        };
        // Newest files first, until all that is left is known already, or too old for every partition's time.
        let mut files: Vec<_> = view.files.iter().map(|file| (file.newest_s(), file)).collect();
        files.sort_by_key(|(newest_s, _)| std::cmp::Reverse(*newest_s));
        let known_times = files.iter().map(|(newest_s, _)| *newest_s).filter(|newest_s| *newest_s < UNKNOWN_S);
        let clicks_from_s = known_times.max().unwrap_or(0).saturating_sub(wanted.clicks_for_s);
        let partitions = usize::from(self.view.borrow().committed.partitions());
        let mut times: BTreeMap<Partition, i64> = BTreeMap::new();
        for (newest_s, file) in files {
            let earliest_time_s = times.values().min().copied().unwrap_or(i64::MAX);
            let ids_from_s = earliest_time_s.saturating_sub(wanted.ids_for_s).max(wanted.ids_from_s);
            let has_clicks = wanted.clicks_for_s > 0 && newest_s >= clicks_from_s;
            if times.len() == partitions && newest_s < ids_from_s && !has_clicks {
                break;
            }
            let columns: &[&str] = if has_clicks { &SIGHTING_AND_CLICK_COLUMNS } else { &SIGHTING_COLUMNS };
            for rows in read_file(&store, file.path(), Some(columns)).await? {
                events::each_sighting(&rows, |partition, judged_at_s, first| {
                    let time = times.entry(partition).or_default();
                    *time = (*time).max(judged_at_s);
                    if let Some(first) = first {
                        each(first);
                    }
                })?;
            }
        }
        Ok(times.into_iter().collect())
    }

    /// Lets readers see the tables as they are, if both tell of the same events.
    pub(crate) async fn publish(&self) -> Result<()> {
        let events = self.events.lock().await;
        let rollups = self.rollups.lock().await;
        if !uncounted_versions(&events, counted_version(&rollups).await?).await?.is_empty() {
            return Ok(());
        }
        let partitions = self.view.borrow().committed.partitions();
        let committed = committed_positions(&events, partitions).await?;
        let rebuilds = rollups.mark(REBUILDS).await?.unwrap_or(0);
        self.view.send_modify(|view| {
            view.rebuilds = rebuilds;
            view.events = events.reader_view();
            view.rollups = rollups.reader_view();
            view.committed = committed;
        });
        Ok(())
    }

    /// Lets readers see attributions up to these positions.
    pub(crate) fn show_attributions(&self, table: TableVersion, upto: Positions) {
        self.view.send_modify(|view| {
            view.attributions = table;
            view.attributed = upto;
        });
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_us() / 1_000
    }
}

fn table_url(folder: &Path, name: &str) -> Result<Url> {
    let table = folder.join(name);
    std::fs::create_dir_all(&table).doing("make a table's folder")?;
    let table = table.canonicalize().doing("find a table's folder")?;
    let log = table.join("_delta_log");
    if log.is_dir() {
        // A process that was killed may have named a commit without syncing the name.
        std::fs::File::open(log).and_then(|log| log.sync_all()).doing("sync a table's log")?;
    }
    Url::from_directory_path(&table)
        .map_err(|()| LakeError::Damaged { what: "the data folder's path has no URL form".to_owned() })
}

fn events_spec() -> TableSpec {
    TableSpec {
        schema: EVENTS.clone(),
        file_schema: EVENTS_FILE.clone(),
        partition_columns: &EVENTS_PARTITION_COLUMNS,
        statistics: &EVENTS_STATISTICS,
    }
}

fn rollups_spec() -> TableSpec {
    TableSpec {
        schema: ROLLUPS.clone(),
        file_schema: ROLLUPS.clone(),
        partition_columns: &[],
        statistics: &ROLLUP_STATISTICS,
    }
}

fn attributions_spec() -> TableSpec {
    TableSpec {
        schema: ATTRIBUTIONS.clone(),
        file_schema: ATTRIBUTIONS.clone(),
        partition_columns: &[],
        statistics: &ATTRIBUTION_STATISTICS,
    }
}

/// The version of `events` up to which the rollups sum them up.
async fn counted_version(rollups: &Table) -> Result<i64> {
    Ok(rollups.mark(COUNTED).await?.unwrap_or(0))
}

/// The later versions that added events, oldest first.
async fn uncounted_versions(events: &Table, counted: i64) -> Result<Vec<i64>> {
    let mut versions = Vec::new();
    for version in counted + 1..=events.version() {
        if !events.added_in(version).await?.is_empty() {
            versions.push(version);
        }
    }
    Ok(versions)
}

pub(crate) async fn committed_positions(events: &Table, partitions: u16) -> Result<Positions> {
    let mut committed = Positions::start(partitions);
    for partition in 0..partitions {
        let offset = events.mark(&position_mark(partition)).await?.unwrap_or(0);
        committed.advance(partition, u64::try_from(offset).unwrap_or(0));
    }
    Ok(committed)
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| LakeError::Retry { doing, cause: error.to_string() })
    }
}
