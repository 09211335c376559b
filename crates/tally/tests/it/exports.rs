//! Exports: made in the background, downloaded in pieces, gone when they are deleted, and honest after a restart.

use serde_json::{Value, json};

use super::server::{Server, click, eventually, ndjson};

fn counted(clicks: u128) -> Server {
    let server = Server::start();
    let events: Vec<Value> = (0..clicks).map(|id| click(id, "c")).collect();
    for events in events.chunks(10_000) {
        assert_eq!(server.post("/v1/events/batch", ndjson(events), &[]).0, 202);
    }
    server.wait_until_counted();
    server
}

fn create(server: &Server, question: &Value) -> String {
    let (status, body) = server.post("/v1/exports", question.to_string(), &[]);
    assert_eq!(status, 202, "{body}");
    let export: Value = serde_json::from_str(&body).unwrap();
    export["id"].as_str().unwrap().to_owned()
}

fn state(server: &Server, id: &str) -> Value {
    let (status, body) = server.get(&format!("/v1/exports/{id}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn files(server: &Server) -> usize {
    std::fs::read_dir(server.data().join("exports")).unwrap().count()
}

#[test]
fn an_export_is_made_downloaded_in_pieces_kept_over_a_restart_and_deleted() {
    let mut server = counted(20_000);
    let id = create(&server, &json!({"sql": "SELECT event_id, campaign_id FROM events ORDER BY 1", "format": "csv"}));
    eventually("the export is done", || state(&server, &id)["state"] == "done");
    let path = format!("/v1/exports/{id}/file");
    let (status, headers, whole) = server.head_and_body(&path);
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/csv; charset=utf-8"));
    assert_eq!(whole.lines().count(), 20_001);
    assert_eq!(state(&server, &id)["bytes"].as_u64().unwrap() as usize, whole.len());

    // As a client goes on that was cut off, also after a restart in between.
    let (status, headers, first) = server.get_with(&path, &[("range", "bytes=0-99999")]);
    assert_eq!((status, first.len()), (206, 100_000));
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert!(server.stop());
    server.restart();
    let (status, headers, rest) = server.get_with(&path, &[("range", "bytes=100000-"), ("if-range", &tag)]);
    let expected = format!("bytes 100000-{}/{}", whole.len() - 1, whole.len());
    assert_eq!((status, headers["content-range"].to_str().unwrap()), (206, expected.as_str()));
    assert!(first + &rest == whole, "the pieces are not the whole");
    assert_eq!(server.get_with(&path, &[("range", "bytes=0-9"), ("if-range", "\"another\"")]).0, 200);
    assert_eq!(server.get_with(&path, &[("range", "bytes=99999999-")]).0, 416);

    let listed: Value = serde_json::from_str(&server.get("/v1/exports").1).unwrap();
    assert_eq!(listed["exports"][0]["id"], json!(id));
    assert_eq!((server.delete(&format!("/v1/exports/{id}")), files(&server)), (204, 0));
    assert_eq!((server.get(&path).0, server.delete(&format!("/v1/exports/{id}"))), (404, 404));
}

#[test]
fn a_report_is_exported_too_and_what_cannot_be_made_says_why() {
    let server = counted(300);
    let report = json!({"metrics": ["clicks"], "group_by": ["campaign_id"], "from": "2024-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"});
    let id = create(&server, &json!({"query": report}));
    eventually("the report is done", || state(&server, &id)["state"] == "done");
    let (_, headers, body) = server.head_and_body(&format!("/v1/exports/{id}/file"));
    assert_eq!(headers["content-type"], "application/vnd.apache.parquet");
    assert!(body.starts_with("PAR1"));

    let id = create(&server, &json!({"sql": "DROP TABLE events", "format": "csv"}));
    eventually("the export fails", || state(&server, &id)["state"] == "failed");
    assert!(state(&server, &id)["error"].as_str().unwrap().contains("SQL is read-only"));
    for (question, says) in [
        (json!({}), "there is no question"),
        (json!({"sql": "SELECT 1", "format": "json"}), "did you mean \\\"ndjson\\\"?"),
        (json!({"sql": "SELECT 1", "query": report}), "not both"),
        (
            json!({"query": {"metrics": ["clics"], "from": "2024-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}}),
            "clicks",
        ),
    ] {
        let (status, body) = server.post("/v1/exports", question.to_string(), &[]);
        assert!(status == 400 && body.contains(says), "{question}: {body}");
    }
}

#[test]
fn an_export_that_a_restart_cut_off_is_reported_as_failed_and_a_deleted_one_stops() {
    let mut server = counted(3_000);
    let endless = json!({"sql": "SELECT * FROM generate_series(1, 100000000000000)", "format": "ndjson"});
    let id = create(&server, &endless);
    eventually("it runs", || state(&server, &id)["bytes"].as_u64().unwrap() > 1_000_000);
    let waiting = create(&server, &json!({"sql": "SELECT 1"}));
    assert_eq!(state(&server, &waiting)["state"], "waiting", "two run at a time");
    assert_eq!(server.get(&format!("/v1/exports/{id}/file")).0, 409);
    server.kill();
    server.restart();
    for id in [&id, &waiting] {
        let found = state(&server, id);
        assert_eq!(found["state"], "failed");
        assert!(found["error"].as_str().unwrap().contains("the server was stopped"), "{found}");
    }
    assert_eq!(files(&server), 2, "half a file was kept");

    let id = create(&server, &endless);
    eventually("it runs again", || state(&server, &id)["bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(server.delete(&format!("/v1/exports/{id}")), 204);
    eventually("the CPU is free", || {
        let before = server.cpu();
        std::thread::sleep(std::time::Duration::from_millis(500));
        server.cpu() - before < std::time::Duration::from_millis(200)
    });
    let next = create(&server, &json!({"sql": "SELECT 1 AS n", "format": "csv"}));
    eventually("the next one has its turn", || state(&server, &next)["state"] == "done");
    assert_eq!(server.get(&format!("/v1/exports/{next}/file")).1, "n\n1\n");
}
