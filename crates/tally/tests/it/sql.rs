//! SQL over HTTP and from the command line.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, click, eventually, metric, ndjson, said};

fn counted(clicks: u128) -> Server {
    let server = Server::start();
    let events: Vec<Value> = (0..clicks).map(|id| click(id, if id % 3 == 0 { "one" } else { "two" })).collect();
    for events in events.chunks(10_000) {
        assert_eq!(server.post("/v1/events/batch", ndjson(events), &[]).0, 202);
    }
    server.wait_until_counted();
    server
}

fn ask(server: &Server, question: &Value) -> (u16, String) {
    server.post("/v1/sql", question.to_string(), &[])
}

#[test]
fn sql_is_answered_over_http_from_a_folder_and_into_files_alike() {
    let mut server = counted(300);
    let statement = "SELECT campaign_id, clicks FROM campaign_month ORDER BY 1";
    let (status, body) = ask(&server, &json!({"sql": statement}));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["rows"], json!([{"campaign_id": "one", "clicks": 100}, {"campaign_id": "two", "clicks": 200}]));
    assert_eq!(body["columns"][1], json!({"name": "clicks", "type": "bigint"}));
    assert_eq!(body["meta"]["row_count"], 2);
    assert!(body["meta"]["watermark"].is_string());

    let (url, folder) = (server.url(""), server.data().to_str().unwrap().to_owned());
    let table = server.tally(&["sql", statement, "--server", &url]);
    assert!(table.status.success() && said(&table).contains("│ two         ┆    200 │"), "{}", said(&table));
    let csv = server.tally(&["sql", statement, "--format", "csv", "--data", &folder]);
    assert_eq!(said(&csv), "campaign_id,clicks\none,100\ntwo,200\n");
    let files = tempfile::tempdir().unwrap();
    for (name, place) in
        [("a.parquet", ["--server", &url]), ("b.arrow", ["--data", &folder]), ("c.csv", ["--server", &url])]
    {
        let file = files.path().join(name);
        let written = server.tally(&["sql", statement, "--output", file.to_str().unwrap(), place[0], place[1]]);
        assert!(written.status.success(), "{name}: {}", said(&written));
        assert!(std::fs::metadata(&file).unwrap().len() > 0, "{name}");
    }
    assert!(std::fs::read(files.path().join("a.parquet")).unwrap().ends_with(b"PAR1"));
    let report = files.path().join("report.parquet");
    let report = report.to_str().unwrap();
    for place in [["--server", &url], ["--data", &folder]] {
        let arguments = ["query", "clicks,ctr", "--by", "campaign_id", "--output", report, place[0], place[1]];
        let written = server.tally(&arguments);
        assert!(written.status.success(), "{}", said(&written));
        assert!(std::fs::read(report).unwrap().ends_with(b"PAR1"));
    }
    let refused = server.tally(&["sql", "DROP TABLE events", "--server", &url]);
    assert!(!refused.status.success() && said(&refused).contains("SQL is read-only"), "{}", said(&refused));
    assert!(server.stop());
}

#[test]
fn a_statement_that_cannot_be_answered_is_told_why_and_what_runs_too_long_stops() {
    let server = counted(30_000);
    let problem = |question: Value, status: u16, says: &str| {
        let (found, body) = ask(&server, &question);
        assert_eq!(found, status, "{question}: {body}");
        assert!(body.contains(says), "{question}: {body}");
    };
    problem(json!({"sql": "SELEC 1"}), 400, "urn:tally:problem:statement");
    problem(json!({"sql": "SELECT clics FROM campaign_day"}), 400, "clics");
    problem(json!({"sql": "SELECT user_hash FROM events"}), 400, "user_hash");
    problem(json!({"sql": "SELECT 1/0"}), 400, "ivide by zero");
    problem(json!({"sql": "DELETE FROM events"}), 400, "SQL is read-only");
    problem(json!({"sql": "SELECT 1", "format": "xml"}), 400, "json, csv, ndjson, parquet, arrow");
    problem(json!({"statement": "SELECT 1"}), 400, r#""field":"statement""#);
    let endless = "SELECT sum(value % 7) FROM generate_series(1, 100000000000000)";
    let started = Instant::now();
    problem(json!({"sql": endless, "time_limit_ms": 700}), 422, "ran for 0.7 s");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    eventually("the statement lets go of the CPU", || {
        let before = server.cpu();
        std::thread::sleep(Duration::from_millis(500));
        server.cpu() - before < Duration::from_millis(200)
    });
    problem(json!({"sql": "SELECT a.event_id, b.event_id FROM events a, events b LIMIT 0"}), 200, "\"rows\":[]");
    assert!(metric(&server.get("/metrics").1, "tally_api_sql_failures_total") >= 6.0);
    assert_eq!(server.total("clicks"), 30_000);
}

#[test]
fn a_statement_whose_asker_is_gone_stops() {
    let server = counted(300);
    let question = json!({"sql": "SELECT sum(value % 7) FROM generate_series(1, 100000000000000)"}).to_string();
    let head = format!("POST /v1/sql HTTP/1.1\r\nhost: tally\r\ncontent-length: {}\r\n\r\n", question.len());
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.write_all((head + &question).as_bytes()).unwrap();
    let burnt = |time: Duration| {
        let before = server.cpu();
        std::thread::sleep(time);
        server.cpu() - before
    };
    eventually("the statement runs", || burnt(Duration::from_millis(300)) > Duration::from_millis(150));
    drop(socket);
    eventually("it stops", || burnt(Duration::from_millis(500)) < Duration::from_millis(200));
}
