//! No file descriptor is left.

use std::net::TcpStream;
use std::time::Duration;

use super::batch;
use crate::audit::recount;
use crate::load::Load;
use crate::server::{Launch, Server, eventually, metric};

const OPEN_FILES: usize = 100;
/// Always open: with this limit, nothing else can be.
const STANDARD_STREAMS: usize = 3;

fn server() -> Server {
    let settings = vec![
        ("TALLY__JOURNAL__SEGMENT_BYTES", (8 << 20).to_string()),
        ("TALLY__JOURNAL__RETAIN_BYTES", "0".to_owned()),
        ("TALLY__PIPELINE__COMMIT_AFTER_MS", "50".to_owned()),
        ("TALLY__LAKE__COMPACT_EVERY_S", "1".to_owned()),
        ("TALLY__LOG__LEVEL", "info".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    let under = vec!["prlimit".to_owned(), format!("--nofile={OPEN_FILES}:{OPEN_FILES}")];
    Server::prepare(Launch { settings, under, is_logged: true, ..Launch::default() })
}

/// Connections that are opened and then say nothing.
fn hold_connections(server: &Server, n: usize) -> Vec<TcpStream> {
    (0..n).map(|_| TcpStream::connect(server.address()).unwrap()).collect()
}

#[test]
fn connections_beyond_the_limit_wait_and_take_nothing_from_those_that_are_served() {
    let mut server = server();
    server.restart();
    let load = Load::start(&server, 3, Duration::from_secs(10));
    eventually("all clients are connected", || load.acknowledged() > 100);
    // Half of the descriptors are for connections; of these, as many again wait in the kernel's queue.
    let held = hold_connections(&server, OPEN_FILES);
    eventually("no connection is free", || server.log().contains("all connections are taken"));

    // Whoever is connected is served, and what is taken is committed and compacted meanwhile.
    let before = load.acknowledged();
    eventually("more is acknowledged", || load.acknowledged() > before + 500);
    assert_eq!(load.refused(), 0, "nobody was turned away: {}", server.log());

    drop(held);
    // The test's own connection was one of those that waited, or of those that were open.
    eventually("it answers", || server.status("/readyz") == Some(200));
    eventually("connections are free", || metric(&server.get("/metrics").1, "tally_server_connections") < 20.0);
    let sent = load.finish();
    crate::crash::prove_to_the_last_event(&mut server, &sent);
}

/// Nothing more can be opened, from one moment to the other: what is open goes on, and the rest once there are descriptors.
#[test]
fn a_process_without_a_file_descriptor_left_takes_what_its_journal_holds_and_catches_up_later() {
    let mut server = server();
    server.restart();
    assert_eq!(server.post("/v1/events/batch", batch(0), &[]).0, 202);
    server.wait_until_counted();

    // From here on one connection is used again and again: a new one could not be accepted.
    server.limit_open_files(STANDARD_STREAMS);
    let mut taken = 1;
    let refused = loop {
        let (status, headers, body) = server.post_for_head("/v1/events/batch", batch(taken), &[]);
        if status == 503 {
            assert_eq!(headers["retry-after"], "1", "{body}");
            break body;
        }
        assert_eq!(status, 202, "{body}");
        taken += 1;
        assert!(taken < 50, "segments are made without a file descriptor");
    };
    assert!(refused.contains("retry"), "{refused}");
    assert!(taken > 8, "a segment was begun meanwhile, from the spare that was ready: {taken}");
    let (status, why) = server.get("/readyz");
    assert!(status == 503 && why.contains("raise the limit of open files"), "{status}: {why}");

    server.limit_open_files(OPEN_FILES);
    eventually("it is ready again", || server.status("/readyz") == Some(200));
    assert_eq!(server.post("/v1/events/batch", batch(taken), &[]).0, 202);
    server.wait_until_counted();
    assert_eq!(server.total("clicks") as u128, (taken + 1) * 1_000);
    recount(&server);
    assert!(server.stop(), "{}", server.log());
}
