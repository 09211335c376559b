//! The real ingest endpoints over a journal in memory. Whatever is sent, the answer must be of its documented form, and the
//! journal must have gained what the answer says: each record whole, within its limits, in its partition.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Method, Request, header};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tally_capture::{Capture, CaptureMetrics, CaptureParts, CaptureSettings, Front, HashKey, LimitSettings, Limits};
use tally_journal::{Journal, MemoryJournal};
use tally_model::{Event, ManualClock, SeededEntropy, decode_record, encode_record, partition_of};
use tower::ServiceExt;

use crate::event_limits::{self, NOW_US};
use crate::runtime;

const PARTITIONS: u16 = 4;
/// Nobody vouches for this one; its address is that of no example.
pub const STRANGER: &str = "203.0.113.9:4711";
/// One of our own proxies, as the settings below say.
pub const PROXY: &str = "10.0.0.1:4711";

/// An answer, and what the journal has gained by the request.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub events: Vec<Event>,
    pub records: Vec<Bytes>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether a text stands in the answer or in a record, as it is.
    pub fn tells(&self, text: &[u8]) -> bool {
        let holds = |bytes: &Bytes| bytes.windows(text.len()).any(|found| found == text);
        let headers = self.headers.values().map(|value| Bytes::copy_from_slice(value.as_bytes()));
        holds(&self.body) || self.records.iter().any(holds) || headers.into_iter().any(|value| holds(&value))
    }
}

/// Sends a request from this peer to a door of its own, so that nothing depends on what was sent before.
pub fn send(request: Builder, peer: &str, body: Vec<u8>) -> Answer {
    let journal = Arc::new(MemoryJournal::new(PARTITIONS));
    let mut registry = Registry::default();
    let clock = Arc::new(ManualClock::at_us(NOW_US));
    let limits = Limits::new(&LimitSettings::default(), clock.clone(), &mut registry);
    let parts = CaptureParts {
        journal: Arc::clone(&journal) as Arc<dyn Journal>,
        clock,
        entropy: Arc::new(SeededEntropy::new(1)),
        key: HashKey::from_bytes([7; 32]),
        signing_keys: None,
        settings: CaptureSettings {
            redirect_hosts: vec!["shop.example".into(), "*.brand.example".into()],
            trusted_proxies: vec!["10.0.0.0/8".into()],
            country_header: "cf-ipcountry".into(),
            ..CaptureSettings::default()
        },
        limits: Arc::new(limits),
        metrics: CaptureMetrics::register(&mut registry),
    };
    let capture = Capture::new(parts).expect("the settings above are right");
    let mut request = request.body(Body::from(body)).expect("the caller made a request that HTTP can carry");
    let peer: SocketAddr = peer.parse().expect("an address of ours");
    request.extensions_mut().insert(ConnectInfo(peer));
    let has_body = request.method() != Method::HEAD;
    let answer = runtime::block_on(answer(Front::new(Arc::new(capture)), request, &journal));
    check_form(&answer, has_body);
    answer
}

async fn answer(front: Front, request: Request<Body>, journal: &MemoryJournal) -> Answer {
    let Ok(response) = front.oneshot(request).await;
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory is whole");
    let mut reader = journal.reader(&journal.start()).expect("the start can be read from");
    let stored = reader.read(usize::MAX, Duration::ZERO).expect("a journal in memory can be read");
    let events = stored.iter().map(|stored| {
        let event = decode_record(&stored.bytes).unwrap_or_else(|error| panic!("a record that is none: {error}"));
        assert_eq!(encode_record(&event), stored.bytes, "a record that is written otherwise than it reads");
        assert_eq!(stored.partition, partition_of(event.id, PARTITIONS), "{}", event.id);
        event_limits::check(&event);
        event
    });
    let events = events.collect();
    let records = stored.into_iter().map(|stored| stored.bytes).collect();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, events, records }
}

fn check_form(answer: &Answer, has_body: bool) {
    assert_eq!(answer.headers.get("access-control-allow-origin").map(|any| any.as_bytes()), Some(&b"*"[..]));
    if answer.status < 400 {
        return;
    }
    assert!([400, 413, 415].contains(&answer.status), "{}: {}", answer.status, answer.text());
    assert_eq!(answer.events, [], "{} and kept all the same: {}", answer.status, answer.text());
    let content_type = answer.headers.get(header::CONTENT_TYPE);
    assert_eq!(content_type.map(|any| any.as_bytes()), Some(&b"application/problem+json"[..]));
    if !has_body {
        return;
    }
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:tally:problem:"));
    let expected: &[&str] = match answer.status {
        400 => &["event", "body", "batch"],
        413 => &["too-large"],
        _ => &["media"],
    };
    assert!(kind.is_some_and(|kind| expected.contains(&kind)), "{problem}");
    assert_text(&problem, "title");
    // What is wrong, and how to mend it.
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("; ")), "{problem}");
    if kind == Some("event") {
        check_fault(&problem);
    }
}

/// A complaint about one event: what is wrong, and the cure. What it quotes of a value is short.
pub fn check_fault(fault: &Value) {
    const FAULT_BYTES_MAX: usize = 1_024;
    assert_text(fault, "what");
    assert_text(fault, "cure");
    assert!(fault["field"].is_null() || fault["field"].is_string(), "{fault}");
    let what = fault["what"].as_str().unwrap_or_default();
    assert!(what.len() <= FAULT_BYTES_MAX, "a complaint of {} bytes: {what}", what.len());
}

fn assert_text(of: &Value, key: &str) {
    assert!(of[key].as_str().is_some_and(|text| !text.is_empty()), "`{key}` is not in {of}");
}
