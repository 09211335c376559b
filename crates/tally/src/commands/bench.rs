//! `tally bench`: the figures of README, for this machine. The server runs as a process of its own, as it would in earnest;
//! its CPU time and memory are read from the kernel.

mod capture;
mod child;
mod cpu;
mod empty_server;
mod growth;
mod http;
mod live;
mod load;
mod nginx;
mod overload;
mod pipeline;
mod reports;
mod sql;

use std::time::Duration;

use anyhow::Result;

use crate::cli::{BenchArguments, BenchCommand};

pub async fn run(arguments: BenchArguments) -> Result<()> {
    match arguments.what {
        BenchCommand::Capture { connections, seconds, rounds, rate } => {
            let (time, per_second) = (Duration::from_secs(seconds), f64::from(rate));
            capture::run(capture::Options { connections, time, rounds, per_second }).await
        }
        BenchCommand::EmptyServer { listen } => empty_server::run(listen).await,
        BenchCommand::Live { connections, clicks, seconds } => {
            let (time, clicks_per_second) = (Duration::from_secs(seconds), f64::from(clicks));
            live::run(live::Options { connections, clicks_per_second, time }).await
        }
        BenchCommand::Overload { seconds, clicks, behind_bytes } => {
            let (time, clicks_per_second) = (Duration::from_secs(seconds), f64::from(clicks));
            overload::run(overload::Options { time, clicks_per_second, behind_bytes }).await
        }
        BenchCommand::Pipeline { events, concurrency } => pipeline::run(events, concurrency).await,
        BenchCommand::Reports { data, rate, seconds } => {
            reports::run(reports::Options { data, events_per_second: rate, time: Duration::from_secs(seconds) }).await
        }
        BenchCommand::Sql { data, python, rounds } => sql::run(sql::Options { data, python, rounds }).await,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    values.get(lower).zip(values.get(upper)).map_or(f64::NAN, |(low, high)| f64::midpoint(*low, *high))
}
