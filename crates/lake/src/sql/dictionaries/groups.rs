//! Groups told apart by numbers: a partial aggregate counts by them, and texts are put back on what it gives.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, DictionaryArray, RecordBatch, StringViewBuilder, UInt32Array,
};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Int32Type, Schema, UInt32Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode, PhysicalGroupBy};
use datafusion::physical_plan::projection::ProjectionExec;

use super::aggregate::TupleAggregate;
use super::numbers::Numbers;
use super::per_dictionary::dictionary_of;
use super::tuples::{Codes, Places, Tuples};
use super::{Wanted, condition, micros, pass};

/// The aggregate by numbers, with its texts put back. None where it gains nothing by it.
pub(super) fn by_numbers(
    aggregate: &AggregateExec,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let groups = aggregate.group_expr();
    let is_first = aggregate.mode().input_mode() == AggregateInputMode::Raw;
    // What keeps only the first of its groups, by their order or by their number, looks at the groups themselves.
    if !is_first || groups.has_grouping_set() || aggregate.limit_options().is_some() {
        return Ok(None);
    }
    let schema = aggregate.input().schema();
    let column_of = |group: &Arc<dyn PhysicalExpr>| group.downcast_ref::<Column>().map(Column::index);
    let is_text = |at: &usize| *schema.field(*at).data_type() == DataType::Utf8View;
    let mut dictionaries: BTreeSet<usize> =
        groups.expr().iter().filter_map(|(group, _)| column_of(group)).filter(is_text).collect();
    let conditions = aggregate.filter_expr().iter().flatten();
    dictionaries.extend(conditions.flat_map(condition::columns));
    let are_columns = groups.expr().iter().all(|(group, _)| group.is::<Column>());
    let can_take = are_columns && !groups.is_empty() && TupleAggregate::can_take(aggregate);
    let micros = if can_take { micros::only_summed(aggregate) } else { BTreeSet::new() };
    let Some(passed) = pass(aggregate.input(), &Wanted { dictionaries, micros })? else { return Ok(None) };

    // What is added up, or grouped by in another way, sees texts.
    let arguments = aggregate.aggr_expr().iter().flat_map(|function| {
        let sorted = function.order_bys().iter().map(|sort| sort.expr.clone());
        function.expressions().into_iter().chain(sorted).collect::<Vec<_>>()
    });
    let others = groups.expr().iter().map(|(group, _)| group.clone()).filter(|group| !group.is::<Column>());
    let shown: BTreeSet<usize> =
        arguments.chain(others).flat_map(|used| collect_columns(&used)).map(|column| column.index()).collect();
    let numbered: BTreeSet<usize> = passed.dictionaries.difference(&shown).copied().collect();
    let key = Key::of(groups, &passed.plan.schema(), &numbered, pool);
    let filters = aggregate
        .filter_expr()
        .iter()
        .map(|filter| filter.as_ref().map(|filter| condition::once_per_text(filter, &numbered)).transpose());
    let filters = filters.collect::<Result<Vec<_>>>()?;
    if let Some(key) = &key
        && key.others.is_empty()
        && can_take
    {
        let summed: BTreeSet<usize> = passed.micros.keys().copied().collect();
        let input = passed.restored(|at| shown.contains(&at) && !summed.contains(&at))?;
        return Ok(Some(Arc::new(TupleAggregate::new(aggregate, key.tuple.clone(), filters, input))));
    }
    let input = passed.restored(|at| !numbered.contains(&at))?;
    let made = AggregateExec::try_new(
        *aggregate.mode(),
        key.as_ref().map_or_else(|| groups.clone(), |key| PhysicalGroupBy::new_single(key.grouped())),
        aggregate.aggr_expr().to_vec(),
        filters,
        input.clone(),
        input.schema(),
    )?;
    let made: Arc<dyn ExecutionPlan> = Arc::new(made);
    match key {
        None => Ok(Some(made)),
        Some(key) => key.put_back(made, &aggregate.schema()).map(Some),
    }
}

