//! A data folder that an older binary left behind after a crash: it opens, what was acknowledged counts, and it goes on.
//!
//! Written by the binary before records had a subdivision, a purpose and signals of privacy (version 1): nine committed clicks on
//! `spring`, and four on `autumn` that are in the journal only.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::server::{Launch, Server, said};

const SEGMENT_BYTES: u64 = 8 << 20;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copied(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The segment's end is zeros, and is not kept.
fn old_folder(data: &Path) {
    copied(&here("../lake/tests/version_1"), &data.join("lake"));
    fs::create_dir_all(data.join("journal")).unwrap();
    let segment = data.join("journal/00000000000000000001.segment");
    fs::copy(here("tests/it/version_1/segment"), &segment).unwrap();
    fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(SEGMENT_BYTES).unwrap();
}

#[test]
fn an_older_data_folder_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    old_folder(&data);
    let settings = vec![("TALLY__JOURNAL__SEGMENT_BYTES", SEGMENT_BYTES.to_string())];
    let mut server = Server::prepare(Launch { data: Some(data.clone()), settings, ..Launch::default() });
    server.restart();
    let id = "00000000-0000-4000-8000-000000000999";
    let click = json!({"event_id": id, "kind": "click", "campaign_id": "autumn", "ad_id": "a9", "gdpr": 0,
        "subdivision": "US-TX", "user_agent": "Mozilla/5.0 Firefox/127.0"});
    assert_eq!(server.post("/v1/events", click.to_string(), &[]).0, 202);
    // A copy of a click that the older binary took.
    let copy = json!({"event_id": "00000000-0000-4000-8000-000000000111", "kind": "click", "campaign_id": "autumn", "ad_id": "a1"});
    assert_eq!(server.post("/v1/events", copy.to_string(), &[]).0, 202);
    server.wait_until_counted();
    let rows = server.ask(json!({"metrics": ["clicks", "gross_clicks"], "group_by": ["campaign_id"]}));
    // What came from the older binary is remembered for a day: whether its copy still is one depends on when this runs.
    assert_eq!((&rows[0]["gross_clicks"], &rows[1]["clicks"]), (&json!(6), &json!(9)), "{rows:?}");
    let (_, life) = server.get(&format!("/v1/events/{id}"));
    assert!(life.contains(r#""subdivision":"US-TX""#) && life.contains(r#""gdpr":false"#), "{life}");
    server.verify();
    assert!(server.stop());

    let replayed = folder.path().join("replayed");
    let output = server.tally(&["replay", "--from", data.to_str().unwrap(), "--to", replayed.to_str().unwrap()]);
    assert!(output.status.success() && said(&output).contains("identical"), "{}", said(&output));
}
