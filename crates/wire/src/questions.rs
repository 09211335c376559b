//! What drivers and tools ask of the catalog in words that only Postgres understands, put so that the engine understands it too.
//!
//! Primary keys, foreign keys and indexes: the views have none, so the answer has the columns that were asked for, and no row.
//! Descriptions of columns: there are none. A setting by name: the function that tells it is asked.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, SelectItem, SetExpr, Statement, Value, visit_expressions, visit_expressions_mut,
};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

/// A function of JDBC's `getPrimaryKeys` and `getIndexInfo`, and of what Metabase asks of indexes.
const KEY_FUNCTION: &str = "_pg_expandarray";
/// A column of what both ask of foreign keys.
const KEY_COLUMN: &str = "confkey";
const DESCRIPTION: &str = "col_description";

/// The JDBC driver asks for this before it asks for foreign keys; whoever else asks for a setting calls a function.
const SETTING: &str = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'";

/// The statement, or one of the same meaning that can be answered.
pub(crate) fn understood(mut statement: Statement, syntax: &PostgresCompatibilityParser) -> Statement {
    if statement.to_string() == SETTING {
        return parsed("SELECT current_setting('max_index_keys') AS setting", syntax).unwrap_or(statement);
    }
    if let Some(columns) = asked_columns(&statement) {
        let columns: Vec<String> = columns.iter().map(|name| format!("CAST(NULL AS TEXT) AS {name}")).collect();
        return parsed(&format!("SELECT {} WHERE false", columns.join(", ")), syntax).unwrap_or(statement);
    }
    let _ = visit_expressions_mut(&mut statement, |expression| {
        if calls(expression, DESCRIPTION) {
            *expression = Expr::Value(Value::Null.into());
        }
        ControlFlow::<()>::Continue(())
    });
    statement
}

fn parsed(text: &str, syntax: &PostgresCompatibilityParser) -> Option<Statement> {
    syntax.parse(text).ok()?.pop()
}

/// The columns of a question about keys, as they are written.
fn asked_columns(statement: &Statement) -> Option<Vec<Ident>> {
    let Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let asks = visit_expressions(statement, |expression| match expression {
        Expr::Identifier(name) if name.value.eq_ignore_ascii_case(KEY_COLUMN) => ControlFlow::Break(()),
        Expr::CompoundIdentifier(names) if names.iter().any(|name| name.value.eq_ignore_ascii_case(KEY_COLUMN)) => {
            ControlFlow::Break(())
        }
        expression if calls(expression, KEY_FUNCTION) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if asks.is_continue() {
        return None;
    }
    select.projection.iter().map(name).collect()
}

fn calls(expression: &Expr, function: &str) -> bool {
    let Expr::Function(called) = expression else { return false };
    let last = called.name.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|name| name.value.eq_ignore_ascii_case(function))
}

fn name(item: &SelectItem) -> Option<Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &str, becomes: &str) {
        let syntax = PostgresCompatibilityParser::new();
        let statement = syntax.parse(asked).unwrap().remove(0);
        assert_eq!(understood(statement, &syntax).to_string(), becomes);
    }

    #[test]
    fn a_question_about_keys_is_answered_with_its_columns_and_no_row() {
        check(
            "SELECT result.TABLE_CAT, result.KEY_SEQ AS \"seq\" FROM (SELECT NULL AS TABLE_CAT, \
             (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ FROM pg_catalog.pg_index i) result",
            "SELECT CAST(NULL AS TEXT) AS TABLE_CAT, CAST(NULL AS TEXT) AS \"seq\" WHERE false",
        );
        check(
            "SELECT \"fk\".\"relname\" AS \"table\" FROM pg_constraint AS c INNER JOIN pg_class AS fk ON c.conrelid = fk.oid \
             WHERE c.contype = 'f' AND fk.relnatts = ANY(c.confkey)",
            "SELECT CAST(NULL AS TEXT) AS \"table\" WHERE false",
        );
        for other in [
            "SELECT clicks FROM campaign_day",
            "SELECT clicks FROM campaign_day WHERE campaign_id IN ('confkey', '_pg_expandarray(')",
        ] {
            check(other, other);
        }
    }

    #[test]
    fn columns_have_no_description_and_a_setting_is_told() {
        check(
            "SELECT a, pg_catalog.col_description(CAST('x' AS REGCLASS), 1) AS b FROM c",
            "SELECT a, NULL AS b FROM c",
        );
        check(SETTING, "SELECT current_setting('max_index_keys') AS setting");
    }
}