/// How the columns of a `GROUP BY` become a key: those of texts and days as one number, the others as they are.
struct Key {
    tuple: Arc<Tuple>,
    others: Vec<(Arc<dyn PhysicalExpr>, String)>,
    /// Where each column of the `GROUP BY` stands.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
enum Place {
    Part(usize),
    Other(usize),
}

impl Key {
    /// None where neither a text nor a day is among the columns.
    fn of(
        groups: &PhysicalGroupBy,
        input: &Schema,
        numbered: &BTreeSet<usize>,
        pool: &Arc<dyn MemoryPool>,
    ) -> Option<Self> {
        let part_of = |group: &Arc<dyn PhysicalExpr>| {
            let at = group.downcast_ref::<Column>()?.index();
            let field = input.field(at);
            match field.data_type() {
                _ if numbered.contains(&at) => Some(Kind::Text(Numbers::new(pool))),
                DataType::Date32 if !field.is_nullable() => Some(Kind::Day),
                _ => None,
            }
        };
        let (mut columns, mut kinds, mut others, mut places) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (group, name) in groups.expr() {
            match part_of(group) {
                Some(kind) => {
                    places.push(Place::Part(columns.len()));
                    columns.push(group.clone());
                    kinds.push(kind);
                }
                None => {
                    places.push(Place::Other(others.len()));
                    others.push((group.clone(), name.clone()));
                }
            }
        }
        if columns.is_empty() {
            return None;
        }
        let known = Arc::new(Parts { tuples: Tuples::new(kinds.len(), pool), kinds });
        Some(Self { tuple: Arc::new(Tuple { columns, known }), others, places })
    }

    fn grouped(&self) -> Vec<(Arc<dyn PhysicalExpr>, String)> {
        let tuple: Arc<dyn PhysicalExpr> = self.tuple.clone();
        std::iter::once((tuple, self.tuple.to_string())).chain(self.others.iter().cloned()).collect()
    }

    /// The columns that the aggregate would have given, from what it gave by keys.
    fn put_back(&self, aggregate: Arc<dyn ExecutionPlan>, schema: &Schema) -> Result<Arc<dyn ExecutionPlan>> {
        let given = aggregate.schema();
        let column = |at: usize| Arc::new(Column::new(given.field(at).name(), at)) as Arc<dyn PhysicalExpr>;
        let groups = self.places.iter().zip(schema.fields()).map(|(place, field)| match *place {
            Place::Other(at) => column(1 + at),
            Place::Part(part) => {
                Arc::new(PartOf { tuple: column(0), part, known: self.tuple.known.clone(), field: field.clone() })
            }
        });
        let states = (1 + self.others.len()..given.fields().len()).map(column);
        let columns = groups.chain(states).zip(schema.fields());
        let columns = columns.map(|(column, field)| ProjectionExpr::new(column, field.name().clone()));
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), aggregate)?))
    }
}

/// What the numbers of one aggregate stand for.
#[derive(Debug)]
pub(super) struct Parts {
    pub kinds: Vec<Kind>,
    tuples: Tuples,
}

