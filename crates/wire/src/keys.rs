//! What drivers ask of primary keys and indexes. The views have none, and the function that these questions are asked with is
//! Postgres's own: so the answer has their columns, and no row.

use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

/// JDBC's `getPrimaryKeys` and `getIndexInfo` call it, and nobody else does.
const ASKING: &str = "_pg_expandarray(";

/// The statement, or one that has its columns and no row.
pub(crate) fn without_keys(statement: Statement, syntax: &PostgresCompatibilityParser) -> Statement {
    let Some(columns) = asked_columns(&statement) else { return statement };
    let columns: Vec<String> = columns.iter().map(|name| format!("CAST(NULL AS TEXT) AS {name}")).collect();
    let none = syntax.parse(&format!("SELECT {} WHERE false", columns.join(", ")));
    none.ok().and_then(|mut statements| statements.pop()).unwrap_or(statement)
}

/// The columns of a question about keys, as they are written.
fn asked_columns(statement: &Statement) -> Option<Vec<Ident>> {
    let Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    if !statement.to_string().to_lowercase().contains(ASKING) {
        return None;
    }
    select.projection.iter().map(name).collect()
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
        assert_eq!(without_keys(statement, &syntax).to_string(), becomes);
    }

    #[test]
    fn a_question_about_keys_is_answered_with_its_columns_and_no_row() {
        check(
            "SELECT result.TABLE_CAT, result.KEY_SEQ AS \"seq\" FROM (SELECT NULL AS TABLE_CAT, \
             (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ FROM pg_catalog.pg_index i) result",
            "SELECT CAST(NULL AS TEXT) AS TABLE_CAT, CAST(NULL AS TEXT) AS \"seq\" WHERE false",
        );
        check("SELECT clicks FROM campaign_day", "SELECT clicks FROM campaign_day");
    }
}
