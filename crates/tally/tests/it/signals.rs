//! Stops that a server is told about, and those that it sleeps through, while clients send.

use std::time::Duration;

use super::crash::{busy_server, from_environment, prove_to_the_last_event};
use super::load::Load;
use super::server::{Server, eventually, said};

const SEED: u64 = 2;
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Longer than a commit is away, so that a stop always finds something to commit.
const LONG_MS: u64 = 60_000;

fn acknowledged(load: &Load, more: u64) {
    let enough = load.acknowledged() + more;
    eventually("more is acknowledged", || load.acknowledged() >= enough);
}

/// All that was acknowledged is in the figures of the folder that a stopped server left, and they agree with the raw events.
pub fn check_folder(server: &Server, acknowledged: u64) {
    let data = server.data();
    let data = data.to_str().unwrap();
    let proof = server.tally(&["verify", "--recount", "--data", data]);
    assert!(proof.status.success() && said(&proof).contains("everything holds"), "{}", said(&proof));
    let metrics = "gross_impressions,gross_clicks,gross_conversions";
    let report = server.tally(&["query", metrics, "--format", "json", "--data", data]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let received: u64 = report["rows"][0].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(received >= acknowledged, "{acknowledged} events were acknowledged, and {received} are committed");
}

/// A number of a log line.
fn logged(log: &str, message: &str, field: &str) -> u64 {
    let line = log.lines().find(|line| line.contains(message)).unwrap();
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
    value.unwrap().parse().unwrap()
}

#[test]
fn sigterm_under_load_commits_all_that_is_acknowledged_even_when_it_comes_twice() {
    let mut server = busy_server(LONG_MS);
    server.restart();
    let load = Load::start(&server, SEED, ANSWER_TIME);
    for signals in [1, 2] {
        acknowledged(&load, 500);
        for _ in 0..signals {
            server.signal("TERM");
        }
        assert!(server.wait_until_ended().success(), "{}", server.log());
        assert!(server.log().contains("everything acknowledged is committed"), "{}", server.log());
        check_folder(&server, load.acknowledged());
        server.restart();
        let log = server.log();
        // Not what it says is to be replayed: that may count what came in since it listens.
        let (left, committed) =
            (logged(&log, "journal opened", "end"), logged(&log, "pipeline recovered", "committed"));
        assert_eq!(left, committed, "something was left to redo: {log}");
    }
    let sent = load.finish();
    prove_to_the_last_event_soon(&mut server, &sent);
}

/// As [`prove_to_the_last_event`], where a commit by itself is a minute away.
fn prove_to_the_last_event_soon(server: &mut Server, sent: &super::load::Sent) {
    assert!(server.stop());
    server.restart();
    prove_to_the_last_event(server, sent);
}

#[test]
fn a_kill_while_a_sigterm_is_obeyed_loses_nothing() {
    let mut server = busy_server(LONG_MS);
    let load = Load::start(&server, SEED, ANSWER_TIME);
    let mut unfinished = 0;
    for moment in 0..6 {
        server.restart();
        acknowledged(&load, 300);
        server.signal("TERM");
        std::thread::sleep(Duration::from_millis(moment * 8));
        server.kill();
        unfinished += u64::from(!server.log().contains("everything acknowledged is committed"));
    }
    assert!(unfinished > 0, "every kill came too late to disturb anything");
    server.restart();
    prove_to_the_last_event_soon(&mut server, &load.finish());
}

/// `TALLY_TEST_PAUSE_S=70` is longer than every time-out of the server's as well, but for that of a question.
#[test]
fn a_server_that_was_stopped_for_longer_than_any_time_out_goes_on_as_if_nothing_had_been() {
    let pause = Duration::from_secs(from_environment("TALLY_TEST_PAUSE_S", 3));
    let mut server = busy_server(60);
    server.restart();
    let load = Load::start(&server, SEED, Duration::from_millis(700));
    for _ in 0..2 {
        acknowledged(&load, 200);
        server.signal("STOP");
        std::thread::sleep(pause);
        server.signal("CONT");
        let acknowledged = load.acknowledged();
        // The watermark moves on.
        server.wait_until_counted();
        assert!(server.received() >= acknowledged);
    }
    let sent = load.finish();
    assert!(sent.unanswered > 0, "no client ran out of time");
    prove_to_the_last_event(&mut server, &sent);
}
