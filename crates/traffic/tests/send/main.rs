//! Claims about sending, against a server that misbehaves by script.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is an explanation")]

mod server;

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::Value;
use server::{Act, Server};
use tally_traffic::{Encoding, Plan, Resume, SendError, SendOptions, SendReport, write_to};
use tempfile::TempDir;

fn options(server: &Server) -> SendOptions {
    SendOptions { batch_events: 100, retry_s_max: 20, ..SendOptions::to(server.url.clone()) }
}

async fn send(file: &Path, options: &SendOptions) -> Result<SendReport, SendError> {
    tally_traffic::send(&[file.to_owned()], options, &ProgressBar::hidden()).await
}

fn file(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn traffic(events: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    write_to(Plan { events, ..Plan::default() }, &mut lines).unwrap();
    lines
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    events.into_iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

fn sent_ids(lines: &[u8]) -> Vec<String> {
    let events: Vec<Value> = serde_json::Deserializer::from_slice(lines).into_iter().map(Result::unwrap).collect();
    ids(&events)
}

#[tokio::test]
async fn a_file_arrives_whole_however_it_is_packed() {
    let folder = TempDir::new().unwrap();
    let lines = traffic(1_234);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lines).unwrap();
    let files = [
        file(&folder, "plain.ndjson", &lines),
        file(&folder, "packed.ndjson.gz", gzip.finish().unwrap()),
        file(&folder, "packed.ndjson.zst", zstd::encode_all(&lines[..], 1).unwrap()),
    ];
    for (file, encoding) in files.iter().zip(Encoding::ALL) {
        let server = Server::start(&[]).await;
        let report = send(file, &SendOptions { encoding, ..options(&server) }).await.unwrap();
        assert_eq!((report.sent, report.accepted, report.rejected, report.retries), (1_234, 1_234, 0, 0));
        assert_eq!(sorted(ids(&server.events())), sorted(sent_ids(&lines)), "{}", file.display());
        assert!(server.batches().iter().all(|batch| batch.len() <= 100), "a batch is larger than asked for");
    }
}

#[tokio::test]
async fn all_arrives_though_the_server_is_overloaded_and_hangs_up() {
    let folder = TempDir::new().unwrap();
    let lines = traffic(1_000);
    let script = [Act::Status(503), Act::Status(429), Act::HangUp, Act::TakeAndHangUp, Act::Take, Act::Status(502)];
    let server = Server::start(&script).await;
    let report = send(&file(&folder, "events.ndjson", &lines), &options(&server)).await.unwrap();
    assert_eq!((report.sent, report.accepted), (1_000, 1_000));
    // A hang-up on a kept connection may be mended below us, so the exact number is not ours to say.
    assert!((4..=6).contains(&report.retries), "{} retries for 5 failures", report.retries);
    let arrived: HashSet<String> = ids(&server.events()).into_iter().collect();
    assert_eq!(arrived, sent_ids(&lines).into_iter().collect(), "some events were lost");
    assert!(server.events().len() > 1_000, "the batch whose answer was cut short was not sent again");
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let folder = TempDir::new().unwrap();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = away.local_addr().unwrap();
    drop(away);
    let options = SendOptions { retry_s_max: 20, ..SendOptions::to(format!("http://{address}").parse().unwrap()) };
    let path = file(&folder, "events.ndjson", traffic(10));
    let sending = tokio::spawn(async move { send(&path, &options).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!sending.is_finished(), "it gave up at once");
    let server = Server::start_at(&address.to_string(), &[]).await;
    assert_eq!(sending.await.unwrap().unwrap().accepted, 10);
    assert_eq!(server.events().len(), 10);
}

#[tokio::test]
async fn retries_end() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&[Act::Status(503); 1_000]).await;
    let started = Instant::now();
    let options = SendOptions { retry_s_max: 1, ..options(&server) };
    let error = send(&file(&folder, "events.ndjson", traffic(10)), &options).await.unwrap_err();
    assert!(matches!(error, SendError::Away { .. }), "{error}");
    assert!(error.to_string().contains("status 503: not now: by script"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3), "it went on for {:?}", started.elapsed());
}

#[tokio::test]
async fn a_refusal_ends_it_at_once_with_the_servers_reason() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&[Act::Status(401)]).await;
    let error = send(&file(&folder, "events.ndjson", traffic(10)), &options(&server)).await.unwrap_err();
    assert!(matches!(error, SendError::Refused { status: 401, .. }), "{error}");
    assert!(error.to_string().ends_with("refused a batch with status 401: not now: by script"), "{error}");
}

#[tokio::test]
async fn a_bad_line_is_told_by_its_number_in_the_file_and_costs_no_other() {
    let folder = TempDir::new().unwrap();
    let mut content = Vec::new();
    for (at, line) in traffic(300).split_inclusive(|byte| *byte == b'\n').enumerate() {
        content.extend_from_slice(if at == 249 { b"\r\n{\"no kind\":1}\n" } else { line });
    }
    content.extend_from_slice(&[b'x'; (1 << 20) + 9]);
    content.extend_from_slice(b"\n{\"kind\":\"click\"}");
    let server = Server::start(&[]).await;
    let report = send(&file(&folder, "events.ndjson", content), &options(&server)).await.unwrap();
    assert_eq!((report.sent, report.accepted, report.rejected), (301, 300, 2));
    let told: Vec<(u64, &str)> = report.errors.iter().map(|error| (error.line, &error.what[..])).collect();
    assert_eq!(told, [(251, "it is missing"), (302, "the line is longer than 1048576 bytes")]);
    assert_eq!(report.errors[0].cure.as_deref(), Some("give one"));
}