impl Parts {
    /// A column of the groups that have these numbers.
    pub fn column(&self, part: usize, tuples: &[u32]) -> ArrayRef {
        let numbers = self.tuples.part(tuples, part).into_iter();
        match &self.kinds[part] {
            Kind::Text(of_texts) => {
                let mut texts = StringViewBuilder::with_capacity(tuples.len());
                of_texts.each_text(numbers, |text| texts.append_option(text));
                Arc::new(texts.finish())
            }
            Kind::Day => Arc::new(Date32Array::from_iter_values(numbers.map(u32::cast_signed))),
        }
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    Text(Numbers),
    /// Days since 1970, in the bits of an unsigned number.
    Day,
}

/// Columns as the number of what they hold together.
#[derive(Debug)]
pub(super) struct Tuple {
    columns: Vec<Arc<dyn PhysicalExpr>>,
    pub known: Arc<Parts>,
}

impl Tuple {
    /// The number of each row, and how many there are by now.
    pub fn number(&self, batch: &RecordBatch) -> Result<(Places, usize)> {
        let mut days = Vec::new();
        for (column, kind) in self.columns.iter().zip(&self.known.kinds) {
            days.push(match kind {
                Kind::Text(_) => Vec::new(),
                Kind::Day => days_of(column.as_ref(), batch)?,
            });
        }
        let codes = self.columns.iter().zip(&self.known.kinds).zip(&days).map(|((column, kind), days)| match kind {
            Kind::Text(numbers) => {
                let rows = dictionary_of(column.as_ref(), batch)?;
                let numbers = numbers.of(&rows)?;
                Ok(Codes::Dictionary { places: places_of(&rows, numbers.len() as u32), numbers })
            }
            // The partition that a file is in, as a rule.
            Kind::Day => Ok(match days.first() {
                Some(first) if days.iter().all(|day| day == first) => Codes::Same(*first),
                _ => Codes::Numbers(days),
            }),
        });
        let codes = codes.collect::<Result<Vec<_>>>()?;
        self.known.tuples.number(&codes, batch.num_rows())
    }
}

impl PhysicalExpr for Tuple {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (tuples, _) = self.number(batch)?;
        let tuples = tuples.into_each(batch.num_rows());
        Ok(ColumnarValue::Array(Arc::new(UInt32Array::from_iter_values(tuples.into_iter().map(|tuple| tuple as u32)))))
    }

    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.to_string(), DataType::UInt32, false)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.columns.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, columns: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { columns, known: self.known.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The place of each row's text in its dictionary; `none` for a row without one.
fn places_of(rows: &DictionaryArray<Int32Type>, none: u32) -> Vec<u32> {
    let keys = rows.keys();
    let places = keys.values().iter().map(|key| key.cast_unsigned());
    match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => places.collect(),
        Some(nulls) => places.zip(nulls).map(|(place, is_text)| if is_text { place } else { none }).collect(),
    }
}

fn days_of(column: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<Vec<u32>> {
    let days = column.evaluate(batch)?.into_array(batch.num_rows())?;
    let days = days.as_primitive_opt::<Date32Type>();
    let days = days.ok_or_else(|| DataFusionError::Internal(format!("{column} is no date")))?;
    Ok(days.values().iter().map(|day| day.cast_unsigned()).collect())
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.columns.iter().map(ToString::to_string).collect();
        write!(f, "numbers({})", columns.join(", "))
    }
}

impl PartialEq for Tuple {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns && Arc::ptr_eq(&self.known, &other.known)
    }
}

impl Eq for Tuple {}

impl Hash for Tuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.columns.hash(state);
    }
}

/// A column out of the number of a tuple.
#[derive(Debug)]
struct PartOf {
    tuple: Arc<dyn PhysicalExpr>,
    part: usize,
    known: Arc<Parts>,
    field: FieldRef,
}

impl PhysicalExpr for PartOf {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let tuples = self.tuple.evaluate(batch)?.into_array(batch.num_rows())?;
        let tuples = tuples.as_primitive_opt::<UInt32Type>();
        let tuples = tuples.ok_or_else(|| DataFusionError::Internal(format!("{} is no number", self.tuple)))?;
        Ok(ColumnarValue::Array(self.known.column(self.part, tuples.values())))
    }

    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(self.field.clone())
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.tuple]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(tuple) = children.pop() else { return Ok(self) };
        Ok(Arc::new(Self { tuple, part: self.part, known: self.known.clone(), field: self.field.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PartOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.field.name(), self.tuple)
    }
}

impl PartialEq for PartOf {
    fn eq(&self, other: &Self) -> bool {
        self.tuple.eq(&other.tuple) && self.part == other.part && Arc::ptr_eq(&self.known, &other.known)
    }
}

impl Eq for PartOf {}

impl Hash for PartOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tuple.hash(state);
        self.part.hash(state);
    }
}
