//! What changes figures that are there, or makes them anew.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{KeyArguments, WhereArguments};

#[derive(Debug, Args)]
pub struct RebuildArguments {
    /// The first day, such as 2026-03-01 (UTC)
    #[arg(long, value_name = "DAY")]
    pub from: String,
    /// The day after the last one, which is not included
    #[arg(long, value_name = "DAY")]
    pub to: String,
    /// Print the whole report as JSON
    #[arg(long)]
    pub json: bool,
    /// The server that does it: on this machine, or elsewhere with an API key for `admin`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", conflicts_with = "data")]
    pub server: String,
    /// Work on this data folder itself; refused while a server runs on it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub key: KeyArguments,
}

#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The data folder whose journal is read, or the folder of a journal alone
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// A folder without a lake, for the new one
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The configuration that the server runs with
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the whole result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct QuarantineArguments {
    #[command(subcommand)]
    pub what: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// The newest events in quarantine, and why they are there
    List {
        /// Only those for this reason: click_unresolved, not_approved, undecodable or judging_failed
        #[arg(long)]
        reason: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        /// Print them as JSON, one on each line: with fields added, a file for `resubmit`
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: WhereArguments,
    },
    /// One event as JSON, as far as it is known; a record that this binary can read is decoded
    Show {
        /// The event's id, as it is listed
        event_id: String,
        #[command(flatten)]
        place: WhereArguments,
    },
    /// Send events again, mended, as new events that count
    ///
    /// Each gets a new id that follows from the old one, the time of receipt of now, and `resubmitted_from` in its props.
    /// Time, amounts and hashes of people stay. The row in quarantine stays as it is. Repeating it counts nothing twice.
    ///
    /// The file has a JSON object on each line: `event_id`, and the fields to set. A record that could not be read needs
    /// none, if this server can read it.
    Resubmit {
        /// NDJSON, or - for standard input
        #[arg(value_name = "FILE", required_unless_present = "id")]
        file: Option<PathBuf>,
        /// Events by their ids, instead of a file
        #[arg(long, value_name = "ID", conflicts_with = "file")]
        id: Vec<uuid::Uuid>,
        /// A field to set in all of them: campaign_id, ad_id, placement_id, publisher_id, variant, click_id, currency,
        /// cost_micros, revenue_micros
        #[arg(long, value_name = "FIELD=VALUE")]
        set: Vec<String>,
        /// The server: on this machine, or elsewhere with an API key for `admin`
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
        server: String,
        #[command(flatten)]
        key: KeyArguments,
    },
}
