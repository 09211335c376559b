//! Bytes as the body of `POST /v1/events` and `POST /v1/events/batch`. The first byte says how they are sent.
//!
//! One event must mean the same alone, as a line and as an element; a batch must account for each of its items; and what
//! was kept must be what the text says by another reader of it, with nothing left of a person but hashes.

use std::borrow::Cow;
use std::io::Write;

use axum::http::{Method, Request, header};
use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tally_model::Event;

use crate::door::{Answer, PROXY, STRANGER, check_fault, send};

const EVENT: &str = "/v1/events";
const BATCH: &str = "/v1/events/batch";
/// What begins so is somebody's id: it must not come back in an answer either.
const PERSON: &str = "person-";
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

pub fn check(input: &[u8]) {
    let Some((&how, body)) = input.split_first() else { return };
    let peer = if how & 1 == 0 { STRANGER } else { PROXY };
    match how >> 1 & 7 {
        0..=2 => check_one(peer, body),
        3 | 4 => check_batch(&post(BATCH, peer, "identity", body.to_vec()), body),
        5 => check_batch(&post(BATCH, peer, "gzip", gzip(body)), body),
        6 => check_batch(&post(BATCH, peer, "zstd", zstd::encode_all(body, 1).expect("memory is no obstacle")), body),
        // What may be no such stream at all; the form of the answer is checked as it comes.
        _ => drop(post(BATCH, peer, if how & 16 == 0 { "gzip" } else { "zstd" }, body.to_vec())),
    }
}

fn post(path: &str, peer: &str, encoding: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder().method(Method::POST).uri(path).header(header::CONTENT_ENCODING, encoding);
    send(request.header(header::USER_AGENT, "fuzz/1.0"), peer, body)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory is no obstacle")
}

fn check_one(peer: &str, body: &[u8]) {
    let answer = post(EVENT, peer, "identity", body.to_vec());
    let kept = match answer.status {
        202 => Some(answer.events.first().expect("an event that was taken is kept")),
        _ => None,
    };
    assert_eq!(answer.events.len(), usize::from(kept.is_some()), "{}", answer.text());
    if let Some(event) = kept {
        assert_eq!(answer.json(), serde_json::json!({"event_id": event.id}));
    }
    if let Ok(Value::Object(told)) = serde_json::from_slice(unmarked(body)) {
        let text = String::from_utf8_lossy(body);
        check_people(&told, &text, &answer);
        if let Some(event) = kept {
            check_meaning(&told, &text, event, peer);
        }
        // A server of ours has no visitor behind it, and batches know that; else a batch of one is that one.
        if peer == STRANGER {
            check_alike(kept, &post(BATCH, peer, "identity", [b"[", unmarked(body), b"]"].concat()));
            if !body.contains(&b'\n') {
                check_alike(kept, &post(BATCH, peer, "identity", body.to_vec()));
            }
        }
    } else if kept.is_some() {
        // What this reader refuses in the end is one object all the same, by its grammar.
        let json = serde_json::from_slice::<&RawValue>(unmarked(body));
        assert!(json.is_ok_and(|json| json.get().starts_with('{')), "taken, and no object");
    }
}

fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

fn check_alike(alone: Option<&Event>, batch: &Answer) {
    assert_eq!(batch.status == 202, alone.is_some(), "alone: {alone:?}; in a batch: {}", batch.text());
    assert_eq!(batch.events.first(), alone, "in a batch it is another event");
}

