//! Money that is only added up: as the 64 bits that stand in the files, without 128 being made of each number first.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
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
