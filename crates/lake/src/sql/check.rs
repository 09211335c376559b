//! Which plans may run: those that only read, and only the lake, and bring nothing of a single person to light.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use object_store::path::Path;

use super::error::{Result, SqlError};

/// A sketch of few users lists what is as good as their hashes: it can be counted, and not looked at.
pub(super) const SKETCH: &str = "users_sketch";

/// Refuses what changes anything, wherever it stands in the plan.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    if plan.schema().fields().iter().any(|field| field.name() == SKETCH) {
        return Err(sketch_shown());
    }
    let walked = plan.apply_with_subqueries(|node| {
        if shows_sketch(node)? {
            return Err(DataFusionError::External(Box::new(sketch_shown())));
        }
        refused = refusal(node);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (refused, walked) {
        (Some(what), _) => Err(SqlError::Refused { what }),
        (None, Ok(_)) => Ok(()),
        (None, Err(DataFusionError::External(error))) if error.is::<SqlError>() => Err(sketch_shown()),
        (None, Err(error)) => Err(SqlError::Failed(error.strip_backtrace())),
    }
}

fn sketch_shown() -> SqlError {
    SqlError::Statement(format!(
        "`{SKETCH}` can only be counted: SELECT users({SKETCH}) FROM sketches.campaign_day, straight from the view"
    ))
}

/// Whether a node does anything with sketches but to count them.
fn shows_sketch(node: &LogicalPlan) -> datafusion::common::Result<bool> {
    let mut shows = false;
    for expression in node.expressions() {
        shows |= uses_sketch(&expression)?;
    }
    Ok(shows)
}

fn uses_sketch(expression: &Expr) -> datafusion::common::Result<bool> {
    let mut uses = false;
    expression.apply(|part| {
        match part {
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) if column.name == SKETCH => uses = true,
            Expr::AggregateFunction(function) if function.func.name() == "users" => {
                // Which rows are counted may not depend on them either.
                let params = &function.params;
                if let Some(filter) = &params.filter {
                    uses |= uses_sketch(filter)?;
                }
                for order in &params.order_by {
                    uses |= uses_sketch(&order.expr)?;
                }
                let is_sketch = |argument: &Expr| matches!(argument, Expr::Column(column) if column.name == SKETCH);
                for argument in params.args.iter().filter(|argument| !is_sketch(argument)) {
                    uses |= uses_sketch(argument)?;
                }
                return Ok(TreeNodeRecursion::Jump);
            }
            _ => {}
        }
        Ok(if uses { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(uses)
}

/// What is not listed may not run: a kind of plan that a later engine adds is closed until somebody decides otherwise.
fn refusal(node: &LogicalPlan) -> Option<String> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::DescribeTable(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => None,
        LogicalPlan::Ddl(change) => Some(change.name().to_owned()),
        LogicalPlan::Dml(change) => Some(change.op.to_string()),
        LogicalPlan::Copy(_) => Some("COPY".to_owned()),
        LogicalPlan::Statement(statement) => Some(statement.name().to_owned()),
        _ => Some("this".to_owned()),
    }
}

/// The same of what is about to run: it writes nowhere, and opens no file but the lake's.
pub(super) fn check_execution(plan: &Arc<dyn ExecutionPlan>, folders: &[&Path]) -> Result<()> {
    let mut refused = None;
    let walked = plan.apply(|node| {
        if node.downcast_ref::<DataSinkExec>().is_some() {
            refused = Some("writing".to_owned());
        }
        let source = node.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
        if let Some(scan) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
            let mut files = scan.file_groups.iter().flat_map(|group| group.iter());
            let is_ours = |file: &Path| folders.iter().any(|folder| file.prefix_matches(folder));
            if files.any(|file| !is_ours(&file.object_meta.location)) {
                refused = Some("reading files".to_owned());
            }
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (refused, walked) {
        (Some(what), _) => Err(SqlError::Refused { what }),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => Err(SqlError::Failed(error.strip_backtrace())),
    }
}
