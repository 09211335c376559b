//! The query of the Yahoo Streaming Benchmark (Chintapalli et al. 2016, "Benchmarking Streaming Computation Engines"): views joined
//! to their campaigns by ad, counted by campaign in windows of 10 s. From the JSON of a batch through everything that an event
//! passes here: parsed, hashed, synced to the journal, told from its copies, judged, rolled up; only the lake is left out, in whose
//! place stands the query. Its counts have to equal those of the generator.
//!
//! `cargo bench -p tally-pipeline --bench yahoo`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops at any error")]

mod cost;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use cost::{cpu_seconds, median};
use prometheus_client::registry::Registry;
use tally_capture::{Capture, CaptureMetrics, CaptureParts, CaptureSettings, Front, HashKey, LimitSettings, Limits};
use tally_journal::{DiskJournal, DiskOptions, Journal};
use tally_model::{Cells, Fact, Judged, Kind, Partition, Positions, SystemClock, SystemEntropy};
use tally_pipeline::{
    Batch, DedupOptions, Pipeline, PipelineMetrics, PipelineSettings, Progress, Rows, Sighting, Sink, SinkError,
    Urgency, Wanted,
};
use tokio::sync::watch;
use tower::ServiceExt;

const CAMPAIGNS: u64 = 100;
const ADS_OF_A_CAMPAIGN: u64 = 10;
const WINDOW_US: i64 = 10_000_000;
const EVENTS: u64 = 20_000;
const BATCHES: u64 = 25;
const ROUNDS: u64 = 5;
/// 2026-03-01T13:00:00Z; an event each 100 µs from there.
const FROM_US: i64 = 1_772_370_000_000_000;

type Windows = HashMap<(u64, i64), u64>;

fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn uuid(n: u64) -> String {
    let (high, low) = (mix(n), mix(n ^ 1 << 63));
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    format!("{a:08x}-{b:04x}-4{c:03x}-a{:03x}-{:012x}", low >> 52, low & 0xffff_ffff_ffff)
}

/// What the benchmark keeps in Redis: the campaign of each ad.
static CAMPAIGN_OF: LazyLock<HashMap<String, u64>> =
    LazyLock::new(|| (0..CAMPAIGNS * ADS_OF_A_CAMPAIGN).map(|ad| (uuid(ad), ad / ADS_OF_A_CAMPAIGN)).collect());

/// A batch as the benchmark's generator makes it, in the words of Tally; and what it adds to the query's answer.
fn batch(from: u64, ads: &[String], expected: &mut Windows) -> Vec<u8> {
    let mut text = String::new();
    for n in from..from + EVENTS {
        let dice = mix(n);
        let ad = dice % (CAMPAIGNS * ADS_OF_A_CAMPAIGN);
        let kind = ["impression", "click", "conversion"][(dice >> 20) as usize % 3];
        let ad_type = ["banner", "modal", "sponsored-search", "mail", "mobile"][(dice >> 24) as usize % 5];
        let at_us = FROM_US + n as i64 * 100;
        let s = at_us / 1_000_000 % 3_600;
        writeln!(
            text,
            concat!(
                r#"{{"user_id":"{}","placement_id":"{}","campaign_id":"any","ad_id":"{}","ad_type":"{}","kind":"{}","#,
                r#""occurred_at":"2026-03-01T13:{:02}:{:02}.{:03}Z","ip":"198.18.{}.{}","event_id":"{}"}}"#
            ),
            uuid(dice % 10_000 + 1_000_000),
            uuid(dice >> 8 & 0x3ff),
            ads[ad as usize],
            ad_type,
            kind,
            s / 60,
            s % 60,
            at_us / 1_000 % 1_000,
            dice >> 32 & 0xff,
            dice >> 40 & 0xff,
            uuid(n + (1 << 40)),
        )
        .unwrap();
        if kind == "impression" {
            *expected.entry((ad / ADS_OF_A_CAMPAIGN, at_us / 1_000 * 1_000 / WINDOW_US)).or_default() += 1;
        }
    }
    text.into_bytes()
}

#[derive(Default)]
struct Views(Windows);

impl Rows for Views {
    fn add(&mut self, judged: &Judged<&str>) {
        if judged.event.kind == Kind::Impression {
            let campaign = CAMPAIGN_OF[judged.event.ad_id];
            *self.0.entry((campaign, judged.event.occurred_at_us / WINDOW_US)).or_default() += 1;
        }
    }
}

