//! SQL from outside: what the views show, and what may not run.

mod clicks;
mod dictionaries;

use std::path::Path;

use clicks::{LIMITS, ask, bytes, commit, judged, lake};
use futures::StreamExt;
use serde_json::json;
use tally_lake::{CompactionSettings, EventRows, Sql, SqlError, SqlLimits};
use tally_model::{Format, Judged, Positions};

async fn error(sql: &Sql, statement: &str) -> String {
    match bytes(sql, statement, Format::Ndjson, LIMITS).await {
        Ok(bytes) => panic!("{statement} was answered: {}", String::from_utf8_lossy(&bytes)),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_view_shows_a_row_for_each_cell_and_the_sums_of_raw_events() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 100).await;
    let rows = ask(&sql, "SELECT * FROM campaign_day ORDER BY campaign_id").await;
    assert_eq!(rows.len(), 2, "two commits made four parts of two cells: {rows:?}");
    let odd = &rows[1];
    assert_eq!(odd["bucket"], json!("2023-11-14T00:00:00Z"));
    assert_eq!((&odd["campaign_id"], &odd["ad_id"], &odd["currency"]), (&json!("odd"), &json!("ad"), &json!("EUR")));
    assert_eq!((&odd["clicks"], &odd["gross_clicks"], &odd["invalid_clicks"]), (&json!(50), &json!(50), &json!(0)));
    let even = &rows[0];
    assert_eq!((&even["clicks"], &even["gross_clicks"], &even["invalid_clicks"]), (&json!(40), &json!(50), &json!(10)));
    assert_eq!((&even["cost_micros"], &even["users"]), (&json!(40_000), &json!(20)));

    let raw = "SELECT campaign_id, sum(CASE verdict WHEN 'counted' THEN 1 END) AS clicks, \
               sum(CASE verdict WHEN 'counted' THEN cost_micros END) AS cost FROM events GROUP BY 1 ORDER BY 1";
    let cells =
        "SELECT campaign_id, sum(clicks) AS clicks, sum(cost_micros) AS cost FROM geo_hour GROUP BY 1 ORDER BY 1";
    assert_eq!(ask(&sql, raw).await, ask(&sql, cells).await);
    let users = ask(&sql, "SELECT users(users_sketch) AS users FROM sketches.campaign_month").await;
    assert_eq!(users, [json!({"users": 45})], "five of fifty are robots' alone");
    let ids = ask(&sql, "SELECT event_id, segments FROM events WHERE event_id LIKE '%-000000000007'").await;
    assert_eq!(ids, [json!({"event_id": "00000000-0000-0000-0000-000000000007", "segments": ["s", "t, u"]})]);
}

#[tokio::test]
async fn no_column_holds_the_hash_of_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 10).await;
    for name in ["user_hash", "ip_hash"] {
        let said = error(&sql, &format!("SELECT {name} FROM events")).await;
        assert!(said.contains(name), "{said}");
    }
    let columns = "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns \
                   WHERE table_schema <> 'information_schema'";
    let columns = ask(&sql, columns).await;
    assert!(columns.len() > 200, "{}", columns.len());
    for column in columns {
        let name = column["column_name"].as_str().unwrap();
        assert!(!name.contains("hash"), "{column}");
        assert!(name == "users_sketch" || column["data_type"] != "Binary", "bytes for people: {column}");
    }
}

