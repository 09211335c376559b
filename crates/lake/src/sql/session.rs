//! One client's statements: a context of its own, which nobody else sees, over one snapshot for each statement.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::config::Dialect;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;

use super::catalog::{Snapshot, Views};
use super::check::{check_execution, check_plan};
use super::dictionaries::Dictionaries;
use super::engine::{Sql, SqlLimits};
use super::error::{Result, SqlError};
use super::functions;
use super::rows::Rows;
use super::stop::{Stop, stoppable};
use super::views::Relation;

const CATALOG: &str = "tally";
const SCHEMA: &str = "public";
const SKETCHES_SCHEMA: &str = "sketches";
/// The longest statement that makes sense; what plans it takes stack and time by its length.
const STATEMENT_BYTES_MAX: usize = 64 * 1024;

pub struct SqlSession {
    engine: Sql,
    context: SessionContext,
    snapshot: Snapshot,
}

impl SqlSession {
    pub(super) fn new(engine: Sql, environment: Arc<RuntimeEnv>, threads: usize) -> Self {
        let mut config = SessionConfig::new()
            .with_target_partitions(threads)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_information_schema(true);
        config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
        let dictionaries = Dictionaries { pool: environment.memory_pool.clone() };
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(environment)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(dictionaries));
        let context = SessionContext::new_with_state(state.build());
        functions::register(&context);
        let snapshot = Snapshot::new(engine.view());
        let catalog = MemoryCatalogProvider::new();
        let public = Views { snapshot: snapshot.clone(), names: Relation::public_names, find: Relation::public };
        let sketches = Views { snapshot: snapshot.clone(), names: Relation::sketch_names, find: Relation::sketches };
        // Neither can fail: the catalog is new, and takes any name.
        let _ = catalog.register_schema(SCHEMA, Arc::new(public));
        let _ = catalog.register_schema(SKETCHES_SCHEMA, Arc::new(sketches));
        context.register_catalog(CATALOG, Arc::new(catalog));
        Self { engine, context, snapshot }
    }

    /// For what a protocol adds: its own catalog, its own way to parse.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    pub fn check_length(text: &str) -> Result<()> {
        match text.len() {
            0..=STATEMENT_BYTES_MAX => Ok(()),
            bytes => {
                Err(SqlError::Statement(format!("the statement has {bytes} bytes; {STATEMENT_BYTES_MAX} are taken")))
            }
        }
    }

    /// The plan of a statement in text, over what is committed now.
    pub async fn plan_text(&self, text: &str) -> Result<LogicalPlan> {
        Self::check_length(text)?;
        let parsed = self.context.state().sql_to_statement(text, &Dialect::PostgreSQL);
        self.plan(parsed.map_err(|error| self.engine.error(&error))?).await
    }

    /// The plan of a statement, over what is committed now. Refused where it would do more than read.
    pub async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        self.snapshot.move_to(self.engine.view());
        let planned = self.context.state().statement_to_plan(statement).await;
        let plan = planned.map_err(|error| self.engine.error(&error))?;
        check_plan(&plan)?;
        Ok(plan)
    }

    /// Runs a plan that [`SqlSession::plan`] made, within limits.
    pub async fn start(&self, plan: &LogicalPlan, limits: SqlLimits) -> Result<Rows> {
        check_plan(plan)?;
        let view = self.snapshot.view();
        let state = self.context.state();
        let physical = state.create_physical_plan(plan).await.map_err(|error| self.engine.error(&error))?;
        check_execution(&physical, &[&view.events.root, &view.rollups.root])?;
        let stop = Stop::default();
        let physical = stoppable(physical, &stop).map_err(|error| self.engine.error(&error))?;
        self.engine.execute(physical, self.context.task_ctx(), stop, limits, view.events_version()).await
    }
}