/// Adds up the windows of the batches.
struct Query {
    counted: Arc<Mutex<Windows>>,
    committed: Positions,
}

impl Sink for Query {
    type Rows = Views;

    fn committed(&self) -> Positions {
        self.committed.clone()
    }

    async fn sightings(
        &mut self,
        _: Wanted,
        _: &mut (dyn FnMut(Sighting) + Send),
    ) -> Result<Vec<(Partition, i64)>, SinkError> {
        Ok(Vec::new())
    }

    async fn commit_events(&mut self, batch: &mut Batch<Views>) -> Result<i64, SinkError> {
        let mut counted = self.counted.lock().unwrap();
        batch.rows.0.iter().for_each(|(window, views)| *counted.entry(*window).or_default() += views);
        self.committed = batch.upto.clone();
        Ok(batch.upto.total() as i64)
    }

    async fn commit_cells(&mut self, _: i64, _: &Cells) -> Result<(), SinkError> {
        Ok(())
    }

    async fn versions_to_count(&mut self) -> Result<Vec<i64>, SinkError> {
        Ok(Vec::new())
    }

    async fn facts(&mut self, _: i64, _: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<(), SinkError> {
        Ok(())
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let options = DiskOptions { retain_bytes: 0, ..DiskOptions::new(folder.path().join("journal"), 8) };
    let journal: Arc<DiskJournal> = DiskJournal::open(options).unwrap();
    let (clock, mut registry) = (Arc::new(SystemClock), Registry::default());
    let capture = CaptureParts {
        journal: journal.clone(),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        key: HashKey::from_bytes([7; 32]),
        signing_keys: None,
        settings: CaptureSettings::default(),
        limits: Arc::new(Limits::new(&LimitSettings::default(), clock.clone(), &mut registry)),
        metrics: CaptureMetrics::register(&mut registry),
    };
    let capture = Arc::new(Capture::new(capture).unwrap());
    let counted = Arc::new(Mutex::new(Windows::new()));
    let pipeline = Pipeline {
        journal: journal.clone(),
        sink: Query { counted: counted.clone(), committed: journal.end() },
        clock,
        settings: PipelineSettings {
            commit_after: Duration::ZERO,
            commit_events_max: 200_000,
            dedup_ttl_s: 86_400,
            double_click_ms: 1_000,
        },
        dedup: DedupOptions { folder: None, memory_bytes_max: u64::MAX, seed: 7 },
        metrics: PipelineMetrics::register(&mut registry),
        progress: watch::Sender::new(Progress::default()),
        urgency: Arc::new(Urgency::default()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut judging, mut committing) = runtime.block_on(pipeline.start()).unwrap();
    let ads: Vec<String> = (0..CAMPAIGNS * ADS_OF_A_CAMPAIGN).map(uuid).collect();
    let (mut expected, mut costs) = (Windows::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = round * BATCHES * EVENTS;
        let bodies: Vec<_> = (0..BATCHES).map(|number| batch(first + number * EVENTS, &ads, &mut expected)).collect();
        if round == 0 {
            println!("{} bytes a line", bodies[0].len() as u64 / EVENTS);
        }
        let started = cpu_seconds();
        runtime.block_on(async {
            for body in bodies {
                let request = Request::post("/v1/events/batch").body(Body::from(body)).unwrap();
                let answer = Front::new(Arc::clone(&capture)).oneshot(request).await.unwrap();
                assert_eq!(answer.status(), StatusCode::ACCEPTED);
            }
            let end = journal.end().total();
            loop {
                let Some(mut due) = judging.step(Duration::ZERO).unwrap() else { continue };
                committing.commit(&mut due).await.unwrap();
                if due.batch.upto.total() == end {
                    break;
                }
            }
        });
        costs.push((cpu_seconds() - started) * 1e6 / (EVENTS * BATCHES) as f64);
    }
    assert!(*counted.lock().unwrap() == expected, "the counts are not those of the generator");
    let cost = median(costs);
    println!("{} windows of campaigns, all equal to the generator's", expected.len());
    println!("{cost:.2} us/event, {:.0} events/s/core (median of {ROUNDS} rounds)", 1e6 / cost);
}
