//! Late, wrong and unreadable: figures that have to be made right, on the real binary.

use serde_json::json;

use super::server::{Server, click, ndjson, said};

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
