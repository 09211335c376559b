//! What asks: for figures, for the proof of them, and for one event.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where to ask.
#[derive(Debug, Args)]
pub struct WhereArguments {
    /// The server to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", conflicts_with = "data")]
    pub server: String,
    /// Read this data folder instead; sees what is committed, also while a server runs on it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub key: KeyArguments,
}

/// What to show to a server that asks for a key.
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// File that holds the API key, where the server asks for one [default: the key in the environment's TALLY_KEY]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct QueryArguments {
    /// Metrics, such as impressions,clicks,ctr,cost_micros,users
    #[arg(required = true, value_delimiter = ',', value_name = "METRIC")]
    pub metrics: Vec<String>,
    /// Group by these: dimensions (campaign_id, country, ..) and minute, hour, day, week or month
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    pub by: Vec<String>,
    /// Keep only these: country=DE,FR or country!=DE; empty for events without a value
    #[arg(long = "where", value_name = "FIELD=VALUES")]
    pub filters: Vec<String>,
    /// From this moment (RFC 3339, or a date) [default: 1 January 2000]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Up to this moment, which is not included [default: the end of next month]
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Time zone of days, weeks and months, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub zone: String,
    /// Order by these columns; a leading - means from the greatest down
    #[arg(long, value_delimiter = ',', value_name = "COLUMN", allow_hyphen_values = true)]
    pub order: Vec<String>,
    /// At most so many rows
    #[arg(long, default_value_t = 1_000)]
    pub limit: usize,
    /// Conversions and revenue by the click or view that they are owed to, booked on its date or on their own [default: by
    /// their own fields]
    #[arg(long, value_enum, value_name = "DATE")]
    pub attribution: Option<BookingArgument>,
    /// The answer as it would have been then: a version of `events` (`table_version` of an answer), a time, or a date
    #[arg(long, value_name = "WHEN")]
    pub as_of: Option<String>,
    /// Only rows that are different now, with both figures
    #[arg(long, requires = "as_of")]
    pub restated: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub format: OutputFormat,
    /// Write the answer to this file instead, in the format that its end says: .json, .csv, .ndjson, .parquet or .arrow
    #[arg(long, short, value_name = "FILE", conflicts_with = "format")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub place: WhereArguments,
}

#[derive(Debug, Args)]
pub struct SqlArguments {
    /// One statement: SELECT, WITH or EXPLAIN
    #[arg(value_name = "STATEMENT")]
    pub statement: String,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = SqlFormat::Table)]
    pub format: SqlFormat,
    /// Write the answer to this file instead, in the format that its end says: .json, .csv, .ndjson, .parquet or .arrow
    #[arg(long, short, value_name = "FILE", conflicts_with = "format")]
    pub output: Option<PathBuf>,
    /// How long the statement may run
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=120))]
    pub time_limit_s: u64,
    #[command(flatten)]
    pub place: WhereArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SqlFormat {
    Table,
    Csv,
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum BookingArgument {
    ClickDate,
    ConversionDate,
}

impl BookingArgument {
    /// As requests have it.
    pub fn name(self) -> &'static str {
        match self {
            BookingArgument::ClickDate => "click_date",
            BookingArgument::ConversionDate => "conversion_date",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Csv,
    Json,
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Count the raw events again and compare every cell of every rollup
    #[arg(long)]
    pub recount: bool,
    /// Recount only from this UTC day on, such as 2026-03-01
    #[arg(long, value_name = "DAY", requires = "recount", requires = "to")]
    pub from: Option<String>,
    /// ..and up to this day, which is not included
    #[arg(long, value_name = "DAY", requires = "from")]
    pub to: Option<String>,
    /// Print the whole report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: WhereArguments,
}

#[derive(Debug, Args)]
pub struct WhyArguments {
    /// The event's id
    pub event_id: String,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: WhereArguments,
}
