//! Money that is only added up: as the 64 bits that stand in the files, without 128 being made of each number first.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Decimal128Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::AggregateExec;

use crate::sql::functions::{MONEY, MONEY_NAME};

/// The columns that an aggregate uses for sums of money and for nothing else.
pub(super) fn only_summed(aggregate: &AggregateExec) -> BTreeSet<usize> {
    let used = |expressions: Vec<Arc<dyn PhysicalExpr>>| {
        expressions.iter().flat_map(collect_columns).map(|column| column.index()).collect::<BTreeSet<_>>()
    };
    let (sums, others): (Vec<_>, Vec<_>) =
        aggregate.aggr_expr().iter().partition(|function| summed(function).is_some());
    let others = others.into_iter().map(|function| {
        let all = function.all_expressions();
        used(all.args.into_iter().chain(all.order_by_exprs).collect())
    });
    let groups = aggregate.group_expr().expr().iter().map(|(group, _)| group.clone()).collect();
    let filters = aggregate.filter_expr().iter().flatten().cloned().collect();
    let others: BTreeSet<usize> = others.chain([used(groups), used(filters)]).flatten().collect();
    sums.into_iter().filter_map(|function| summed(function)).filter(|column| !others.contains(column)).collect()
}

/// The column whose sum is money.
fn summed(function: &AggregateFunctionExpr) -> Option<usize> {
    let is_sum = function.fun().name() == "sum" && !function.is_distinct() && function.order_bys().is_empty();
    let [argument] = &function.expressions()[..] else { return None };
    let column = argument.downcast_ref::<Column>()?.index();
    (is_sum && *function.field().data_type() == MONEY).then_some(column)
}

/// Whether a sum of money is asked for, where its column is micros.
pub(super) fn is_sum_of_micros(function: &AggregateFunctionExpr, input: &Schema) -> bool {
    summed(function).is_some_and(|column| *input.field(column).data_type() == DataType::Int64)
}

/// What money was made of.
pub(super) fn before_widening(expression: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let function = expression.downcast_ref::<ScalarFunctionExpr>().filter(|function| function.name() == MONEY_NAME)?;
    function.args().first().cloned()
}

/// `sum` of money by group, of micros.
#[derive(Debug, Default)]
pub(super) struct SumsOfMicros {
    sums: Vec<i128>,
    /// Whether a group has any number at all. A sum of none is null.
    has_any: Vec<bool>,
}

impl SumsOfMicros {
    fn add(&mut self, place: usize, micros: i64) {
        self.sums[place] += i128::from(micros);
        self.has_any[place] = true;
    }
}

impl GroupsAccumulator for SumsOfMicros {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        places: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        let micros = values.first().and_then(|values| values.as_primitive_opt::<Int64Type>());
        let micros = micros.ok_or_else(|| DataFusionError::Internal("micros are not whole numbers".to_owned()))?;
        self.sums.resize(groups, 0);
        self.has_any.resize(groups, false);
        let rows = places.iter().zip(micros.values());
        if filter.is_none() && micros.null_count() == 0 {
            match places {
                // One group, as where it is the day of a file: its sum need not go through memory for each row.
                [first, others @ ..] if others.iter().all(|place| place == first) => {
                    self.sums[*first] += micros.values().iter().map(|micros| i128::from(*micros)).sum::<i128>();
                    self.has_any[*first] = true;
                }
                _ => rows.for_each(|(place, micros)| self.add(*place, *micros)),
            }
            return Ok(());
        }
        for (row, (place, value)) in rows.enumerate() {
            let is_wanted = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if is_wanted && micros.is_valid(row) {
                self.add(*place, *value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, has_any) = (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.has_any));
        let mut is_valid = BooleanBufferBuilder::new(has_any.len());
        is_valid.append_slice(&has_any);
        let sums = Decimal128Array::new(sums.into(), Some(NullBuffer::new(is_valid.finish())));
        Ok(Arc::new(sums.with_data_type(MONEY)))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    /// States are sums of money again, which the engine adds up.
    fn merge_batch(&mut self, _: &[ArrayRef], _: &[usize], _: usize) -> Result<()> {
        Err(DataFusionError::Internal("sums of micros are not of sums".to_owned()))
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        Err(DataFusionError::Internal("micros are added up before they are told".to_owned()))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.has_any.capacity()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int64Array};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Batches of one group and of several, with and without conditions and values that are not there.
        #[test]
        fn sums_are_of_the_rows_that_are_wanted(
            batches in prop::collection::vec(
                (
                    prop::collection::vec((0..4_usize, prop::option::weighted(0.9, any::<i64>()), any::<bool>()), 0..50),
                    any::<(bool, bool, bool)>(),
                ),
                0..6,
            ),
        ) {
            const GROUPS: usize = 5;
            let (mut sums, mut expected) = (SumsOfMicros::default(), vec![None::<i128>; GROUPS]);
            for (rows, (is_one_group, has_nulls, has_filter)) in batches {
                let places: Vec<usize> = rows.iter().map(|row| if is_one_group { 2 } else { row.0 }).collect();
                let values = rows.iter().map(|row| if has_nulls { row.1 } else { Some(row.1.unwrap_or(7)) });
                let values: Int64Array = values.collect();
                let filter: BooleanArray = rows.iter().map(|row| Some(row.2)).collect();
                for (row, place) in places.iter().enumerate() {
                    if values.is_valid(row) && (!has_filter || filter.value(row)) {
                        *expected[*place].get_or_insert(0) += i128::from(values.value(row));
                    }
                }
                let values: ArrayRef = Arc::new(values);
                sums.update_batch(&[values], &places, has_filter.then_some(&filter), GROUPS).unwrap();
            }
            expected.truncate(sums.sums.len());
            let expected = expected.into_iter().collect::<Decimal128Array>().with_data_type(MONEY);
            let state = sums.state(EmitTo::All).unwrap();
            prop_assert_eq!(state[0].as_primitive::<arrow::datatypes::Decimal128Type>(), &expected);
        }
    }
}