#[tokio::test]
async fn a_sketch_is_counted_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 100).await;
    for counted in [
        "SELECT users(users_sketch) AS n FROM sketches.campaign_day",
        "SELECT users(s.users_sketch) AS n FROM sketches.campaign_day AS s WHERE s.bucket >= '2023-01-01'",
        "SELECT users(users_sketch) FILTER (WHERE campaign_id <> '') AS n FROM sketches.campaign_day",
    ] {
        assert_eq!(ask(&sql, counted).await, [json!({"n": 45})], "{counted}");
    }
    for shown in [
        "SELECT * FROM sketches.campaign_day",
        "TABLE sketches.campaign_day",
        "SELECT users_sketch FROM sketches.campaign_day",
        "SELECT users_sketch AS x FROM sketches.campaign_day",
        "SELECT x FROM (SELECT users_sketch AS x FROM sketches.campaign_day) AS t",
        "SELECT t.f FROM sketches.campaign_day AS t(a, b, c, d, e, f)",
        "WITH t AS (TABLE sketches.campaign_day) SELECT max(encode(users_sketch, 'hex')) FROM t",
        "SELECT encode(users_sketch, 'hex') FROM sketches.campaign_day",
        "SELECT array_agg(users_sketch) FROM sketches.campaign_day",
        "SELECT max(users_sketch) FROM sketches.campaign_day",
        "SELECT users_sketch, count(*) FROM sketches.campaign_day GROUP BY 1",
        "SELECT count(*) FROM sketches.campaign_day WHERE users_sketch = 'x'::bytea",
        "SELECT campaign_id FROM sketches.campaign_day ORDER BY users_sketch",
        "SELECT users(users_sketch) FILTER (WHERE users_sketch > 'x'::bytea) FROM sketches.campaign_day",
        "SELECT users(substr(users_sketch, 1, 8)) FROM sketches.campaign_day",
        "SELECT count(*) FROM sketches.campaign_day a JOIN sketches.geo_day b USING (users_sketch)",
        "SELECT count(*) FROM sketches.campaign_day a JOIN sketches.geo_day b ON a.users_sketch = b.users_sketch",
        "SELECT count(*) FROM sketches.campaign_day a NATURAL JOIN sketches.campaign_hour b",
        "SELECT (SELECT users_sketch FROM sketches.campaign_day LIMIT 1)",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM sketches.campaign_day WHERE users_sketch IS NOT NULL)",
        "SELECT first_value(users_sketch) OVER () FROM sketches.campaign_day",
        "TABLE sketches.campaign_day UNION ALL TABLE sketches.campaign_hour",
        "SELECT DISTINCT ON (users_sketch) campaign_id FROM sketches.campaign_day",
        "SELECT row(users_sketch) FROM sketches.campaign_day",
        "EXPLAIN ANALYZE SELECT users_sketch FROM sketches.campaign_day",
        "COPY sketches.campaign_day TO '/tmp/x'",
    ] {
        error(&sql, shown).await;
    }
}

#[tokio::test]
async fn what_does_more_than_read_is_refused_by_its_plan() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 10).await;
    let file = folder.path().join("stolen.csv");
    let file = file.to_str().unwrap();
    for statement in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE SCHEMA s",
        "DROP TABLE events",
        "DROP VIEW campaign_day",
        "INSERT INTO events SELECT * FROM events",
        "DELETE FROM events",
        "UPDATE events SET kind = 'click'",
        &format!("COPY (SELECT 1) TO '{file}'"),
        &format!("COPY events TO '{file}' STORED AS PARQUET"),
        &format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'"),
        &format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'"),
        "SET datafusion.execution.target_partitions = 512",
        "SET datafusion.runtime.memory_limit = '100G'",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '/etc/hosts.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT 1; DROP TABLE events",
    ] {
        let said = error(&sql, statement).await;
        assert!(!said.contains("panic") && said.len() < 2_000, "{statement}: {said}");
    }
    assert!(!Path::new(file).exists());
    assert_eq!(ask(&sql, "SELECT count(*) AS n FROM events").await, [json!({"n": 10})], "everything is as it was");
    assert_eq!(
        error(&sql, "DROP TABLE events").await,
        "DropTable is not done here: SQL is read-only; use SELECT, WITH or EXPLAIN"
    );
    for makes_what_it_is_told in ["repeat('x', 2000000000)", "range(0, 100000000000)", "lpad('x', 2000000000, 'y')"] {
        let said = error(&sql, &format!("SELECT {makes_what_it_is_told}")).await;
        assert!(said.contains("Invalid function"), "{makes_what_it_is_told}: {said}");
    }
}

#[tokio::test]
async fn memory_and_rows_have_their_limits_and_the_error_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 40_000).await;
    let limits = SqlLimits { rows: Some(100), ..LIMITS };
    let error = bytes(&sql, "SELECT event_id FROM events", Format::Csv, limits).await.unwrap_err();
    assert_eq!(error, SqlError::TooManyRows { limit: 100 });
    let hundred = bytes(&sql, "SELECT 1 AS n FROM events LIMIT 100", Format::Ndjson, limits).await.unwrap();
    assert_eq!(hundred, b"{\"n\":1}\n".repeat(100));
    let wide = "SELECT array_agg(a.event_id || b.event_id) FROM events a, events b";
    let error = bytes(&sql, wide, Format::Ndjson, LIMITS).await.unwrap_err();
    assert!(matches!(error, SqlError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn rows_leave_in_each_format_and_also_where_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 20).await;
    let statement = "SELECT event_id, segments, cost_micros, country, occurred_at FROM events ORDER BY 1 LIMIT 2";
    let csv = String::from_utf8(bytes(&sql, statement, Format::Csv, LIMITS).await.unwrap()).unwrap();
    let line = "00000000-0000-0000-0000-000000000000,\"[s, t, u]\",1000,DE,2023-11-14T22:13:20Z";
    assert_eq!(csv.lines().collect::<Vec<_>>()[..2], ["event_id,segments,cost_micros,country,occurred_at", line]);
    let parquet = bytes(&sql, statement, Format::Parquet, LIMITS).await.unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let none = "SELECT event_id, segments FROM events WHERE kind = 'none'";
    assert_eq!(bytes(&sql, none, Format::Csv, LIMITS).await.unwrap(), b"event_id,segments\n");
    assert_eq!(bytes(&sql, none, Format::Ndjson, LIMITS).await.unwrap(), b"");
    assert!(bytes(&sql, none, Format::Parquet, LIMITS).await.unwrap().ends_with(b"PAR1"));
    assert!(!bytes(&sql, none, Format::Arrow, LIMITS).await.unwrap().is_empty());
}

