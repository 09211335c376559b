//! What a statement is, told from its syntax before anything is planned: only what is listed here is looked at further.

use datafusion::sql::sqlparser::ast::{Expr, Set, Statement};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads. Whether it does nothing else, its plan tells.
    Read,
    /// Sets or shows something of this client, or plays at transactions: the library answers.
    Session,
    /// Settings that drivers send and that mean nothing here.
    Ignored,
    Cursor,
    /// Forgets prepared statements.
    Forget,
    Refused,
}

/// Settings of a session that change how values are written, or how long a statement may run. The library keeps them.
const KEPT: [&str; 7] = [
    "statement_timeout",
    "datestyle",
    "bytea_output",
    "intervalstyle",
    "application_name",
    "extra_float_digits",
    "search_path",
];
/// Settings that clients send when they connect.
const IGNORED: [&str; 18] = [
    "client_encoding",
    "client_min_messages",
    "standard_conforming_strings",
    "default_transaction_read_only",
    "default_transaction_isolation",
    "transaction_read_only",
    "session characteristics",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "row_security",
    "synchronous_commit",
    "default_table_access_method",
    "xmloption",
    "check_function_bodies",
    "quote_all_identifiers",
    "geqo",
];

impl Kind {
    pub fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Query(_) | Statement::Explain { .. } => Kind::Read,
            Statement::ShowVariable { .. } | Statement::ShowStatus { .. } | Statement::ShowCatalogs { .. } => {
                Kind::Session
            }
            Statement::StartTransaction { .. } | Statement::Commit { .. } | Statement::Rollback { .. } => Kind::Session,
            Statement::Savepoint { .. } | Statement::ReleaseSavepoint { .. } => Kind::Ignored,
            Statement::Declare { .. } | Statement::Fetch { .. } | Statement::Close { .. } => Kind::Cursor,
            Statement::Deallocate { .. } | Statement::Discard { .. } | Statement::Reset(_) => Kind::Forget,
            Statement::Set(set) => of_setting(set),
            _ => Kind::Refused,
        }
    }
}

/// The library hands what it does not know to the engine, whose settings are limits: so only what is known gets there.
fn of_setting(set: &Set) -> Kind {
    match set {
        Set::SingleAssignment { variable, values, .. } => {
            let name = variable.to_string().to_lowercase();
            let is_plain = matches!(values.as_slice(), [Expr::Value(_)]);
            match name.as_str() {
                name if KEPT.contains(&name) && is_plain => Kind::Session,
                name if KEPT.contains(&name) || IGNORED.contains(&name) => Kind::Ignored,
                "timezone" | "time.zone" => Kind::Ignored,
                _ => Kind::Refused,
            }
        }
        Set::SetTimeZone { local: false, .. } => Kind::Session,
        Set::SetTimeZone { .. } | Set::SetTransaction { .. } | Set::SetNames { .. } | Set::SetNamesDefault {} => {
            Kind::Ignored
        }
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    fn check(sql: &str, kind: Kind) {
        let statements = PostgresCompatibilityParser::new().parse(sql).unwrap();
        assert_eq!(Kind::of(&statements[0]), kind, "{sql}");
    }

    #[test]
    fn what_drivers_send_is_taken_and_limits_cannot_be_set() {
        check("SELECT 1", Kind::Read);
        check("EXPLAIN ANALYZE SELECT 1", Kind::Read);
        check("SET statement_timeout = '5s'", Kind::Session);
        check("SET statement_timeout = 5000", Kind::Session);
        check("SET extra_float_digits = 3", Kind::Session);
        check("SET TIME ZONE 'Europe/Berlin'", Kind::Session);
        check("SET client_encoding TO 'UTF8'", Kind::Ignored);
        check("SET TRANSACTION READ ONLY", Kind::Ignored);
        check("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Kind::Ignored);
        check("SHOW server_version", Kind::Session);
        check("BEGIN", Kind::Session);
        check("DEALLOCATE ALL", Kind::Forget);
        check("DISCARD ALL", Kind::Forget);
        check("SET datafusion.runtime.memory_limit = '100G'", Kind::Refused);
        check("SET datafusion.execution.target_partitions = 512", Kind::Refused);
        check("SET ROLE admin", Kind::Refused);
    }

    #[test]
    fn what_changes_anything_is_refused_before_it_is_planned() {
        for sql in [
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "DROP TABLE events",
            "INSERT INTO events VALUES (1)",
            "DELETE FROM events",
            "UPDATE events SET kind = 'click'",
            "COPY (SELECT 1) TO '/tmp/x'",
            "COPY events TO STDOUT",
            "TRUNCATE events",
            "PREPARE p AS SELECT 1",
        ] {
            check(sql, Kind::Refused);
        }
    }
}
