//! Claims about the whole door: requests go into the router, answers and journal records come out.

mod batch;
mod click;
mod event;
pub(crate) mod garbage;
mod geography;
mod journal;
mod limits;
mod person;
mod postback;
mod privacy;
mod socket;
mod tag;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tally_journal::{Journal, JournalError, MemoryJournal, Reader, Receipt, Record};
use tally_model::{Event, ManualClock, Positions, SeededEntropy, decode_record};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::{
    CampaignHosts, Capture, CaptureMetrics, CaptureParts, CaptureSettings, Front, HashKey, LimitSettings, Limits,
};

/// 2023-11-14T22:13:20Z
pub(super) const NOW_US: i64 = 1_700_000_000_000_000;
/// A peer that nobody vouches for.
pub(super) const STRANGER: &str = "203.0.113.9:4711";
pub(super) const LOOPBACK: &str = "127.0.0.1:4711";
pub(super) const CLICK: &str = r#"{"kind":"click","campaign_id":"c","ad_id":"a"}"#;

/// What the journal under the door does.
#[derive(Debug, Clone, Default)]
pub(super) enum Mood {
    #[default]
    Well,
    /// Refuses each append with this.
    Refuses(JournalError),
    /// Takes an append and then says this.
    Breaks(JournalError),
    /// Takes an append and never says anything.
    Silent,
    /// Is full at every other append.
    Stutters(bool),
    /// Takes everything, and says that it is so full.
    Fills(f64),
}

#[derive(Debug)]
pub(super) struct MoodyJournal {
    memory: MemoryJournal,
    mood: Mutex<Mood>,
    silent: Mutex<Vec<oneshot::Sender<Result<(), JournalError>>>>,
}

impl Journal for MoodyJournal {
    fn partitions(&self) -> u16 {
        self.memory.partitions()
    }

    fn append(&self, records: Vec<Record>) -> Result<Receipt, JournalError> {
        match &mut *self.mood.lock().unwrap() {
            Mood::Well | Mood::Fills(_) => {}
            Mood::Refuses(error) => return Err(error.clone()),
            Mood::Breaks(error) => {
                let (sender, receipt) = Receipt::pending();
                sender.send(Err(error.clone())).unwrap();
                return Ok(receipt);
            }
            Mood::Silent => {
                let (sender, receipt) = Receipt::pending();
                self.silent.lock().unwrap().push(sender);
                return Ok(receipt);
            }
            Mood::Stutters(full) => {
                *full = !*full;
                if !*full {
                    return Err(JournalError::Full { queued_bytes: 1 });
                }
            }
        }
        self.memory.append(records)
    }

    fn reader(&self, from: &Positions) -> Result<Box<dyn Reader>, JournalError> {
        self.memory.reader(from)
    }

    fn start(&self) -> Positions {
        self.memory.start()
    }

    fn end(&self) -> Positions {
        self.memory.end()
    }

    fn release(&self, below: &Positions) -> Result<(), JournalError> {
        self.memory.release(below)
    }

    fn fullness(&self) -> f64 {
        match *self.mood.lock().unwrap() {
            Mood::Fills(fullness) => fullness,
            _ => 0.0,
        }
    }

    fn health(&self) -> Result<(), JournalError> {
        self.memory.health()
    }

    fn close(&self) {
        self.memory.close();
    }
}

pub(super) struct Door {
    pub front: Front,
    pub capture: Arc<Capture>,
    pub journal: Arc<MoodyJournal>,
    pub registry: Registry,
    /// Holds the signing keys, once a test makes some.
    pub keys: TempDir,
    pub clock: Arc<ManualClock>,
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Door {
    pub fn new() -> Self {
        Self::with_mood(Mood::Well)
    }

    pub fn with_mood(mood: Mood) -> Self {
        Self::build(mood, LimitSettings::default(), None)
    }

    pub fn with_geo_file(path: &Path) -> Self {
        Self::build(Mood::Well, LimitSettings::default(), Some(path))
    }

    pub fn with_limits(limits: LimitSettings) -> Self {
        Self::build(Mood::Well, limits, None)
    }

    fn build(mood: Mood, limits: LimitSettings, geo_file: Option<&Path>) -> Self {
        let clock = Arc::new(ManualClock::at_us(NOW_US));
        let journal =
            Arc::new(MoodyJournal { memory: MemoryJournal::new(4), mood: Mutex::new(mood), silent: Mutex::default() });
        let mut registry = Registry::default();
        let keys = tempfile::tempdir().unwrap();
        let settings = CaptureSettings {
            redirect_hosts: vec!["shop.example".into(), "*.brand.example".into()],
            campaign_redirect_hosts: vec![CampaignHosts {
                campaign_id: "strict".into(),
                hosts: vec!["strict.example".into()],
            }],
            trusted_proxies: vec!["10.0.0.0/8".into()],
            cdn: "cloudflare".into(),
            geo_file: geo_file.map(|path| path.to_str().unwrap().to_owned()).unwrap_or_default(),
            ..CaptureSettings::default()
        };
        let parts = CaptureParts {
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
            key: HashKey::from_bytes([7; 32]),
            signing_keys: Some(keys.path().join("signing.keys")),
            settings,
            limits: Arc::new(Limits::new(&limits, clock.clone(), &mut registry)),
            metrics: CaptureMetrics::register(&mut registry),
        };
        let capture = Arc::new(Capture::new(parts).unwrap());
        Self { front: Front::new(Arc::clone(&capture)), capture, journal, registry, keys, clock }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.front.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, headers, body }
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, LOOPBACK, &[], body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, STRANGER, &[], "")).await
    }

    /// Everything in the journal, in the order of arrival.
    pub fn events(&self) -> Vec<Event> {
        let mut reader = self.journal.reader(&Positions::start(4)).unwrap();
        let stored = reader.read(usize::MAX, Duration::ZERO).unwrap();
        let decoded = stored.iter().map(|stored| {
            let event = decode_record(&stored.bytes).unwrap();
            assert_eq!(stored.partition, tally_model::partition_of(event.id, 4), "in the wrong partition");
            event
        });
        decoded.collect()
    }

    pub fn event(&self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "not one event but these: {events:?}");
        events.remove(0)
    }

    /// The value of a metric's line, such as `tally_capture_redirects_unrecorded_total`.
    pub fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.headers["access-control-allow-origin"], "*", "pages may not read the answer");
        if status >= 400 {
            assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
            let problem = self.json();
            assert_eq!(problem["status"], status);
            assert!(problem["type"].is_string() && problem["title"].is_string() && problem["detail"].is_string());
        }
        self
    }
}

pub(super) fn request(
    method: Method,
    path: &str,
    peer: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut request = builder.body(body.into()).unwrap();
    request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    request
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}