fn check_batch(answer: &Answer, body: &[u8]) {
    let items = items(unmarked(body));
    let taken = answer.json();
    if answer.status == 413 || (answer.status == 400 && taken["type"] == "urn:tally:problem:body") {
        assert!(items.is_none_or(|items| items == 0), "refused whole: {taken}");
        return;
    }
    let number = |key: &str| taken[key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {taken}")) as usize;
    let (accepted, rejected) = (number("accepted"), number("rejected"));
    assert_eq!(answer.status == 202, accepted > 0, "{taken}");
    assert_eq!(answer.events.len(), accepted, "{taken}");
    assert_eq!(Some(accepted + rejected), items, "items went missing: {taken}");
    let errors = taken["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(errors.len() + number("errors_omitted"), rejected, "{taken}");
    assert_eq!(errors.len(), rejected.min(100), "{taken}");
    errors.iter().for_each(check_fault);
    let lines: Vec<_> = errors.iter().map(|error| error["line"].as_u64()).collect();
    assert!(lines.first().is_none_or(|first| *first >= Some(1)) && lines.is_sorted(), "{taken}");
}

/// How many events the text has, by a reader that does not know what an event is.
fn items(body: &[u8]) -> Option<usize> {
    if body.trim_ascii_start().starts_with(b"[") {
        return serde_json::from_slice::<Vec<&RawValue>>(body).ok().map(|elements| elements.len());
    }
    Some(body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count())
}

/// Ids and addresses that the text names once, as somebody's, are in no record; and in no answer if they cannot have got
/// there by chance.
fn check_people(told: &Map<String, Value>, text: &str, answer: &Answer) {
    const CHANCE_BYTES: usize = 8;
    for key in ["user_id", "ip"] {
        let Some(person) = told.get(key).and_then(Value::as_str) else { continue };
        // What is escaped may say the same elsewhere.
        if person.len() < CHANCE_BYTES || text.contains('\\') || text.matches(person).count() != 1 {
            continue;
        }
        let in_records = answer.records.iter().any(|bytes| bytes.windows(person.len()).any(|w| w == person.as_bytes()));
        assert!(!in_records, "the record holds the raw `{key}`");
        assert!(!person.starts_with(PERSON) || !answer.tells(person.as_bytes()), "told: {}", answer.text());
    }
    for address in [&b"203.0.113.9"[..], &[203, 0, 113, 9]] {
        let sent = text.as_bytes().windows(address.len()).any(|found| found == address);
        assert!(sent || !answer.tells(address), "the peer's address was kept or told");
    }
}

/// Where the text names a field once and plainly, the event has just that.
fn check_meaning(told: &Map<String, Value>, text: &str, event: &Event, peer: &str) {
    if text.contains('\\') {
        return;
    }
    let once = |key: &str| told.get(key).filter(|_| text.matches(&format!("\"{key}\"")).count() == 1);
    let absent = |key: &str| !text.contains(&format!("\"{key}\""));
    for (key, micros) in [("cost_micros", event.cost_micros), ("revenue_micros", event.revenue_micros)] {
        match once(key) {
            Some(Value::Null) => assert_eq!(micros, 0, "`{key}`"),
            Some(amount) => assert_eq!(amount.as_i64(), Some(micros), "`{key}`"),
            None => assert!(micros == 0 || !absent(key), "`{key}` is {micros} and was not given"),
        }
    }
    for (key, kept) in [("campaign_id", &event.campaign_id), ("ad_id", &event.ad_id)] {
        if let Some(name) = once(key) {
            assert_eq!(name.as_str().unwrap_or_default(), kept, "`{key}`");
        }
    }
    if let Some(id) = once("event_id").and_then(Value::as_str) {
        assert_eq!(id.parse().ok(), Some(event.id));
    }
    if let Some(kind) = once("kind") {
        assert_eq!(kind, event.kind.as_str());
    }
    match once("occurred_at") {
        Some(Value::String(at)) => {
            if let Ok(at) = at.parse::<Timestamp>() {
                assert_eq!(at.as_microsecond(), event.occurred_at_us, "`occurred_at`");
            }
        }
        _ => assert!(event.occurred_at_us == event.received_at_us || !absent("occurred_at")),
    }
    if let Some(user) = once("user_id") {
        assert_eq!(event.user_hash.is_some(), user.as_str().is_some_and(|id| !id.is_empty()));
    }
    // Who may say whose address it was.
    assert!(event.ip_hash.is_some(), "the connection has an address");
    if let Some(agent) = once("user_agent").and_then(Value::as_str)
        && agent.len() <= 1_024
        && !agent.is_empty()
    {
        assert_eq!(event.user_agent.as_deref(), Some(if peer == PROXY { agent } else { "fuzz/1.0" }));
    }
    check_props(told, text, event);
}

/// What Tally does not know is kept as it came.
fn check_props(told: &Map<String, Value>, text: &str, event: &Event) {
    let mut expected: Map<String, Value> =
        told.iter().filter(|(key, _)| !is_known(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let given = match told.get("props") {
        // Of several the last is known here, and all are kept.
        Some(_) if text.matches("\"props\"").count() > 1 => return,
        Some(Value::Object(given)) => Cow::Borrowed(given),
        Some(Value::Null) | None => Cow::Owned(Map::new()),
        // An object in text: read by the same rules as one that stands open.
        Some(_) => return,
    };
    if given.keys().any(|key| expected.contains_key(key)) {
        return;
    }
    expected.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
    let kept = event.props.as_deref().map_or(Ok(Map::new()), serde_json::from_str);
    assert_eq!(kept.ok(), Some(expected), "props");
}

fn is_known(key: &str) -> bool {
    crate::query_string::FIELDS.contains(&key)
}
