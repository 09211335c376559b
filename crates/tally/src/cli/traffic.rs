//! What sends events: from files, and from the generator.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::KeyArguments;

#[derive(Debug, Args)]
pub struct SendArguments {
    /// NDJSON or CSV files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub to: String,
    /// Events in a request
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Requests at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// How requests are compressed
    #[arg(long, value_enum, default_value_t = EncodingArgument::Zstd)]
    pub encoding: EncodingArgument,
    /// Note how far each file was acknowledged, beside it, and go on from there
    #[arg(long)]
    pub resume: bool,
    /// How long to try again while the server is away
    #[arg(long, value_name = "S", default_value_t = 300)]
    pub retry_s: u64,
    /// CSV: which column an event field is in
    #[arg(long, value_name = "FIELD=COLUMN")]
    pub map: Vec<String>,
    /// CSV: the value of an event field in every row
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub key: KeyArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EncodingArgument {
    Zstd,
    Gzip,
    None,
}

#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// How many events
    #[arg(long, default_value_t = 100_000)]
    pub events: u64,
    /// The same seed gives the same bytes, on every machine
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// First moment of the traffic (RFC 3339) [default: 2026-03-01T00:00:00Z]
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// How long the traffic lasts
    #[arg(long, value_name = "S", default_value_t = 86_400)]
    pub duration_s: u64,
    /// Campaigns; their traffic is Zipf-distributed
    #[arg(long)]
    pub campaigns: Option<u32>,
    /// Share of events that are sent again with the same id
    #[arg(long, value_name = "0..1")]
    pub duplicates: Option<f64>,
    /// Share of events that happened long before they are sent
    #[arg(long, value_name = "0..1")]
    pub late: Option<f64>,
    /// Share of events from agents that name themselves robots
    #[arg(long, value_name = "0..1")]
    pub bots: Option<f64>,
    /// Where to write the events; .zst is compressed [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where to write the exact totals, as JSON
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
}
