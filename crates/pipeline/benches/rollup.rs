//! What rolling up costs an event: adding it to the parts of a batch, and making cells of them.
//!
//! `cargo bench -p tally-pipeline --bench rollup`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops at any error")]

mod cost;

use cost::{median, thread_cpu_seconds};
use tally_model::{Class, Fact, Kind};
use tally_pipeline::RollupBuilder;

/// As many events as a batch has.
const EVENTS: u64 = 200_000;
const ROUNDS: usize = 9;
const COUNTRIES: [&str; 12] = ["US", "DE", "FR", "GB", "JP", "BR", "IN", "ES", "IT", "PL", "NL", "SE"];
const AGES: [&str; 6] = ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"];
const BROWSERS: [(&str, &str, &str); 6] = [
    ("mobile", "ios", "safari"),
    ("mobile", "android", "chrome"),
    ("desktop", "windows", "chrome"),
    ("desktop", "windows", "edge"),
    ("desktop", "macos", "safari"),
    ("tablet", "ios", "safari"),
];

fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Campaigns of unequal size, each with ten ads, over so many minutes.
fn fact<'a>(n: u64, minutes: u64, names: &'a [(String, Vec<String>)]) -> Fact<'a> {
    let dice = mix(n);
    let pick = |shift: u32, of: usize| (dice >> shift) as usize % of;
    let (campaign, ads) = &names[pick(0, 100).min(pick(8, 100))];
    let (device, os, browser) = BROWSERS[pick(16, BROWSERS.len())];
    Fact {
        kind: if pick(24, 10) == 0 { Kind::Click } else { Kind::Impression },
        class: if pick(28, 20) == 0 { Class::Duplicate } else { Class::Counted },
        occurred_at_us: 1_700_000_000_000_000 + (n * minutes / EVENTS) as i64 * 60_000_000,
        campaign_id: campaign,
        currency: Some("EUR"),
        ad_id: &ads[pick(32, ads.len())],
        variant: None,
        country: Some(COUNTRIES[pick(36, COUNTRIES.len())]),
        region: "eu",
        age_group: Some(AGES[pick(40, AGES.len())]),
        gender: Some(if pick(44, 2) == 0 { "f" } else { "m" }),
        device,
        os,
        browser,
        user_hash: Some(mix(dice) % 50_000),
        cost_micros: 100,
        revenue_micros: 0,
    }
}

fn main() {
    let names: Vec<(String, Vec<String>)> = (0..100)
        .map(|campaign| (format!("campaign-{campaign}"), (0..10).map(|ad| format!("ad-{campaign}-{ad}")).collect()))
        .collect();
    println!("{:>8} {:>10} {:>12} {:>12}", "minutes", "cells", "add ns/ev", "finish ns/ev");
    // A second's worth of live traffic falls into one minute; a day that is loaded at once into many.
    for minutes in [1, 60, 1_440] {
        let (mut adds, mut finishes, mut cells) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let mut builder = RollupBuilder::default();
            let started = thread_cpu_seconds();
            (0..EVENTS).for_each(|n| builder.add(&fact(n, minutes, &names)));
            let added = thread_cpu_seconds();
            cells = builder.finish().len();
            adds.push((added - started) * 1e9 / EVENTS as f64);
            finishes.push((thread_cpu_seconds() - added) * 1e9 / EVENTS as f64);
        }
        println!("{minutes:>8} {cells:>10} {:>12.0} {:>12.0}", median(adds), median(finishes));
    }
}
