//! `cargo run --release -p sim -- --seeds N`: runs so many seeds, and says how to repeat one that fails.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use sim::{Bug, Happened, Setup};

/// Runs the whole path under crashes and faults, one seed at a time, and checks that every promise holds.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run with a known mistake, until a seed finds it; `all` runs each in turn.
    #[arg(long, value_name = "BUG")]
    bug: Option<String>,
    /// Print every step: for one seed that is to be understood.
    #[arg(long)]
    trace: bool,
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool says what it found")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    if let Some(bug) = &arguments.bug {
        let all = Bug::value_variants().iter().copied();
        let bugs: Vec<Bug> = all.clone().filter(|known| bug == "all" || *bug == known.name()).collect();
        if bugs.is_empty() {
            let names: Vec<String> = all.map(Bug::name).collect();
            eprintln!("sim: there is no bug {bug:?}; known are all, {}", names.join(", "));
            return ExitCode::FAILURE;
        }
        for bug in bugs {
            let finding = |seed| {
                let error = sim::run(Setup { seed, bug: Some(bug), trace: arguments.trace }).err()?;
                bug.is_told_by(&format!("{error:#}")).then_some((seed, error))
            };
            match seeds.clone().find_map(finding) {
                Some((seed, error)) => {
                    let took = seed - arguments.from + 1;
                    println!("{}: found after {took} seeds, by seed {seed}: {error:#}", bug.name());
                }
                None => {
                    println!("{}: NOT FOUND in {} seeds", bug.name(), arguments.seeds);
                    return ExitCode::FAILURE;
                }
            }
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let (mut lives, mut steps, mut rows, mut duplicates, mut failed) = (0, 0, 0, 0, 0);
    let mut happened = Happened::new();
    for seed in seeds {
        match sim::run(Setup { seed, bug: None, trace: arguments.trace }) {
            Ok(outcome) => {
                lives += outcome.lives;
                steps += outcome.steps;
                rows += outcome.rows;
                duplicates += outcome.duplicates;
                outcome.happened.into_iter().for_each(|(what, times)| *happened.entry(what).or_default() += times);
            }
            Err(error) => {
                failed += 1;
                println!("seed {seed} FAILED: {error:#}");
                println!("  again: cargo run --release -p sim -- --from {seed} --seeds 1 --trace");
            }
        }
    }
    println!(
        "{} seeds in {:.1} s, {failed} failed: {lives} lives, {steps} steps, {rows} events judged, {duplicates} duplicates",
        arguments.seeds,
        began.elapsed().as_secs_f64()
    );
    happened.iter().for_each(|(what, times)| println!("{times:>10}  {what}"));
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
