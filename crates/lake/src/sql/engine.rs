//! Runs statements: a few at once, on threads of their own, so that however long one computes, no click waits for it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::error::{Result, SqlError};
use super::rows::Rows;
use super::session::SqlSession;
use super::stop::Stop;
use crate::error::LakeError;
use crate::threads::Threads;
use crate::writer::LakeView;

/// Statements that run at once, over HTTP and the wire together; more would only slow each other down.
const RUNNING_MAX: usize = 8;
/// How long a statement waits for its turn before it is told to come back.
const TURN_WAIT: Duration = Duration::from_secs(30);
/// Batches that are made before somebody takes the first: with 8,192 rows each, enough to keep both sides busy.
const AHEAD_BATCHES: usize = 2;
/// What one statement may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    pub time: Duration,
    /// None where rows go to somebody who takes them as they come.
    pub rows: Option<usize>,
}

/// Answers SQL about what is committed. Cheap to clone.
#[derive(Clone)]
pub struct Sql(Arc<Engine>);

struct Engine {
    /// Memory of one statement, as far as the engine keeps count of it. Nothing is spilled to disk: a statement that needs more
    /// has no business beside counting.
    statement_bytes: usize,
    view: watch::Receiver<LakeView>,
    environment: Arc<RuntimeEnv>,
    turns: Arc<Semaphore>,
    threads: Threads,
}

impl Sql {
    pub(crate) fn new(
        view: watch::Receiver<LakeView>,
        files: &RuntimeEnv,
        statement_bytes: usize,
    ) -> std::result::Result<Self, LakeError> {
        let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let environment = RuntimeEnvBuilder::from_runtime_env(files).with_disk_manager_builder(no_disk).build_arc()?;
        let turns = Arc::new(Semaphore::new(RUNNING_MAX));
        Ok(Self(Arc::new(Engine { statement_bytes, view, environment, turns, threads: Threads::start()? })))
    }

    /// Where statements run, for other questions that compute long.
    pub fn threads(&self) -> Threads {
        self.0.threads.clone()
    }

    /// For the statements of one client, one after the other.
    pub fn session(&self) -> Result<SqlSession> {
        let environment = RuntimeEnvBuilder::from_runtime_env(&self.0.environment)
            .with_memory_limit(self.0.statement_bytes, 1.0)
            .build_arc()
            .map_err(|error| self.error(&error))?;
        Ok(SqlSession::new(self.clone(), environment, Threads::count()))
    }

    /// One statement, whose first rows are there.
    pub async fn run(&self, text: &str, limits: SqlLimits) -> Result<Rows> {
        let session = self.session()?;
        let plan = session.plan_text(text).await?;
        session.start(&plan, limits).await?.with_first().await
    }

    /// Statements that run now.
    pub fn running(&self) -> usize {
        RUNNING_MAX - self.0.turns.available_permits()
    }

    pub(super) fn view(&self) -> LakeView {
        self.0.view.borrow().clone()
    }

    pub(super) fn error(&self, error: &datafusion::error::DataFusionError) -> SqlError {
        SqlError::of(error, self.0.statement_bytes)
    }

    pub(super) async fn execute(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        stop: Stop,
        limits: SqlLimits,
        table_version: i64,
    ) -> Result<Rows> {
        let turn = tokio::time::timeout(TURN_WAIT, self.0.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| SqlError::Busy)?.map_err(|_| SqlError::Busy)?;
        let (out, batches) = mpsc::channel(AHEAD_BATCHES);
        let schema = plan.schema();
        let running = self.0.threads.spawn(feed(self.clone(), plan, context, out, turn, limits.time));
        let running = Some(running.ok_or(SqlError::Busy)?);
        let deadline = Box::pin(tokio::time::sleep(limits.time));
        Ok(Rows { schema, table_version, limits, batches, running, stop, deadline, first: None, given: 0 })
    }
}

/// Holds its turn until the root of the plan has ended; what computes beside it ends at its next batch.
async fn feed(
    sql: Sql,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    out: mpsc::Sender<RecordBatch>,
    _turn: OwnedSemaphorePermit,
    limit: Duration,
) -> Result<()> {
    let made = async {
        let mut batches = execute_stream(plan, context)?;
        while let Some(batch) = batches.next().await {
            if out.send(batch?).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(limit, made).await {
        Ok(ended) => ended.map_err(|error| sql.error(&error)),
        Err(_) => Err(SqlError::TooLong { limit }),
    }
}
