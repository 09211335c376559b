//! What a batch costs from its received bytes to the synced journal: decompressed, parsed, checked, hashed, encoded, appended.
//!
//! `cargo bench -p tally-capture --bench batch`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops at any error")]

#[path = "../../pipeline/benches/cost/mod.rs"]
mod cost;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use cost::{cpu_seconds, median};
use prometheus_client::registry::Registry;
use tally_capture::{Capture, CaptureMetrics, CaptureParts, CaptureSettings, Front, HashKey, LimitSettings, Limits};
use tally_journal::{DiskJournal, DiskOptions, Journal};
use tally_model::{Positions, SystemClock, SystemEntropy};
use tower::ServiceExt;

/// As many as `tally send` puts into a batch.
const EVENTS: u64 = 20_000;
const BATCHES: u64 = 20;
const ROUNDS: usize = 5;
const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
];
const SEGMENTS: [&str; 3] = [r#"["travel","sports"]"#, r#"["gaming"]"#, r#"["beauty","parents","luxury","music"]"#];

fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Lines as an ad server writes them, 560 bytes each.
fn lines(from: u64) -> Vec<u8> {
    let mut text = String::new();
    for n in from..from + EVENTS {
        let dice = mix(n);
        let (id_high, id_low) = (mix(dice), mix(dice ^ 1));
        let campaign = dice % 100;
        let publisher = (dice >> 8) % 50;
        writeln!(
            text,
            concat!(
                r#"{{"event_id":"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}","kind":"{}","occurred_at":"2026-03-01T13:{:02}:58.429-05:00","#,
                r#""campaign_id":"campaign-{:03}","ad_id":"ad-{:03}-{}","placement_id":"search-top","publisher_id":"publisher-{:04}","#,
                r#""variant":"a","user_id":"{:016x}","ip":"198.18.{}.{}","user_agent":"{}","#,
                r#""referrer":"https://publisher-{:04}.example/section/{}","country":"US","age_group":"25-34","gender":"female","#,
                r#""segments":{},"cost_micros":{},"currency":"EUR"}}"#
            ),
            id_high >> 32, id_high >> 16 & 0xffff, id_high & 0xfff, id_low & 0xfff, id_low >> 16,
            if n % 10 == 0 { "click" } else { "impression" },
            n % 60, campaign, campaign, dice % 7, publisher, dice % 50_000,
            dice >> 16 & 0xff, dice >> 24 & 0xff, AGENTS[(dice >> 32) as usize % AGENTS.len()],
            publisher, dice >> 40 & 0xf, SEGMENTS[(dice >> 48) as usize % SEGMENTS.len()], dice % 10_000,
        )
        .unwrap();
    }
    text.into_bytes()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(text, 1).unwrap()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

async fn post(capture: &Arc<Capture>, encoding: &'static str, body: Vec<u8>) {
    let request = Request::post("/v1/events/batch").header(header::CONTENT_ENCODING, encoding);
    let answer = Front::new(Arc::clone(capture)).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let journal: Arc<DiskJournal> =
        DiskJournal::open(DiskOptions { retain_bytes: 0, ..DiskOptions::new(folder.path().join("journal"), 8) })
            .unwrap();
    let clock = Arc::new(SystemClock);
    let mut registry = Registry::default();
    let capture = Arc::new(
        Capture::new(CaptureParts {
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            key: HashKey::from_bytes([7; 32]),
            signing_keys: None,
            settings: CaptureSettings::default(),
            limits: Arc::new(Limits::new(&LimitSettings::default(), clock, &mut registry)),
            metrics: CaptureMetrics::register(&mut registry),
        })
        .unwrap(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = lines(0);
    println!(
        "{} bytes a line; {} bytes compressed by zstd, {} by gzip",
        text.len() as u64 / EVENTS,
        zstd(&text).len() as u64 / EVENTS,
        gzip(&text).len() as u64 / EVENTS
    );
    println!("{:>8} {:>12} {:>16}", "", "us/event", "events/s/core");
    type Compress = fn(&[u8]) -> Vec<u8>;
    for (name, compress) in [("zstd", zstd as Compress), ("gzip", gzip), ("identity", <[u8]>::to_vec)] {
        let mut costs = Vec::new();
        for round in 0..ROUNDS as u64 {
            let bodies: Vec<_> =
                (0..BATCHES).map(|batch| compress(&lines((round * BATCHES + batch) * EVENTS))).collect();
            let started = cpu_seconds();
            for body in bodies {
                runtime.block_on(post(&capture, name, body));
                // As the pipeline does once it has counted them: segments are recycled then, and the log grows no more.
                let end: Positions = journal.end();
                journal.release(&end).unwrap();
            }
            costs.push((cpu_seconds() - started) * 1e6 / (EVENTS * BATCHES) as f64);
        }
        let cost = median(costs);
        println!("{name:>8} {cost:>12.2} {:>16.0}", 1e6 / cost);
    }
}
