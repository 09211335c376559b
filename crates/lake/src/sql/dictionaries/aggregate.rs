//! A first aggregate whose groups are numbers already: what the engine would look up in a hash table for each row is the place of
//! its sums.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};

use super::accumulators::{Accumulator, Counts, Rows, SumsOfMicros};
use super::groups::{Parts, Tuple};
use super::micros::is_sum_of_micros;
use super::tuples::Places;

/// Gives what an aggregate gives whose groups are a tuple and nothing else.
#[derive(Debug, Clone)]
pub(super) struct TupleAggregate {
    mode: AggregateMode,
    tuple: Arc<Tuple>,
    functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Which of them are sums of money whose column is micros.
    of_micros: Vec<bool>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    condition: Option<Condition>,
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

/// Which rows of the input are added up, and which columns of them: a filter right below would copy them once more, into batches
/// of one length.
#[derive(Debug, Clone)]
struct Condition {
    holds: Arc<dyn PhysicalExpr>,
    columns: Option<Arc<[usize]>>,
}

impl TupleAggregate {
    /// Whether all that an aggregate computes can be kept by group.
    pub fn can_take(aggregate: &AggregateExec) -> bool {
        let is_kept = |function: &Arc<AggregateFunctionExpr>| {
            function.groups_accumulator_supported() && function.order_bys().is_empty()
        };
        aggregate.aggr_expr().iter().all(is_kept)
    }

    pub fn new(
        aggregate: &AggregateExec,
        tuple: Arc<Tuple>,
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
        input: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let schema = aggregate.schema();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let (mode, functions) = (*aggregate.mode(), aggregate.aggr_expr().to_vec());
        let of_micros = functions.iter().map(|function| is_sum_of_micros(function, &input.schema())).collect();
        let (condition, input) = Condition::split_off(input);
        Self { mode, tuple, functions, of_micros, filters, condition, input, schema, properties: Arc::new(properties) }
    }
}

impl Condition {
    fn split_off(input: Arc<dyn ExecutionPlan>) -> (Option<Self>, Arc<dyn ExecutionPlan>) {
        match input.downcast_ref::<FilterExec>() {
            Some(filter) if filter.fetch().is_none() => {
                let columns = filter.projection().as_deref().map(Arc::from);
                (Some(Self { holds: filter.predicate().clone(), columns }), filter.input().clone())
            }
            _ => (None, input),
        }
    }

    fn rows_of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let holds = boolean(self.holds.as_ref(), batch)?;
        Ok(match &self.columns {
            Some(columns) => filter_record_batch(&batch.project(columns)?, &holds)?,
            None => filter_record_batch(batch, &holds)?,
        })
    }
}