#[tokio::test]
async fn a_batch_of_bad_lines_alone_costs_no_later_one() {
    let folder = TempDir::new().unwrap();
    let content = format!("{}{}[{{}}]\n{{\"kind\":\"click\"}}\n", "[1]\n".repeat(99), "{}\n".repeat(1_000));
    let server = Server::start(&[]).await;
    let options = SendOptions { concurrency: 1, ..options(&server) };
    let report = send(&file(&folder, "events.ndjson", content), &options).await.unwrap();
    assert_eq!((report.sent, report.accepted, report.rejected), (1_001, 1, 1_100));
    assert_eq!(
        (report.errors.len(), &report.errors[0].what[..]),
        (20, "an array is no event; give one JSON object on each line")
    );
}

#[tokio::test]
async fn events_without_an_id_get_the_same_one_each_time_and_each_line_its_own() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"kind\":\"click\",\"campaign_id\":\"c\"}\n".repeat(50);
    let server = Server::start(&[]).await;
    for name in ["first.ndjson", "again.ndjson"] {
        send(&file(&folder, name, &lines), &options(&server)).await.unwrap();
    }
    let ids = sorted(ids(&server.events()));
    let distinct: HashSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (100, 50));
}

#[tokio::test]
async fn copies_of_an_event_arrive_in_the_files_order() {
    let folder = TempDir::new().unwrap();
    let lines: String = (0..2_000)
        .map(|n| {
            format!("{{\"event_id\":\"{:08x}-0000-4000-8000-000000000000\",\"kind\":\"click\",\"n\":{n}}}\n", n % 7)
        })
        .collect();
    let server = Server::start(&[]).await;
    let report = send(&file(&folder, "events.ndjson", lines), &options(&server)).await.unwrap();
    assert_eq!(report.accepted, 2_000);
    let events = server.events();
    for copy in 0..7u64 {
        let order: Vec<u64> =
            events.iter().map(|event| event["n"].as_u64().unwrap()).filter(|n| n % 7 == copy).collect();
        assert!(order.is_sorted(), "copies of event {copy} overtook each other");
    }
}

#[tokio::test]
async fn a_table_is_sent_by_its_mapping() {
    let folder = TempDir::new().unwrap();
    let content = "time,camp,ad_id,cost_micros\n2026-01-01T00:00:00Z,c1,7,1200\n\"2026-01-01T00:00:01Z\",c2\n\
                   2026-01-01T00:00:02Z,c3,9,\n";
    let server = Server::start(&[]).await;
    let pair = |field: &str, column: &str| (field.to_owned(), column.to_owned());
    let map = vec![pair("occurred_at", "time"), pair("campaign_id", "camp")];
    let options = SendOptions { map, set: vec![pair("kind", "click")], concurrency: 1, ..options(&server) };
    let path = file(&folder, "clicks.csv", content);
    let report = send(&path, &options).await.unwrap();
    assert_eq!((report.accepted, report.rejected, report.errors[0].line), (2, 1, 3), "{report:?}");
    let events = server.events();
    assert_eq!(events[0]["cost_micros"], 1200);
    assert_eq!((&events[1]["campaign_id"], &events[1]["occurred_at"]), (&"c3".into(), &"2026-01-01T00:00:02Z".into()));
    send(&path, &options).await.unwrap();
    assert_eq!(ids(&server.events()[2..]), ids(&events), "a second sending made other ids");
}

#[tokio::test]
async fn what_was_acknowledged_is_not_sent_again() {
    let folder = TempDir::new().unwrap();
    let lines = traffic(1_000);
    let path = file(&folder, "events.ndjson", &lines);
    for resume in [Resume::Beside, Resume::In(folder.path().join("state/deep"))] {
        // The second round meets a refusal: an interruption after some were acknowledged.
        let script = [Act::Take, Act::Take, Act::Take, Act::Take, Act::Status(400)];
        let server = Server::start(&script).await;
        let options = SendOptions { resume, ..options(&server) };
        send(&path, &options).await.unwrap_err();
        let report = send(&path, &options).await.unwrap();
        assert!((200..=400).contains(&report.skipped), "{} of the first round were skipped", report.skipped);
        assert_eq!(report.skipped + report.sent, 1_000);
        let arrived: HashSet<String> = ids(&server.events()).into_iter().collect();
        assert_eq!(arrived, sent_ids(&lines).into_iter().collect(), "some events were lost");
        assert_eq!(send(&path, &options).await.unwrap().sent, 0, "a file that was sent whole was sent again");
    }
}

#[tokio::test]
async fn a_file_that_grew_goes_on_and_one_that_changed_begins_anew() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "events.ndjson", "{\"kind\":\"click\"}\n{\"kind\":\"click\"}");
    let server = Server::start(&[]).await;
    let options = SendOptions { resume: Resume::Beside, ..options(&server) };
    send(&path, &options).await.unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n{\"kind\":\"impression\"}\n").unwrap();
    let grown = send(&path, &options).await.unwrap();
    assert_eq!((grown.skipped, grown.sent), (2, 1));
    fs::write(&path, "{\"kind\":\"conversion\"}\n".repeat(9)).unwrap();
    let changed = send(&path, &options).await.unwrap();
    assert_eq!((changed.skipped, changed.sent), (0, 9));
}

#[tokio::test]
async fn a_note_about_another_server_is_not_believed() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "events.ndjson", traffic(50));
    for _ in 0..2 {
        let server = Server::start(&[]).await;
        let options = SendOptions { resume: Resume::Beside, ..options(&server) };
        assert_eq!(send(&path, &options).await.unwrap().sent, 50);
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let server = Server::start(&[]).await;
    let error = send(Path::new("nowhere.ndjson"), &options(&server)).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read `nowhere.ndjson`: "), "{error}");
}
