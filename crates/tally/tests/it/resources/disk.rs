//! The disk is full, or hangs.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::batch;
use crate::audit::recount;
use crate::server::{Launch, Server, click, eventually, metric};
use crate::small_disk::SmallDisk;

/// Room for the journal's two segments twice over, and for a lake.
const DISK_MIB: u64 = 64;
/// The least that are taken.
const SEGMENT_BYTES: u64 = 8 << 20;

fn settings() -> Vec<(&'static str, String)> {
    vec![
        ("TALLY__JOURNAL__SEGMENT_BYTES", SEGMENT_BYTES.to_string()),
        ("TALLY__JOURNAL__QUEUE_BYTES", SEGMENT_BYTES.to_string()),
        ("TALLY__JOURNAL__RETAIN_BYTES", "0".to_owned()),
        ("TALLY__PIPELINE__COMMIT_AFTER_MS", "50".to_owned()),
        ("TALLY__LAKE__COMPACT_EVERY_S", "1".to_owned()),
        ("TALLY__CAPTURE__REDIRECT_HOSTS", "shop.example".to_owned()),
        ("TALLY__LOG__LEVEL", "info".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ]
}

fn server_on(disk: &SmallDisk) -> Server {
    let data = Some(disk.path().join("data"));
    Server::prepare(Launch { settings: settings(), data, is_logged: true, ..Launch::default() })
}

/// That has taken and counted its first batch.
fn server_with_a_batch(disk: &SmallDisk) -> Server {
    let mut server = server_on(disk);
    server.restart();
    assert_eq!(server.post("/v1/events/batch", batch(0), &[]).0, 202);
    check_clicks(&server, 1_000);
    server
}

/// Posts batches until one is refused, and gives its number.
fn post_until_refused(server: &Server, first: u128) -> u128 {
    for number in first.. {
        let (status, headers, body) = server.post_for_head("/v1/events/batch", batch(number), &[]);
        if status == 202 {
            assert!(number - first < 100, "the disk never gets full");
            continue;
        }
        assert_eq!(status, 503, "{body}");
        assert_eq!(headers["retry-after"], "1", "{body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("retry"), "{body}");
        return number;
    }
    unreachable!()
}

fn check_clicks(server: &Server, clicks: u128) {
    server.wait_until_counted();
    assert_eq!(server.total("clicks"), clicks as i64);
    recount(server);
}

#[test]
fn a_full_disk_turns_senders_away_until_there_is_room_and_costs_nothing() {
    let Some(disk) = SmallDisk::of_mib(DISK_MIB) else { return };
    let mut server = server_with_a_batch(&disk);

    // The lake has no room, the journal has: senders notice nothing, figures stand still.
    disk.fill();
    assert_eq!(server.post("/v1/events/batch", batch(1), &[]).0, 202);
    eventually("commits are tried again", || {
        metric(&server.get("/metrics").1, "tally_pipeline_commit_retries_total") > 1.0
    });
    assert_eq!(server.status("/readyz"), Some(200), "capture works");
    assert_eq!(server.total("clicks"), 1_000);

    // Neither has.
    let refused = post_until_refused(&server, 2);
    assert!(refused > 2, "the journal had room");
    eventually("it says why it is not ready", || {
        let (status, why) = server.get("/readyz");
        status == 503 && why.contains("No space left on device") && why.contains("free space")
    });
    assert_eq!(server.post("/v1/events", click(7_000_000, "c").to_string(), &[]).0, 503, "also for one event");
    assert_eq!(server.get("/v1/click?campaign_id=c&ad_id=a&to=https%3A%2F%2Fshop.example%2F").0, 302, "people go on");
    assert_eq!(metric(&server.get("/metrics").1, "tally_capture_redirects_unrecorded_total"), 1.0);
    assert_eq!(server.total("clicks"), 1_000, "reports go on");
    recount(&server);

    disk.free();
    eventually("it is ready again", || server.status("/readyz") == Some(200));
    assert_eq!(server.post("/v1/events/batch", batch(refused), &[]).0, 202, "the sender tries again");
    check_clicks(&server, (refused + 1) * 1_000);
    let log = server.log();
    assert!(!log.contains("ERROR"), "nobody had to act: {log}");
    assert!(server.stop());
}

#[test]
fn a_server_that_is_killed_on_a_full_disk_starts_on_it_and_counts_once_there_is_room() {
    let Some(disk) = SmallDisk::of_mib(DISK_MIB) else { return };
    let mut server = server_with_a_batch(&disk);
    disk.fill();
    let refused = post_until_refused(&server, 1);
    server.kill();
    server.spawn();
    eventually("it answers", || server.status("/healthz") == Some(200));
    assert_eq!(server.total("clicks"), 1_000, "reports go on");

    disk.free();
    eventually("the batch is taken", || server.post("/v1/events/batch", batch(refused), &[]).0 == 202);
    server.wait_until_ready();
    check_clicks(&server, (refused + 1) * 1_000);
}

#[test]
fn a_sigterm_on_a_full_disk_ends_in_time_and_leaves_the_rest_to_the_next_start() {
    let Some(disk) = SmallDisk::of_mib(DISK_MIB) else { return };
    let mut server = server_on(&disk);
    server.restart();
    disk.fill();
    assert_eq!(server.post("/v1/events/batch", batch(0), &[]).0, 202);
    assert!(server.stop(), "{}", server.log());
    assert!(server.log().contains("the next start goes on there"), "{}", server.log());
    disk.free();
    server.restart();
    check_clicks(&server, 1_000);
}

#[test]
fn a_first_start_without_room_says_so_and_works_once_there_is() {
    // None at all, too little for the first segment, and enough for that but not for the lake.
    for free_bytes in [0, 1 << 20, SEGMENT_BYTES + (64 << 10)] {
        let Some(disk) = SmallDisk::of_mib(DISK_MIB) else { return };
        let mut server = server_on(&disk);
        disk.fill_but(free_bytes);
        server.spawn();
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.is_running() && server.status("/readyz") != Some(200) {
            assert!(Instant::now() < deadline, "it neither starts nor ends");
        }
        if !server.is_running() {
            let log = server.log();
            assert_eq!(server.wait_until_ended().code(), Some(1), "{log}");
            assert!(log.contains("No space left on device") && log.contains("tally: cannot"), "{log}");
            disk.free();
            server.restart();
        } else {
            assert!(free_bytes > SEGMENT_BYTES, "there was no room for a journal");
            disk.free();
        }
        assert_eq!(server.post("/v1/events/batch", batch(0), &[]).0, 202);
        check_clicks(&server, 1_000);
    }
}

#[test]
fn a_disk_that_hangs_turns_senders_away_by_a_full_queue_and_people_go_on() {
    let Some(disk) = SmallDisk::of_mib(DISK_MIB) else { return };
    let server = server_with_a_batch(&disk);

    let frozen = disk.freeze();
    let clicked = Instant::now();
    assert_eq!(server.get("/v1/click?campaign_id=c&ad_id=a&to=https%3A%2F%2Fshop.example%2F").0, 302);
    let waited = clicked.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&waited), "redirected after {waited:?}");
    assert_eq!(metric(&server.get("/metrics").1, "tally_capture_redirects_unrecorded_total"), 1.0);
    // Each sender waits for its own batch; they fill the queue, and who comes then is told to come back.
    std::thread::scope(|scope| {
        let server = &server;
        let waiting: Vec<_> = (1..=12)
            .map(|number| scope.spawn(move || server.post_for_head("/v1/events/batch", batch(number), &[])))
            .collect();
        eventually("the queue is full", || waiting.iter().any(|sender| sender.is_finished()));
        assert_eq!(server.status("/healthz"), Some(200));
        assert_eq!(server.total("clicks"), 1_000, "reports go on");
        recount(server);
        drop(frozen);
        for (number, sender) in (1..).zip(waiting) {
            let (status, headers, body) = sender.join().unwrap();
            match status {
                202 => {}
                503 => {
                    // Nearly full, and not for clicks any more; or full.
                    assert!(["1", "5"].contains(&headers["retry-after"].to_str().unwrap()), "{body}");
                    eventually("it is taken", || server.post("/v1/events/batch", batch(number), &[]).0 == 202);
                }
                _ => panic!("{status}: {body}"),
            }
        }
    });
    // The click that nobody waited for was in the queue all the same.
    check_clicks(&server, 13 * 1_000 + 1);
}
