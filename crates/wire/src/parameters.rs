//! The types of a statement's parameters, in their order: from what they are compared with, else from the cast around them.

use std::collections::HashMap;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

pub(crate) fn types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let inferred = plan.get_parameter_types()?;
    let casts = if inferred.values().any(Option::is_none) { cast_types(plan)? } else { HashMap::new() };
    let mut types: Vec<_> = inferred
        .into_iter()
        .map(|(name, known)| (number(&name), known.or_else(|| casts.get(&name).cloned())))
        .collect();
    types.sort_by_key(|(number, _)| *number);
    Ok(types.into_iter().map(|(_, known)| known).collect())
}

/// `$12` is the twelfth.
fn number(name: &str) -> u32 {
    name.trim_start_matches('$').parse().unwrap_or(u32::MAX)
}

fn cast_types(plan: &LogicalPlan) -> Result<HashMap<String, DataType>> {
    let mut types = HashMap::new();
    plan.apply_with_subqueries(|node| {
        for expression in node.expressions() {
            expression.apply(|expression| {
                if let Expr::Cast(cast) = expression
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    types.insert(placeholder.id.clone(), cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(types)
}
