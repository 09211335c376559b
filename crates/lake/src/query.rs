//! Questions: reports, checks, and the life of one event. All of one question is answered from one view of both tables.

mod analysis;
mod attributed;
mod bucket;
mod check;
mod check_attributions;
mod compare;
mod conversions;
mod in_memory;
mod indexed_files;
mod item;
mod life;
mod moment;
mod page;
mod past;
mod percentiles;
mod plan;
mod props;
mod provider;
mod quarantine;
mod recount;
mod report;
mod sample;
mod small_groups;
mod users;

use std::sync::Arc;

use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use tokio::sync::watch;

use crate::cell_cache::CellCache;
use crate::error::Result;
use crate::table::TableVersion;
use crate::threads::Threads;
use crate::writer::LakeView;

pub(crate) use check::is_within_error;
pub(crate) use conversions::conversion_row;
pub use moment::Moment;
pub(crate) use past::Past;
pub(crate) use plan::Source;
pub(crate) use provider::FileTable;
pub(crate) use report::{day, time};
pub(crate) use users::users_function;

/// Memory that running queries may hold together; one that needs more fails, and the others go on.
const MEMORY_BYTES: usize = 2 << 30;
/// The same for questions that nobody waits for, which run one at a time and spill beyond it.
const BACKGROUND_MEMORY_BYTES: usize = 512 << 20;

/// Answers questions about what is committed. Cheap to clone.
#[derive(Clone)]
pub struct Queries {
    view: watch::Receiver<LakeView>,
    past: Past,
    session: SessionContext,
    cells: CellCache,
    audience_people_min: u64,
}

/// Audiences of fewer people are not told, where nothing else is said.
const AUDIENCE_PEOPLE_MIN: u64 = 10;

impl Queries {
    pub(crate) fn new(view: watch::Receiver<LakeView>, past: Past, cells: CellCache, files: &RuntimeEnv) -> Self {
        Self { cells, ..Self::limited(view, past, files, Threads::count(), MEMORY_BYTES) }
    }

    /// For work that must not get in the way of people's questions: one thread, and little memory of its own. It asks the files
    /// themselves.
    pub(crate) fn background(view: watch::Receiver<LakeView>, past: Past, files: &RuntimeEnv) -> Self {
        Self::limited(view, past, files, 1, BACKGROUND_MEMORY_BYTES)
    }

    fn limited(
        view: watch::Receiver<LakeView>,
        past: Past,
        files: &RuntimeEnv,
        threads: usize,
        memory_bytes: usize,
    ) -> Self {
        let config = SessionConfig::new().with_target_partitions(threads);
        let session = match RuntimeEnvBuilder::from_runtime_env(files).with_memory_limit(memory_bytes, 1.0).build_arc()
        {
            Ok(runtime) => SessionContext::new_with_config_rt(config, runtime),
            Err(_) => SessionContext::new_with_config(config),
        };
        Self { view, past, session, cells: CellCache::new(0), audience_people_min: AUDIENCE_PEOPLE_MIN }
    }

    /// Tells audiences of this many people and more. 0: all.
    pub fn with_audience_people_min(self, audience_people_min: u64) -> Self {
        Self { audience_people_min, ..self }
    }

    fn current(&self) -> LakeView {
        self.view.borrow().clone()
    }

    pub(crate) fn table(&self, table: &TableVersion, partition_columns: &[&str]) -> Result<DataFrame> {
        let provider = FileTable::new(table.clone(), partition_columns);
        Ok(self.session.read_table(Arc::new(provider))?)
    }
}
