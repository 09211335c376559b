//! The cells of files in memory, for reports that are asked again and again and for the time that is under way: adding up some
//! thousand of them takes less than planning a query. Bounded; what is not there is read from the files.
//!
//! A file never changes and has a name of its own for all time, so that nothing here can be out of date.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};
use tally_model::report::Base;
use tally_model::{Cells, Grain, TextNumber, View};
use tracing::warn;

use crate::error::{Doing, Result};
use crate::files::read_file;
use crate::live_file::LiveFile;
use crate::rollups;
use crate::schema::{ROLLUPS, base_column};

/// Files that the cache is made for; more fit where they are small.
const FILES: usize = 1_000;
/// About what a cell takes in memory without its sketch, and the bytes of a file with them, to know it before the file is read.
const CELL_BYTES: u64 = 110;
const UNPACKED: u64 = 2;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct CellCache(Arc<Shared>);

struct Shared {
    files: Cache<String, Arc<FileCells>, ByBytes>,
    bytes_max: u64,
    /// Whether files are being read: one after the other, so that questions have the processors.
    is_loading: AtomicBool,
}

/// All cells of a file.
#[derive(Debug)]
pub(crate) struct FileCells {
    slots: Vec<Slot>,
    /// Whether with their sketches, which take most of the room: few questions are about users.
    has_users: bool,
}

/// The cells of one grain and view, those of a campaign together.
#[derive(Debug)]
pub(crate) struct Slot {
    pub grain: Grain,
    pub view: View,
    pub cells: Cells,
    /// Campaigns by name, each with where its cells begin; they end where the next one's begin.
    campaigns: Vec<(TextNumber, usize)>,
    /// Whether those of a campaign go forward in time, as files are written.
    is_in_order: bool,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<String, Arc<FileCells>> for ByBytes {
    fn weight(&self, path: &String, file: &Arc<FileCells>) -> u64 {
        (path.len() + file.bytes()) as u64
    }
}

impl CellCache {
    /// Keeps about this much; with 0, nothing.
    pub fn new(bytes_max: u64) -> Self {
        // In one piece: of several, each would keep no file larger than itself, which would be read for each question anew.
        let mut options = OptionsBuilder::new();
        options.shards(1).estimated_items_capacity(FILES).weight_capacity(bytes_max);
        let files = match options.build() {
            Ok(options) => Cache::with_options(options, ByBytes, Default::default(), Default::default()),
            Err(_) => Cache::with_weighter(FILES, bytes_max, ByBytes),
        };
        Self(Arc::new(Shared { files, bytes_max, is_loading: AtomicBool::new(false) }))
    }

    /// The cells of a file, if they are there, and with sketches where these are needed.
    pub fn get(&self, path: &str, needs_users: bool) -> Option<Arc<FileCells>> {
        self.0.files.get(path).filter(|file| file.has_users || !needs_users)
    }

    pub fn bytes(&self) -> u64 {
        self.0.files.weight()
    }

    /// Takes in a file by the cells that were written to it.
    pub fn add(&self, path: &str, cells: &Cells) {
        if self.0.bytes_max > 0 {
            self.0.files.insert(path.to_owned(), Arc::new(FileCells::of(cells, true)));
        }
    }

    /// The cells of a file that takes the place of others, as far as those were in memory. One that cannot be read as cells is left
    /// to whoever asks the file itself.
    pub fn add_in_place_of(&self, replaced: &[Arc<LiveFile>], path: &str, rows: &[RecordBatch]) {
        let were_in = |needs_users| replaced.iter().all(|file| self.get(file.path(), needs_users).is_some());
        if !were_in(false) {
            return;
        }
        let has_users = were_in(true);
        match decoded(rows, has_users) {
            Ok(file) => self.0.files.insert(path.to_owned(), Arc::new(file)),
            Err(error) => warn!(%error, path, "the cells of a file are not kept in memory"),
        }
    }

    /// Whether files may be in memory together. Else they would push each other out, question after question.
    pub fn has_room_for(&self, files: &[&Arc<LiveFile>], needs_users: bool) -> bool {
        let sketches = |file: &LiveFile| if needs_users { file.size_bytes() * UNPACKED } else { 0 };
        let bytes = files.iter().map(|file| file.rows as u64 * CELL_BYTES + sketches(file));
        bytes.sum::<u64>() <= self.0.bytes_max / 4 * 3
    }

