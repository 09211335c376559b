//! Which plans may run: those that only read, and only the lake.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use object_store::path::Path;

use super::error::{Result, SqlError};

/// Refuses what changes anything, wherever it stands in the plan.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        refused = refusal(node);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (refused, walked) {
        (Some(what), _) => Err(SqlError::Refused { what }),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => Err(SqlError::Failed(error.strip_backtrace())),
    }
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
