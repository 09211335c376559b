//! Late, wrong and unreadable: figures that have to be made right, on the real binary.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tally_journal::{DiskJournal, DiskOptions, Journal, Record};

use super::server::{BINARY, Server, click, ndjson, said};

/// The file of rollups that a server's folder has.
fn break_rollups(server: &Server) {
    let files = std::fs::read_dir(server.data().join("lake/rollups")).unwrap().flatten().map(|entry| entry.path());
    for file in files.into_iter().filter(|path| path.extension().is_some_and(|name| name == "parquet")) {
        std::fs::write(file, b"not a file of cells any more").unwrap();
    }
}

#[test]
fn broken_rollups_are_rebuilt_from_raw_by_a_server_or_in_its_folder() {
    let mut server = Server::with(&[("TALLY__LAKE__COMPACT_EVERY_S", "3600")]);
    let events: Vec<_> = (0..500).map(|id| click(id, "c")).collect();
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
    server.wait_until_counted();
    assert!(server.stop());
    for by_server in [true, false] {
        break_rollups(&server);
        let folder = server.data().to_str().unwrap().to_owned();
        let broken = server.tally(&["verify", "--data", &folder]);
        assert!(!broken.status.success(), "{}", said(&broken));
        if by_server {
            server.restart();
        }
        let url = server.url("");
        let place = if by_server { ["--server", &url] } else { ["--data", &folder] };
        let rebuild =
            |from: &str, to: &str| server.tally(&[&["rebuild", "--from", from, "--to", to], &place[..]].concat());
        let mended = rebuild("2024-05-01", "2024-06-01");
        let says = said(&mended);
        assert!(mended.status.success() && says.contains("all of these cells are replaced"), "{says}");
        assert!(says.contains("campaign_minute campaign_id=c currency=null ad_id=a variant=null"), "{says}");
        let again = rebuild("2024-05-05", "2024-05-06");
        assert!(again.status.success() && said(&again).contains("nothing differed"), "{}", said(&again));
        let proof = server.tally(&[&["verify", "--recount"], &place[..]].concat());
        assert!(proof.status.success(), "{}", said(&proof));
        let day = ["verify", "--recount", "--from", "2024-05-05", "--to", "2024-05-06"];
        let proof = server.tally(&[&day, &place[..]].concat());
        assert!(proof.status.success() && said(&proof).contains("500 received = 500 counted"), "{}", said(&proof));
        if by_server {
            assert_eq!(server.total("clicks"), 500);
            let refused = server.tally(&["rebuild", "--from", "2024-05-01", "--to", "2024-06-01", "--data", &folder]);
            assert!(
                !refused.status.success() && said(&refused).contains("in use by another process"),
                "{}",
                said(&refused)
            );
            assert!(server.stop());
        }
    }
}

