//! A few seeds with each run of the tests; thousands by `cargo run --release -p sim -- --seeds 10000`.
#![allow(clippy::unwrap_used, reason = "tests")]

use clap::ValueEnum;
use sim::{Bug, Happened, Setup};

const SEEDS: u64 = 150;

/// What must happen somewhere among these seeds, or they prove less than they seem to.
const HAPPENS: [&str; 20] = [
    "acknowledged events sent again",
    "answer of a commit lost",
    "asked to stop",
    "clock set back",
    "clock set forward",
    "commit on its way at a crash",
    "conflicting commit",
    "disk becomes full",
    "disk failed",
    "disk is slow",
    "event refused (400)",
    "journal poisoned",
    "killed or ended",
    "lake failed",
    "late event",
    "power lost",
    "reading broke off",
    "request refused for now (503, retry-after)",
    "segment recycled",
    "watermark held its promise",
];

#[test]
fn no_seed_breaks_a_promise() {
    let mut happened = Happened::new();
    for seed in 0..SEEDS {
        match sim::run(Setup { seed, ..Setup::default() }) {
            Ok(outcome) => {
                outcome.happened.into_iter().for_each(|(what, times)| *happened.entry(what).or_default() += times);
            }
            Err(error) => {
                panic!("seed {seed}: {error:#}\nagain: cargo run --release -p sim -- --from {seed} --seeds 1 --trace")
            }
        }
    }
    for what in HAPPENS {
        assert!(happened.contains_key(what), "never happened: {what}; what did: {happened:#?}");
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in 0..20 {
        let run = || sim::run(Setup { seed, ..Setup::default() }).unwrap();
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn every_known_mistake_is_found_for_what_it_is() {
    for bug in Bug::value_variants() {
        let finding = |seed| sim::run(Setup { seed, bug: Some(*bug), trace: false }).err();
        let found = (0..SEEDS).filter_map(finding).any(|error| bug.is_told_by(&format!("{error:#}")));
        assert!(found, "{} stays unseen for {SEEDS} seeds", bug.name());
    }
}