#[tokio::test]
async fn files_that_cannot_hold_what_is_asked_for_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_, sql) = lake(folder.path(), 100).await;
    let files = async |condition: &str| {
        let plan = format!("EXPLAIN SELECT count(*), max(kind) FROM events WHERE {condition}");
        ask(&sql, &plan)
            .await
            .iter()
            .map(|row| row["plan"].as_str().unwrap().matches(".parquet").count())
            .sum::<usize>()
    };
    // Two commits, of three regions each.
    assert_eq!(files("true").await, 6);
    assert_eq!(files("occurred_at < '2023-11-14T22:13:20.050Z'").await, 3, "the second commit is later");
    assert_eq!(files("occurred_at >= '2023-11-14T22:13:20.050Z'").await, 3, "the first commit is earlier");
    assert_eq!(files("campaign_id = 'even'").await, 6);
    assert_eq!(files("campaign_id = 'zzz'").await, 0);
    assert_eq!(files("region = 'eu'").await, 2);
    assert_eq!(files("event_date = '2023-11-15'").await, 0);
}

#[tokio::test]
async fn each_statement_sees_what_is_committed_when_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, sql) = lake(folder.path(), 10).await;
    let session = sql.session().unwrap();
    let count = async || {
        let plan = session.plan_text("SELECT count(*) AS n FROM events").await.unwrap();
        let mut rows = session.start(&plan, LIMITS).await.unwrap();
        rows.next().await.unwrap().unwrap();
        rows.table_version()
    };
    let before = count().await;
    let positions = |next: u64| Positions::from_offsets(vec![next]);
    let version =
        lake.commit_events(&mut EventRows::from_iter(&[judged(10)]), &positions(10), &positions(11)).await.unwrap();
    lake.commit_cells(version, &tally_model::Cells::default()).await.unwrap();
    assert_eq!(count().await, before + 1);
    assert_eq!(ask(&sql, "SELECT count(*) AS n FROM events").await, [json!({"n": 11})]);
}

/// A file's dictionary holds a megabyte of texts; those behind it stand in its pages as they are.
#[tokio::test]
async fn texts_that_no_dictionary_holds_are_those_of_their_rows_after_compaction_too() {
    const ROWS: u64 = 18_000;
    let folder = tempfile::tempdir().unwrap();
    let (lake, sql) = lake(folder.path(), 10).await;
    for from in [10, 10 + ROWS] {
        let with_agent = |offset: u64| {
            let mut row = judged(offset);
            row.event.user_agent = (!offset.is_multiple_of(7)).then(|| format!("{offset:0>240}"));
            row
        };
        commit(&lake, &(from..from + ROWS).map(with_agent).collect::<Vec<Judged>>()).await;
    }
    let counts = async || {
        let [nobodys, own] = ["user_agent IS NULL", "CAST(user_agent AS BIGINT) = log_offset"]
            .map(|condition| format!("SELECT count(*) AS n FROM events WHERE {condition}"));
        (ask(&sql, &nobodys).await, ask(&sql, &own).await)
    };
    let before = counts().await;
    assert_eq!(before, (vec![json!({"n": 10 + 5_143})], vec![json!({"n": 2 * ROWS - 5_143})]));
    let settings = CompactionSettings { files_min: 2, rows_max: 100_000 };
    assert!(!lake.compact(settings).await.unwrap().is_empty());
    while !lake.compact(settings).await.unwrap().is_empty() {}
    assert_eq!(lake.view().sizes()[0].files, 6, "of each region the large two in one, and the small two");
    assert_eq!(counts().await, before);
}
