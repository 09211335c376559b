//! Texts that repeat are read as numbers of a dictionary, and only made texts again where they are shown.
//!
//! Parquet holds such a column as a dictionary for each row group and a number for each row. The engine would put a text into every
//! row, and hash and compare texts to filter and to group. Here a condition on one such column is decided once for each text of a
//! dictionary (`condition`), and groups are told apart by numbers that mean the same text throughout a statement (`groups`,
//! `numbers`, `tuples`, `aggregate`). Money that is only added up by such groups stays as it is stored too (`micros`). Nothing above
//! the partial aggregate, or the topmost filter, sees any of it.

mod accumulators;
mod aggregate;
mod condition;
mod groups;
mod micros;
mod numbers;
mod per_dictionary;
mod scan;
mod tuples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
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
            && let Some(passed) = pass(plan, &Wanted::default())?
        {
            return passed.restored(|_| true).map(Some);
        }
        Ok(None)
    }
}

/// The columns that an operator would rather have as they are stored.
#[derive(Debug, Default)]
struct Wanted {
    dictionaries: BTreeSet<usize>,
    micros: BTreeSet<usize>,
}

impl Wanted {
    /// The same of the operator below, where it has them.
    fn below(&self, source_of: impl Fn(usize) -> Option<usize>) -> Self {
        let below = |columns: &BTreeSet<usize>| columns.iter().filter_map(|at| source_of(*at)).collect();
        Self { dictionaries: below(&self.dictionaries), micros: below(&self.micros) }
    }
}

/// A plan some of whose columns are dictionaries where they were texts, or micros where they were money. All columns are where they
/// were.
struct Passed {
    plan: Arc<dyn ExecutionPlan>,
    dictionaries: BTreeSet<usize>,
    /// With what made money of each.
    micros: BTreeMap<usize, Arc<dyn PhysicalExpr>>,
}

impl Passed {
    /// The plan with some of its columns as they were.
    fn restored(self, which: impl Fn(usize) -> bool) -> Result<Arc<dyn ExecutionPlan>> {
        let is_changed = |at: &usize| self.dictionaries.contains(at) || self.micros.contains_key(at);
        let schema = self.plan.schema();
        let restored: BTreeSet<usize> = (0..schema.fields().len()).filter(is_changed).filter(|at| which(*at)).collect();
        if restored.is_empty() {
            return Ok(self.plan);
        }
        let columns = schema.fields().iter().enumerate().map(|(at, field)| {
            let column = Arc::new(Column::new(field.name(), at));
            let shown: Arc<dyn PhysicalExpr> = match (restored.contains(&at), self.micros.get(&at)) {
                (false, _) => column,
                (true, Some(money)) => money.clone().with_new_children(vec![column])?,
                (true, None) => as_text(column),
            };
            Ok(ProjectionExpr::new(shown, field.name().clone()))
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Result<Vec<_>>>()?, self.plan)?))
    }
}

fn as_text(column: Arc<Column>) -> Arc<dyn PhysicalExpr> {
    Arc::new(CastExpr::new(column, DataType::Utf8View, None))
}

/// The columns that are wanted as they are stored, and those of conditions on the way, as far as the scan below can give them.
/// None where it gives none.
fn pass(plan: &Arc<dyn ExecutionPlan>, wanted: &Wanted) -> Result<Option<Passed>> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        return scan::as_stored(scan, wanted);
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
    Ok(Some(Passed { plan, ..below }))
}

fn pass_filter(filter: &FilterExec, wanted: &Wanted) -> Result<Option<Passed>> {
    let source_of = |at: usize| filter.projection().as_ref().map_or(Some(at), |kept| kept.get(at).copied());
    let mut wanted_below = wanted.below(source_of);
    wanted_below.dictionaries.extend(condition::columns(filter.predicate()));
    // A condition on money is about money.
    let asked: BTreeSet<usize> = collect_columns(filter.predicate()).iter().map(Column::index).collect();
    wanted_below.micros.retain(|at| !asked.contains(at));
    let Some(below) = pass(filter.input(), &wanted_below)? else { return Ok(None) };
    let predicate = condition::once_per_text(filter.predicate(), &below.dictionaries)?;
    let filtered = FilterExecBuilder::from(filter).with_input(below.plan).with_predicate(predicate).build()?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(filtered);
    let columns = 0..plan.schema().fields().len();
    let is_dictionary = |at: &usize| source_of(*at).is_some_and(|source| below.dictionaries.contains(&source));
    let money_of = |at: usize| Some((at, below.micros.get(&source_of(at)?)?.clone()));
    Ok(Some(Passed {
        dictionaries: columns.clone().filter(is_dictionary).collect(),
        micros: columns.filter_map(money_of).collect(),
        plan,
    }))
}

fn pass_projection(projection: &ProjectionExec, wanted: &Wanted) -> Result<Option<Passed>> {
    let source_of = |at: usize| projection.expr().get(at)?.expr.downcast_ref::<Column>().map(Column::index);
    let mut wanted_below = wanted.below(source_of);
    let is_passed = |at: usize| wanted.micros.contains(&at) && source_of(at).is_some();
    let others = projection.expr().iter().enumerate().filter(|(at, _)| !is_passed(*at));
    let asked: BTreeSet<usize> =
        others.flat_map(|(_, other)| collect_columns(&other.expr)).map(|column| column.index()).collect();
    wanted_below.micros.retain(|at| !asked.contains(at));
    let Some(below) = pass(projection.input(), &wanted_below)? else { return Ok(None) };
    let (mut dictionaries, mut micros) = (BTreeSet::new(), BTreeMap::new());
    let mut columns = Vec::new();
    for (at, column) in projection.expr().iter().enumerate() {
        let source = source_of(at);
        let made = if wanted.dictionaries.contains(&at) && source.is_some_and(|at| below.dictionaries.contains(&at)) {
            dictionaries.insert(at);
            column.expr.clone()
        } else if let Some(money) = source.and_then(|source| below.micros.get(&source)) {
            micros.insert(at, money.clone());
            column.expr.clone()
        } else if wanted.micros.contains(&at)
            && let Some(stored) = micros::before_widening(&column.expr)
        {
            micros.insert(at, column.expr.clone());
            condition::once_per_text(&stored, &below.dictionaries)?
        } else {
            condition::once_per_text(&column.expr, &below.dictionaries)?
        };
        columns.push(ProjectionExpr::new(made, column.alias.clone()));
    }
    let plan = if moves_nothing(&columns, &below.plan.schema()) {
        below.plan
    } else {
        Arc::new(ProjectionExec::try_new(columns, below.plan)?)
    };
    Ok(Some(Passed { plan, dictionaries, micros }))
}

/// Whether columns are what they are made of, as where they only made money of micros.
fn moves_nothing(columns: &[ProjectionExpr], from: &Schema) -> bool {
    let is_same = |(at, column): (usize, &ProjectionExpr)| {
        column.expr.downcast_ref::<Column>().is_some_and(|source| source.index() == at)
            && column.alias == *from.field(at).name()
    };
    columns.len() == from.fields().len() && columns.iter().enumerate().all(is_same)
}
