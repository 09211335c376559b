//! A few seeds with each run of the tests; thousands by `cargo run --release -p sim -- --seeds 10000`.
#![allow(clippy::unwrap_used, reason = "tests")]

use sim::{Bug, Setup};

const SEEDS: u64 = 150;
/// A bug must be found within so many seeds.
const SEEDS_PER_BUG: u64 = 200;

#[test]
fn no_seed_breaks_a_promise() {
    for seed in 0..SEEDS {
        if let Err(error) = sim::run(Setup { seed, ..Setup::default() }) {
            panic!("seed {seed}: {error:#}\nagain: cargo run --release -p sim -- --from {seed} --seeds 1 --trace");
        }
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in 0..20 {
        assert_eq!(
            sim::run(Setup { seed, ..Setup::default() }).unwrap(),
            sim::run(Setup { seed, ..Setup::default() }).unwrap(),
            "seed {seed}"
        );
    }
}

#[test]
fn every_known_mistake_is_found() {
    for bug in Bug::ALL {
        let found = (0..SEEDS_PER_BUG).any(|seed| sim::run(Setup { seed, bug: Some(bug), trace: false }).is_err());
        assert!(found, "{} stays unseen for {SEEDS_PER_BUG} seeds", bug.name());
    }
}
