//! Stops of every kind: what was acknowledged is there afterwards, once.

use serde_json::json;

use super::server::{Server, click, metric, ndjson};

#[test]
fn what_is_acknowledged_survives_a_kill_right_after_the_answer() {
    // So long that nothing is committed before the kill.
    let mut server = Server::with(&[("TALLY__PIPELINE__COMMIT_AFTER_MS", "60000")]);
    for id in 0..20 {
        assert_eq!(server.post("/v1/events", click(id, "c").to_string(), &[]).0, 202);
    }
    server.kill();
    server.restart();
    for id in 10..30 {
        assert_eq!(server.post("/v1/events", click(id, "c").to_string(), &[]).0, 202);
    }
    assert!(server.stop());
    server.restart();
    assert_eq!((server.total("clicks"), server.total("duplicate_clicks")), (30, 10));
    server.verify();
}

#[test]
fn after_sigterm_a_restart_finds_nothing_to_redo() {
    let mut server = Server::with(&[("TALLY__PIPELINE__COMMIT_AFTER_MS", "60000")]);
    let events: Vec<_> = (0..500).map(|id| click(id, "c")).collect();
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
    assert!(server.stop(), "it drains and ends well");
    server.restart();
    assert_eq!(server.total("clicks"), 500, "counted before the restart looked at the journal");
    assert_eq!(metric(&server.get("/metrics").1, "tally_pipeline_commits_total"), 0.0, "nothing to redo");
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
    server.wait_until_counted();
    assert_eq!((server.total("clicks"), server.total("duplicate_clicks")), (500, 500), "it remembers what it saw");
}

#[test]
fn two_processes_never_share_a_data_folder() {
    let server = Server::start();
    let mut second = server.command();
    second.args(["--listen", "127.0.0.1:0"]);
    let mut arguments: Vec<_> = second.get_args().map(|a| a.to_owned()).collect();
    arguments.drain(1..3);
    let output = std::process::Command::new(super::server::BINARY).args(arguments).output().unwrap();
    assert!(!output.status.success());
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(says.contains("in use by another process"), "{says}");
}

#[test]
fn reports_never_go_back_in_time_while_events_come_in() {
    let server = Server::with(&[("TALLY__PIPELINE__COMMIT_AFTER_MS", "20"), ("TALLY__LAKE__COMPACT_EVERY_S", "1")]);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for batch in 0..60u128 {
                let events: Vec<_> = (0..20).map(|n| click(batch * 20 + n, "c")).collect();
                assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
            }
        });
        let mut last = 0;
        while !sending.is_finished() {
            // By turns from a rollup and from raw events.
            for groups in [json!([]), json!(["placement_id"])] {
                let rows = server.ask(json!({"metrics": ["clicks"], "group_by": groups}));
                let clicks = rows.first().map_or(0, |row| row["clicks"].as_i64().unwrap());
                assert!(clicks >= last, "{clicks} after {last}");
                last = clicks;
            }
        }
    });
    server.wait_until_counted();
    assert_eq!(server.total("clicks"), 1_200);
    server.verify();
}
