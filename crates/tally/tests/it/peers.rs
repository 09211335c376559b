//! Other engines read the tables, without our help, and find the same sums.

use std::process::Command;

use serde_json::Value;

use super::server::{Server, click, ndjson};

/// A Python with `deltalake` and `duckdb`; `.ci/run` makes one and names it here.
fn python() -> Option<String> {
    python_with("deltalake, duckdb, pyarrow", "deltalake duckdb pyarrow")
}

/// A Python that has these modules, which these packages bring.
pub fn python_with(modules: &str, packages: &str) -> Option<String> {
    let python = std::env::var("TALLY_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(std::env::var("CI").is_err(), "CI must have the peers: pip install {packages}");
    eprintln!("SKIPPED: {python} has no {modules}; install them with pip, or set TALLY_TEST_PYTHON");
    None
}

const READ_BY_OTHERS: &str = r#"
import sys, json, duckdb
from deltalake import DeltaTable
out = {}
for name in ("events", "rollups"):
    table = DeltaTable(f"{sys.argv[1]}/lake/{name}")
    out[f"{name}_rows"] = table.to_pyarrow_table().num_rows
    arrow = table.to_pyarrow_table()
    duckdb.register(name, arrow)
out["counted"] = duckdb.sql("select count(*) from events where verdict = 'counted'").fetchall()[0][0]
out["by_region"] = dict(duckdb.sql("select region, count(*) from events group by 1 order by 1").fetchall())
out["rollups"] = {f"{v}_{g}": n for v, g, n in duckdb.sql('select "view", grain, sum(clicks) from rollups group by 1, 2').fetchall()}
out["cost"] = int(duckdb.sql("select sum(cost_micros) from rollups where grain = 'day' and \"view\" = 'geo'").fetchall()[0][0])
files = DeltaTable(f"{sys.argv[1]}/lake/events").file_uris()
out["parquet"] = duckdb.sql(f"select count(*) from read_parquet({files!r}) where verdict = 'counted'").fetchall()[0][0]
print(json.dumps(out))
"#;

#[test]
fn python_deltalake_and_duckdb_read_the_same_sums() {
    let Some(python) = python() else { return };
    let server = Server::with(&[("TALLY__LAKE__COMPACT_EVERY_S", "1")]);
    for batch in 0..12u128 {
        let mut events: Vec<Value> = (0..50).map(|n| click(batch * 50 + n, "c")).collect();
        for (at, event) in events.iter_mut().enumerate() {
            event["country"] = ["DE", "US", "JP", "BR"][at % 4].into();
            event["cost_micros"] = 1_000.into();
        }
        assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
        server.wait_until_counted();
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    let output = Command::new(python).arg("-c").arg(READ_BY_OTHERS).arg(server.data()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["counted"], &found["parquet"], &found["events_rows"]), (&600.into(), &600.into(), &600.into()));
    assert_eq!(found["by_region"], serde_json::json!({"apac": 144, "eu": 156, "na": 156, "other": 144}));
    assert_eq!(found["cost"], 600_000);
    let rollups = found["rollups"].as_object().unwrap();
    assert_eq!(rollups.len(), 16);
    assert!(rollups.values().all(|clicks| clicks.as_f64() == Some(600.0)), "{rollups:?}");
}
