//! Questions: reports, checks, and the life of one event. All of one question is answered from one view of both tables.

mod bucket;
mod check;
mod compare;
mod life;
mod plan;
mod provider;
mod report;
mod users;

use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use tokio::sync::watch;

use crate::error::Result;
use crate::table::TableVersion;
use crate::writer::LakeView;

pub(crate) use check::is_within_error;
pub(crate) use plan::Source;

/// Memory that running queries may hold together; one that needs more fails, and the others go on.
const MEMORY_BYTES: usize = 2 << 30;

/// Answers questions about what is committed. Cheap to clone.
#[derive(Clone)]
pub struct Queries {
    view: watch::Receiver<LakeView>,
    session: SessionContext,
}

impl Queries {
    pub(crate) fn new(view: watch::Receiver<LakeView>) -> Self {
        let config =
            SessionConfig::new().with_target_partitions(std::thread::available_parallelism().map_or(1, usize::from));
        let session = match RuntimeEnvBuilder::new().with_memory_limit(MEMORY_BYTES, 1.0).build_arc() {
            Ok(runtime) => SessionContext::new_with_config_rt(config, runtime),
            Err(_) => SessionContext::new_with_config(config),
        };
        Self { view, session }
    }

    fn current(&self) -> LakeView {
        self.view.borrow().clone()
    }

    fn table(&self, table: &TableVersion, partition_columns: &[&str]) -> Result<DataFrame> {
        let provider = provider::FileTable::new(table.clone(), partition_columns);
        Ok(self.session.read_table(Arc::new(provider))?)
    }
}
