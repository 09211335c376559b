//! What runs too long really stops.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "lake/sql/clicks.rs"]
#[allow(dead_code, reason = "shared with the other tests of SQL")]
mod clicks;

use std::time::{Duration, Instant};

use clicks::{LIMITS, ask, bytes, lake};
use serde_json::json;
use tally_lake::{Sql, SqlError, SqlLimits};
use tally_model::Format;

/// CPU time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// Queries that would run for hours: with rows to show, with none, and with a condition that never holds.
const ENDLESS: [&str; 5] = [
    "SELECT count(*) FROM events a, events b, events c",
    "SELECT a.event_id FROM events a, events b, events c WHERE a.cost_micros + b.cost_micros + c.cost_micros < 0",
    "SELECT count(*) FROM events a JOIN events b ON a.kind = b.kind AND a.log_offset + b.log_offset < -1",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "SELECT count(DISTINCT a.event_id || b.event_id) FROM events a, events b",
];

// A test of its own binary, since it measures the CPU time of the process. On one thread, so that the answer comes although the
// statement computes: it has threads of its own.
#[tokio::test]
async fn a_statement_that_runs_too_long_is_answered_in_time_and_its_cpu_stops_also_where_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 40_000).await;
    for statement in ENDLESS {
        let started = Instant::now();
        let limits = SqlLimits { time: Duration::from_millis(500), rows: None };
        let ended = bytes(&sql, statement, Format::Ndjson, limits).await;
        let took = started.elapsed();
        assert!(
            matches!(ended, Err(SqlError::TooLong { .. } | SqlError::TooLarge { .. })),
            "{statement}: {:?}",
            ended.map(|bytes| bytes.len())
        );
        assert!(took < Duration::from_secs(20), "{statement} was answered after {took:?}");
        assert_stops(&sql, statement).await;
    }
    // The same where nobody waits any more.
    for statement in ENDLESS {
        let asked = tokio::time::timeout(Duration::from_millis(500), sql.run(statement, LIMITS)).await;
        assert!(!matches!(asked, Ok(Ok(_))), "{statement} was answered");
        drop(asked);
        assert_stops(&sql, statement).await;
    }
    // And with rows on the way.
    let rows = sql.run("SELECT a.event_id, b.event_id FROM events a, events b", LIMITS).await.unwrap();
    drop(rows);
    assert_stops(&sql, "half taken").await;
    assert_eq!(ask(&sql, "SELECT count(*) AS n FROM events").await, [json!({"n": 40_000})]);
}

async fn assert_stops(sql: &Sql, statement: &str) {
    let started = Instant::now();
    while sql.running() > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "{statement} holds its turn");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What computes beside the root of the plan ends at its next batch, and lets go of its memory: that takes a moment on a busy
    // machine, where a statement that does not stop takes hours.
    loop {
        let before = cpu();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let burnt = cpu() - before;
        if burnt < Duration::from_millis(150) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{statement} still burns {burnt:?} of half a second");
    }
}