    /// Reads files in the background, for the next one who asks.
    pub fn load(&self, store: Arc<dyn ObjectStore>, paths: Vec<String>, needs_users: bool) {
        if self.0.is_loading.swap(true, Ordering::AcqRel) {
            return;
        }
        let cache = self.clone();
        tokio::spawn(async move {
            for path in paths {
                if let Err(error) = cache.load_one(&store, &path, needs_users).await {
                    // Swept meanwhile, or damaged: whoever asks the file is told.
                    warn!(%error, path, "the cells of a file are not kept in memory");
                }
            }
            cache.0.is_loading.store(false, Ordering::Release);
        });
    }

    async fn load_one(&self, store: &Arc<dyn ObjectStore>, path: &str, has_users: bool) -> Result<()> {
        let columns: Vec<&str> = ROLLUPS.fields().iter().map(|field| field.name().as_str()).collect();
        let without: Vec<&str> = columns.iter().copied().filter(|name| *name != base_column(Base::Users)).collect();
        let rows = read_file(store, path, Some(if has_users { &columns } else { &without })).await?;
        let decoding = tokio::task::spawn_blocking(move || decoded(&rows, has_users));
        let file = decoding.await.doing("read cells")??;
        self.0.files.insert(path.to_owned(), Arc::new(file));
        Ok(())
    }
}

fn decoded(rows: &[RecordBatch], has_users: bool) -> Result<FileCells> {
    let cells = if has_users { rollups::decode(rows)? } else { rollups::decode_without_users(rows)? };
    Ok(FileCells::of(&cells, has_users))
}

impl FileCells {
    fn of(cells: &Cells, has_users: bool) -> Self {
        let slots = cells.by_slot().into_iter().map(|(grain, view, cells)| Slot::new(grain, view, cells));
        Self { slots: slots.collect(), has_users }
    }

    pub fn slot(&self, grain: Grain, view: View) -> Option<&Slot> {
        self.slots.iter().find(|slot| (slot.grain, slot.view) == (grain, view))
    }

    fn bytes(&self) -> usize {
        let texts = self.slots.first().map_or(0, |slot| slot.cells.texts().bytes());
        texts + self.slots.iter().map(|slot| slot.cells.bytes() + slot.campaigns.len() * 16).sum::<usize>()
    }
}

impl Slot {
    fn new(grain: Grain, view: View, cells: Cells) -> Self {
        let mut campaigns: Vec<(TextNumber, usize)> = Vec::new();
        for at in 0..cells.len() {
            let campaign = cells.key(at).campaign;
            if campaigns.last().is_none_or(|(last, _)| *last != campaign) {
                campaigns.push((campaign, at));
            }
        }
        let is_next = |at: usize| {
            let (before, after) = (cells.key(at - 1), cells.key(at));
            before.campaign != after.campaign || before.bucket_us <= after.bucket_us
        };
        let is_in_order = (1..cells.len()).all(is_next);
        Self { grain, view, cells, campaigns, is_in_order }
    }

    /// The cells of a campaign, or of all, within a range of time.
    pub fn places(&self, campaign: Option<&str>, range_us: Range<i64>) -> impl Iterator<Item = usize> {
        let number = campaign.map(|campaign| self.cells.texts().find(campaign));
        let runs = self.campaigns.iter().enumerate().filter(move |(_, (of, _))| match number {
            None => true,
            Some(number) => number == Some(*of),
        });
        let runs =
            runs.map(|(at, (_, from))| *from..self.campaigns.get(at + 1).map_or(self.cells.len(), |(_, from)| *from));
        let is_within = range_us.clone();
        runs.flat_map(move |run| if self.is_in_order { self.within(run, &range_us) } else { run })
            .filter(move |at| is_within.contains(&self.cells.key(*at).bucket_us))
    }

    /// The part of a run that is within a range of time.
    fn within(&self, run: Range<usize>, range_us: &Range<i64>) -> Range<usize> {
        let first_from = |at_us: i64| {
            let (mut low, mut high) = (run.start, run.end);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.cells.key(middle).bucket_us < at_us { low = middle + 1 } else { high = middle }
            }
            low
        };
        first_from(range_us.start)..first_from(range_us.end)
    }
}