#[test]
fn a_rebuild_beside_events_that_come_in_counts_each_once() {
    let settings = [("TALLY__PIPELINE__COMMIT_AFTER_MS", "20"), ("TALLY__LAKE__COMPACT_EVERY_S", "1")];
    let mut server = Server::with(&settings);
    let events: Vec<_> = (0..500).map(|id| click(id, "c")).collect();
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
    server.wait_until_counted();
    assert!(server.stop());
    break_rollups(&server);
    server.restart();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for batch in 0..60u128 {
                let events: Vec<_> = (0..20).map(|n| click(1_000 + batch * 20 + n, "c")).collect();
                assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
            }
        });
        let asked = json!({"from": "2024-05-01", "to": "2024-06-01"}).to_string();
        let (status, report) = server.post("/v1/admin/rebuild", &asked, &[]);
        assert!(status == 200 && report.contains(r#""replaced":true"#), "{status} {report}");
        while !sending.is_finished() {
            let (status, report) = server.post("/v1/admin/rebuild", &asked, &[]);
            assert!(status == 200 && report.contains(r#""differences_total":0"#), "{status} {report}");
        }
    });
    server.wait_until_counted();
    assert_eq!(server.total("clicks"), 1_700);
    server.verify();
}

#[test]
fn days_are_whole_and_rebuilding_is_for_this_machine() {
    let server = Server::start();
    for (from, to, says) in
        [("2024-05-01T01:00:00Z", "2024-06-01", "is no UTC day"), ("2024-06-01", "2024-06-01", "is empty")]
    {
        let asked = json!({"from": from, "to": to}).to_string();
        let (status, answer) = server.post("/v1/admin/rebuild", &asked, &[]);
        assert!(status == 400 && answer.contains(says), "{status} {answer}");
        let output = server.tally(&["rebuild", "--from", from, "--to", to, "--server", &server.url("")]);
        assert!(!output.status.success() && said(&output).contains(says), "{}", said(&output));
    }
    let asked = json!({"from": "2024-05-01", "to": "2024-06-01"}).to_string();
    assert_eq!(server.post("/v1/admin/rebuild", &asked, &[("x-forwarded-for", "192.0.2.1")]).0, 403);
    assert_eq!(server.post("/v1/admin/rebuild", &asked, &[]).0, 200);
}

/// Appends a record that is no event to the journal of a server that is stopped.
fn poison(server: &Server, bytes: &'static [u8]) {
    let journal = DiskJournal::open(DiskOptions::new(server.data().join("journal"), 4)).unwrap();
    let record = Record { partition: 1, bytes: bytes.into() };
    journal.append(vec![record]).unwrap().wait().unwrap();
}

#[test]
fn a_replay_of_the_journal_gives_the_same_rows_and_cells_whatever_happened_before() {
    let settings = [("TALLY__PIPELINE__COMMIT_AFTER_MS", "20"), ("TALLY__LAKE__COMPACT_EVERY_S", "1")];
    let mut server = Server::with(&settings);
    let files = tempfile::tempdir().unwrap();
    for seed in ["1", "2"] {
        let file = files.path().join(seed).to_str().unwrap().to_owned();
        let traffic = ["--seed", seed, "--duplicates", "0.2", "--late", "0.3", "--bots", "0.1", "--output", &file];
        assert!(server.tally(&[&["generate", "--events", "1500"], &traffic[..]].concat()).status.success());
        let sending = ["send", &file, "--to", &server.url(""), "--batch", "50", "--concurrency", "1"];
        let sending = Command::new(BINARY).args(sending).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let before = server.received();
        while server.received() < before + 300 {
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill();
        poison(&server, &[9, 9, 9]);
        server.restart();
        assert!(sending.unwrap().wait().unwrap().success());
    }
    server.wait_until_counted();
    assert!(server.stop());

    let (from, to) = (server.data().to_str().unwrap().to_owned(), files.path().join("again"));
    let to = to.to_str().unwrap();
    let output = server.tally(&["replay", "--from", &from, "--to", to]);
    let says = said(&output);
    assert!(output.status.success() && says.ends_with("identical\n"), "{says}");
    assert!(says.contains(" 2 quarantined"), "{says}");
    let again = server.tally(&["replay", "--from", &from, "--to", to]);
    assert!(!again.status.success() && said(&again).contains("there is a lake in"), "{}", said(&again));

    // What readers get, by words and not by digest.
    let figures = |folder: &str| {
        let by = ["--by", "campaign_id,hour,country", "--limit", "100000", "--format", "csv", "--data", folder];
        said(
            &server
                .tally(&[&["query", "gross_clicks,clicks,duplicate_clicks,impressions,cost_micros"], &by[..]].concat()),
        )
    };
    assert_eq!(figures(&from), figures(to));

    // A lake that lacks what the journal holds is not compared as if it were complete.
    poison(&server, &[]);
    let output = server.tally(&["replay", "--from", &from, "--to", files.path().join("third").to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("let its server catch up"), "{}", said(&output));
}

#[test]
fn what_is_in_quarantine_is_listed_mended_and_counted_once() {
    let mut server = Server::start();
    let conversion = |id: u128| {
        let id = uuid::Uuid::from_u128(id);
        json!({"event_id": id, "kind": "conversion", "click_id": format!("k{id}"), "user_id": "alice",
               "revenue_micros": 5_000, "currency": "EUR", "occurred_at": "2024-05-05T05:05:05Z", "user_agent": "test"})
    };
    assert_eq!(server.post("/v1/events/batch", ndjson(&[conversion(1), conversion(2), click(3, "c")]), &[]).0, 202);
    server.wait_until_counted();
    assert!(server.stop());
    poison(&server, &[9, 9]);
    server.restart();
    server.wait_until_counted();
    let url = server.url("");
    let quarantine = |arguments: &[&str]| server.tally(&[&["quarantine"], arguments, &["--server", &url]].concat());

    let listed = said(&quarantine(&["list"]));
    assert!(listed.contains("3 events in quarantine") && listed.contains("has format version 9"), "{listed}");
    let listed = said(&quarantine(&["list", "--reason", "click_unresolved", "--json"]));
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let folder = server.data();
    let folder = folder.to_str().unwrap();
    let from_folder = said(&server.tally(&["quarantine", "list", "--data", folder]));
    assert!(from_folder.contains("3 events in quarantine"), "{from_folder}");
    let one = uuid::Uuid::from_u128(1).to_string();
    let shown = said(&quarantine(&["show", &one]));
    assert!(shown.contains("click_unresolved") && shown.contains("5000") && !shown.contains("hash"), "{shown}");

    let refused = quarantine(&["resubmit", "--id", &one]);
    assert!(!refused.status.success() && said(&refused).contains("set `campaign_id`"), "{}", said(&refused));
    assert_eq!(server.total("conversions"), 0);
    let mended = quarantine(&["resubmit", "--id", &one, "--set", "campaign_id=c", "--set", "ad_id=a"]);
    assert!(mended.status.success() && said(&mended).contains(": resubmitted"), "{}", said(&mended));
    server.wait_until_counted();
    // A file of listed events, with the fields set: the first of them was sent before.
    let file = server.data().join("mended.ndjson");
    std::fs::write(&file, listed).unwrap();
    let set = ["--set", "campaign_id=c", "--set", "ad_id=a"];
    let all = quarantine(&[&["resubmit", file.to_str().unwrap()], &set[..]].concat());
    assert!(all.status.success() && said(&all).contains("was resubmitted before"), "{}", said(&all));
    server.wait_until_counted();

    let rows = server.ask(json!({"metrics": ["conversions", "revenue_micros", "users", "quarantined_conversions"]}));
    let expected = json!({"conversions": 2, "revenue_micros": 10_000, "users": 1, "quarantined_conversions": 2});
    assert_eq!(rows, [expected], "each once, both by the person that they were by, and what was quarantined stays so");
    server.verify();
    let record = said(&quarantine(&["list", "--reason", "undecodable", "--json"]));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let unread = quarantine(&["resubmit", "--id", record["event_id"].as_str().unwrap(), "--set", "campaign_id=c"]);
    assert!(!unread.status.success() && said(&unread).contains("run the newer binary"), "{}", said(&unread));
    let nobody = quarantine(&["resubmit", "--id", &uuid::Uuid::from_u128(3).to_string()]);
    assert!(!nobody.status.success() && said(&nobody).contains("no such event in quarantine"), "{}", said(&nobody));
}
