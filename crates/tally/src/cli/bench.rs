//! The arguments of `tally bench`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub what: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Requests over HTTP on loopback: single events awaiting the disk, beside an empty answer on the same stack and nginx
    Capture {
        /// Connections, each with one request under way at most
        #[arg(long, default_value_t = 256)]
        connections: usize,
        /// How long each round lasts
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Rounds of each kind, taken in turn; the median counts
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Requests a second that are offered in the open loop, whatever the server does
        #[arg(long, default_value_t = 50_000)]
        rate: u32,
    },
    /// What the capture bench compares with: our HTTP stack, answering 204 without work
    #[command(hide = true)]
    EmptyServer {
        /// Address and port
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
    },
    /// People who look at the live figures: what they cost the server, and how long a push takes to reach them
    Live {
        /// Connections that look
        #[arg(long, default_value_t = 100)]
        connections: usize,
        /// Clicks a second meanwhile, each a request
        #[arg(long, default_value_t = 200)]
        clicks: u32,
        /// How long each half lasts: without viewers, and with them
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// More than can be kept, with clicks and reports beside it: what is accepted is counted, and how long a click waits
    Overload {
        /// How long it lasts
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Clicks a second, each a request
        #[arg(long, default_value_t = 500)]
        clicks: u32,
        /// How far counting may be behind (journal.behind_bytes): the less, the sooner impressions are refused
        #[arg(long, default_value_t = 256 << 20)]
        behind_bytes: u64,
    },
    /// From HTTP batches to queryable figures: events a second, bytes an event, peak memory
    Pipeline {
        /// Generated events
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// Requests at once
        #[arg(long, default_value_t = 4)]
        concurrency: u16,
    },
    /// Reports over HTTP on the events of a data folder: alone, and on 1, 50 and 1,000 connections while events come in
    Reports {
        /// The data folder; the bench adds events to it
        #[arg(long, value_name = "DIR", default_value = "./tally-data")]
        data: PathBuf,
        /// Events a second that come in meanwhile
        #[arg(long, default_value_t = 10_000)]
        rate: u32,
        /// How long each round lasts
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Ten questions in SQL over the raw events of a data folder, beside DuckDB on the same files
    Sql {
        /// The data folder
        #[arg(long, value_name = "DIR", default_value = "./tally-data")]
        data: PathBuf,
        /// A Python that has the package duckdb
        #[arg(long, value_name = "PYTHON", default_value = "python3")]
        python: String,
        /// Rounds that count, taken in turn; the median is shown
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}