/// The rows that a condition holds for, without nulls: where it is not known, it does not.
fn boolean(condition: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<BooleanArray> {
    let holds = condition.evaluate(batch)?.into_array(batch.num_rows())?;
    let holds = holds.as_boolean_opt();
    let holds = holds.ok_or_else(|| DataFusionError::Internal(format!("{condition} is no condition")))?;
    Ok(if holds.null_count() > 0 { prep_null_mask_filter(holds) } else { holds.clone() })
}

impl DisplayAs for TupleAggregate {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<_> = self.functions.iter().map(|function| function.name()).collect();
        write!(f, "TupleAggregate: mode={:?}, gby=[{}], aggr=[{}]", self.mode, self.tuple, functions.join(", "))?;
        match &self.condition {
            Some(condition) => write!(f, ", where=[{}]", condition.holds),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for TupleAggregate {
    fn name(&self) -> &'static str {
        "TupleAggregate"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let tuple: Arc<dyn PhysicalExpr> = self.tuple.clone();
        let arguments = self.functions.iter().flat_map(|function| function.expressions());
        let conditions = self.condition.iter().map(|condition| &condition.holds).chain(self.filters.iter().flatten());
        for expression in std::iter::once(tuple).chain(conditions.cloned()).chain(arguments) {
            if visit(&expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return Ok(self) };
        Ok(Arc::new(Self { input, ..Self::clone(&self) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context.clone())?;
        let rows_max = context.session_config().batch_size();
        let memory = MemoryConsumer::new("sums of groups").register(context.memory_pool());
        let mut sums = Sums::new(self, memory)?;
        let (tuple, schema, mode, condition) =
            (self.tuple.clone(), self.schema.clone(), self.mode, self.condition.clone());
        let summed = async move {
            while let Some(batch) = input.next().await {
                match &condition {
                    Some(condition) => sums.add(&tuple, &condition.rows_of(&batch?)?)?,
                    None => sums.add(&tuple, &batch?)?,
                }
            }
            let all = sums.finish(&tuple.known, mode, &schema)?;
            let starts = (0..all.num_rows()).step_by(rows_max.max(1));
            let batches: Vec<_> =
                starts.map(|start| Ok(all.slice(start, rows_max.min(all.num_rows() - start)))).collect();
            Ok::<_, DataFusionError>(stream::iter(batches))
        };
        let batches = stream::once(summed).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }
}

/// The sums of each group, in one partition of the input.
struct Sums {
    functions: Vec<Function>,
    /// Which groups this partition has met. Others may have met more by now, which are theirs to tell.
    is_met: Vec<bool>,
    memory: MemoryReservation,
}

struct Function {
    sums: Accumulator,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Sums {
    fn new(aggregate: &TupleAggregate, memory: MemoryReservation) -> Result<Self> {
        let functions = aggregate.functions.iter().zip(&aggregate.of_micros).zip(&aggregate.filters);
        let functions = functions.map(|((function, is_of_micros), filter)| {
            let filter = filter.clone();
            if counts_rows(function) {
                return Ok(Function { sums: Accumulator::Count(Counts::default()), arguments: Vec::new(), filter });
            }
            let sums = match is_of_micros {
                true => Accumulator::Micros(SumsOfMicros::default()),
                false => Accumulator::Engines(function.create_groups_accumulator()?),
            };
            Ok(Function { sums, arguments: function.expressions(), filter })
        });
        Ok(Self { functions: functions.collect::<Result<_>>()?, is_met: Vec::new(), memory })
    }

    fn add(&mut self, tuple: &Tuple, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (places, groups) = tuple.number(batch)?;
        self.is_met.resize(groups, false);
        match &places {
            Places::Same(place) => self.is_met[*place] = true,
            Places::Each(places) => places.iter().for_each(|place| self.is_met[*place] = true),
        }
        let of_same = OnceLock::new();
        for function in &mut self.functions {
            let rows = Rows { places: &places, rows: batch.num_rows(), groups, of_same: &of_same, filter: None };
            function.add(batch, rows)?;
        }
        self.memory.try_resize(self.functions.iter().map(|function| function.sums.size()).sum())
    }

    /// What each of the groups comes to that were met here.
    fn finish(self, known: &Parts, mode: AggregateMode, schema: &SchemaRef) -> Result<RecordBatch> {
        if self.is_met.is_empty() {
            return Ok(RecordBatch::new_empty(schema.clone()));
        }
        let met: Vec<u32> = (0..).zip(&self.is_met).filter(|(_, is_met)| **is_met).map(|(group, _)| group).collect();
        let mut columns: Vec<ArrayRef> = (0..known.kinds.len()).map(|part| known.column(part, &met)).collect();
        let is_met = BooleanArray::from(self.is_met);
        for function in self.functions {
            for column in function.sums.finish(mode.output_mode())? {
                columns.push(filter(&column, &is_met)?);
            }
        }
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

/// Whether it is `count(*)`, or another count of what is never null.
fn counts_rows(function: &AggregateFunctionExpr) -> bool {
    let is_there = |argument: &Arc<dyn PhysicalExpr>| {
        argument.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null())
    };
    function.fun().name() == "count" && !function.is_distinct() && function.expressions().iter().all(is_there)
}

impl Function {
    fn add(&mut self, batch: &RecordBatch, rows: Rows<'_>) -> Result<()> {
        let value = |argument: &Arc<dyn PhysicalExpr>| argument.evaluate(batch)?.into_array(batch.num_rows());
        let values = self.arguments.iter().map(value).collect::<Result<Vec<_>>>()?;
        let filter = self.filter.as_ref().map(|filter| boolean(filter.as_ref(), batch)).transpose()?;
        self.sums.add(&values, &Rows { filter: filter.as_ref(), ..rows })
    }
}
