//! `tally bench`: the figures of README, for this machine. The server runs as a process of its own, as it would in earnest;
//! its CPU time and memory are read from the kernel.

mod capture;
mod child;
mod http;
mod pipeline;

use anyhow::Result;

use crate::cli::{BenchArguments, BenchCommand};

pub async fn run(arguments: BenchArguments) -> Result<()> {
    match arguments.what {
        BenchCommand::Capture { connections, seconds, rounds } => capture::run(connections, seconds, rounds).await,
        BenchCommand::Pipeline { events, concurrency } => pipeline::run(events, concurrency).await,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
