//! What must not hurt: each gets a clear answer, the server goes on, and the good events beside it count.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::server::{Server, click, ndjson};

#[test]
fn bad_input_is_told_apart_and_good_events_beside_it_count() {
    let server = Server::start();
    let good = click(1, "good").to_string();
    let future =
        json!({"kind": "click", "campaign_id": "c", "ad_id": "a", "occurred_at": "2040-01-01T00:00:00Z"}).to_string();
    let no_uuid = json!({"event_id": "17", "kind": "click", "campaign_id": "c", "ad_id": "a"}).to_string();
    let wrong_type = json!({"kind": "click", "campaign_id": "c", "ad_id": "a", "cost_micros": "much"}).to_string();
    let long = format!(r#"{{"kind":"click","campaign_id":"c","ad_id":"a","referrer":"{}"}}"#, "x".repeat(10 << 20));
    let extra = json!({"event_id": uuid::Uuid::from_u128(2), "kind": "click", "campaign_id": "good", "ad_id": "a", "colour": "red"}).to_string();

    for (body, field) in [(&future, "occurred_at"), (&no_uuid, "event_id"), (&wrong_type, "cost_micros")] {
        let (status, answer) = server.post("/v1/events", body.clone(), &[]);
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, problem["field"].as_str()), (400, Some(field)), "{answer}");
        assert!(problem["cure"].as_str().is_some_and(|cure| cure.len() > 10), "{answer}");
    }
    let batch =
        [good.as_str(), "{nonsense", &wrong_type, &no_uuid, &future, &long, "{\"kind\":\"click\"}", &extra].join("\n");
    let mut batch = batch.into_bytes();
    batch.extend_from_slice(b"\n{\"kind\":\"click\",\"campaign_id\":\"\xff\xfe\",\"ad_id\":\"a\"}\n");
    let (status, answer) = server.post("/v1/events/batch", batch, &[]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (202, &json!(2), &json!(7)), "{answer}");
    let lines: Vec<i64> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["line"].as_i64().unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7, 9]);

    assert_eq!(server.post("/v1/events/batch", "", &[]).0, 400, "an empty batch");
    assert_eq!(server.post("/v1/events/batch", "rubbish", &[("content-encoding", "gzip")]).0, 400, "not gzip");
    assert_eq!(server.post("/v1/events/batch", good.clone(), &[("content-encoding", "br")]).0, 415);
    assert_eq!(server.post("/v1/query", "{}", &[]).0, 400);
    assert_eq!(server.get("/v1/click?campaign_id=c&ad_id=a&to=https://elsewhere.example/").0, 400);

    server.wait_until_counted();
    assert_eq!((server.total("clicks"), server.received()), (2, 2));
    let (_, life) = server.get(&format!("/v1/events/{}", uuid::Uuid::from_u128(2)));
    assert!(life.contains(r#"{\"colour\":\"red\"}"#), "an unknown field is kept: {life}");
}

#[test]
fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.url("").trim_start_matches("http://")).unwrap();
    write!(stream, "POST /v1/events/batch HTTP/1.1\r\nhost: t\r\ncontent-length: 1073741824\r\n\r\n").unwrap();
    let mut answer = [0; 4_096];
    let n = stream.read(&mut answer).unwrap();
    assert!(
        String::from_utf8_lossy(&answer[..n]).starts_with("HTTP/1.1 413"),
        "{}",
        String::from_utf8_lossy(&answer[..n])
    );
    assert_eq!(server.post("/v1/events/batch", ndjson(&[click(1, "c")]), &[]).0, 202);
}

#[test]
fn raw_user_ids_and_addresses_are_nowhere_in_the_data_folder() {
    let mut server = Server::start();
    let (user, address) = ("someone-secret-4711", "198.18.77.66");
    let mut event = click(1, "c");
    event["user_id"] = json!(user);
    event["ip"] = json!(address);
    assert_eq!(server.post("/v1/events", event.to_string(), &[]).0, 202);
    event["event_id"] = json!("no uuid");
    let (_, refused) = server.post("/v1/events", event.to_string(), &[]);
    assert!(!refused.contains(user) && !refused.contains(address), "{refused}");
    server.wait_until_counted();
    assert!(server.stop());
    let mut files = 0;
    let mut folders = vec![server.data()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            let bytes = std::fs::read(entry.path()).unwrap();
            for secret in [user, address] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} stands in {}", entry.path().display());
            }
        }
    }
    assert!(files > 5, "only {files} files were looked at");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(server.data().join("hash.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
