//! Texts that repeat are read as numbers of a dictionary, and only made texts again where they are shown.
//!
//! Parquet holds such a column as a dictionary for each row group and a number for each row. The engine would put a text into every
//! row, and hash and compare texts to filter and to group. Here a condition on one such column is decided once for each text of a
//! dictionary (`condition`), and groups are told apart by numbers that mean the same text throughout a statement (`groups`,
//! `numbers`, `tuples`, `aggregate`). Nothing above the partial aggregate, or the topmost filter, sees any of it.

mod aggregate;
mod condition;
mod groups;
mod numbers;
mod per_dictionary;
mod scan;
mod tuples;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, replace_children_if_necessary};

/// The last of the optimizer's rules: it changes how columns are held, and no row.
#[derive(Debug)]
pub(super) struct Dictionaries {
    /// Of the statements' session: the texts that are told apart count towards it.
    pub pool: Arc<dyn MemoryPool>,
}

impl PhysicalOptimizerRule for Dictionaries {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.rewrite(plan)
    }

    fn name(&self) -> &'static str {
        "dictionaries"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl Dictionaries {
    fn rewrite(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(better) = self.over_dictionaries(&plan)? {
            return Ok(better);
        }
        let children = plan.children().into_iter().map(|child| self.rewrite(child.clone()));
        let children = children.collect::<Result<Vec<_>>>()?;
        replace_children_if_necessary(plan, children)
    }

    /// The same rows by way of dictionaries, where something is gained by them.
    fn over_dictionaries(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            return groups::by_numbers(aggregate, &self.pool);
        }
        if plan.is::<FilterExec>()
            && let Some(passed) = pass(plan, &BTreeSet::new())?
        {
            return passed.with_texts(|_| true).map(Some);
        }
        Ok(None)
    }
}

/// A plan some of whose columns are dictionaries where they were texts. All columns are where they were.
struct Passed {
    plan: Arc<dyn ExecutionPlan>,
    dictionaries: BTreeSet<usize>,
}

impl Passed {
    /// The plan with some of its dictionaries as texts again.
    fn with_texts(self, which: impl Fn(usize) -> bool) -> Result<Arc<dyn ExecutionPlan>> {
        let shown: BTreeSet<usize> = self.dictionaries.iter().copied().filter(|at| which(*at)).collect();
        if shown.is_empty() {
            return Ok(self.plan);
        }
        let schema = self.plan.schema();
        let columns = schema.fields().iter().enumerate().map(|(at, field)| {
            let column = Arc::new(Column::new(field.name(), at));
            let shown: Arc<dyn PhysicalExpr> = if shown.contains(&at) { as_text(column) } else { column };
            ProjectionExpr::new(shown, field.name().clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), self.plan)?))
    }
}

fn as_text(column: Arc<Column>) -> Arc<dyn PhysicalExpr> {
    Arc::new(CastExpr::new(column, DataType::Utf8View, None))
}

/// The columns that are wanted as dictionaries, and those of conditions on the way, as far as the scan below can give them.
/// None where it gives none.
fn pass(plan: &Arc<dyn ExecutionPlan>, wanted: &BTreeSet<usize>) -> Result<Option<Passed>> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        return scan::with_dictionaries(scan, wanted);
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return pass_filter(filter, wanted);
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return pass_projection(projection, wanted);
    }
    let is_moved_only = match plan.downcast_ref::<RepartitionExec>() {
        Some(repartition) => matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_)),
        None => plan.is::<CooperativeExec>(),
    };
    let [child] = plan.children()[..] else { return Ok(None) };
    if !is_moved_only {
        return Ok(None);
    }
    let Some(below) = pass(child, wanted)? else { return Ok(None) };
    let plan = replace_children_if_necessary(plan.clone(), vec![below.plan])?;
    Ok(Some(Passed { plan, dictionaries: below.dictionaries }))
}

fn pass_filter(filter: &FilterExec, wanted: &BTreeSet<usize>) -> Result<Option<Passed>> {
    let source_of = |at: usize| filter.projection().as_ref().map_or(Some(at), |kept| kept.get(at).copied());
    let mut wanted_below = condition::columns(filter.predicate());
    wanted_below.extend(wanted.iter().filter_map(|at| source_of(*at)));
    let Some(below) = pass(filter.input(), &wanted_below)? else { return Ok(None) };
    let predicate = condition::once_per_text(filter.predicate(), &below.dictionaries)?;
    let filtered = FilterExecBuilder::from(filter).with_input(below.plan).with_predicate(predicate).build()?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(filtered);
    let columns = 0..plan.schema().fields().len();
    let is_dictionary = |at: &usize| source_of(*at).is_some_and(|source| below.dictionaries.contains(&source));
    Ok(Some(Passed { dictionaries: columns.filter(is_dictionary).collect(), plan }))
}

fn pass_projection(projection: &ProjectionExec, wanted: &BTreeSet<usize>) -> Result<Option<Passed>> {
    let source_of = |at: usize| projection.expr().get(at)?.expr.downcast_ref::<Column>().map(Column::index);
    let wanted_below: BTreeSet<usize> = wanted.iter().filter_map(|at| source_of(*at)).collect();
    let Some(below) = pass(projection.input(), &wanted_below)? else { return Ok(None) };
    let mut dictionaries = BTreeSet::new();
    let mut columns = Vec::new();
    for (at, column) in projection.expr().iter().enumerate() {
        let stays = wanted.contains(&at) && source_of(at).is_some_and(|source| below.dictionaries.contains(&source));
        if stays {
            dictionaries.insert(at);
            columns.push(column.clone());
        } else {
            let made = condition::once_per_text(&column.expr, &below.dictionaries)?;
            columns.push(ProjectionExpr::new(made, column.alias.clone()));
        }
    }
    Ok(Some(Passed { plan: Arc::new(ProjectionExec::try_new(columns, below.plan)?), dictionaries }))
}
