//! The command line. The texts here are the manual that `--help` prints.

mod bench;
mod examples;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bench::{BenchArguments, BenchCommand};

use crate::config::Overrides;
use crate::keys::Scope;

/// Counts ads clicks, impressions and conversions: every event durable, counted exactly once, provable.
///
/// `tally demo` shows it at work within seconds. `tally serve` runs the server, with everything in one folder. The other
/// commands talk to a running server (--server), or, to read, straight to a data folder (--data).
#[derive(Debug, Parser)]
#[command(name = "tally", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    ///
    /// Captures events over HTTP, writes each one durably before it answers, counts it, and answers reports. Stops on
    /// SIGTERM or Ctrl-C after everything acknowledged is committed. kill -9 loses nothing either: the next start goes on
    /// where it was.
    #[command(after_long_help = examples::SERVE)]
    Serve(ServeArguments),
    /// Watch it count: a server, generated traffic with planted duplicates, bots and late events, and the known truth
    ///
    /// The server runs in a temporary folder, which goes with the demo. Each second's figures stand beside what was sent, and
    /// below them commands to try in another terminal. Ctrl-C ends it.
    Demo(DemoArguments),
    /// Send files of events to a server: NDJSON or CSV, plain, .gz or .zst, or - for standard input
    ///
    /// Safe to repeat: an event that was sent before counts as a duplicate. Survives a server that restarts meanwhile.
    #[command(after_long_help = examples::SEND)]
    Send(SendArguments),
    /// Write seeded, realistic traffic as NDJSON, and its exact totals as JSON
    ///
    /// Equal seeds give equal traffic: campaigns of unequal size, a curve over the day, and planted duplicates, late events and
    /// robots. The totals say what must come out, so that any server can be held to them.
    #[command(after_long_help = examples::GENERATE)]
    Generate(GenerateArguments),
    /// Ask for a report
    ///
    /// From a running server, or with --data straight from a data folder. The last line says which table answered, and up to
    /// when it is complete.
    #[command(after_long_help = examples::QUERY)]
    Query(QueryArguments),
    /// Ask in SQL: read-only, over `events` and a view for each rollup, such as campaign_day or geo_hour
    ///
    /// From a running server, or with --data straight from a data folder. The same views are there for psql, drivers and BI
    /// tools on the Postgres port.
    #[command(after_long_help = examples::SQL)]
    Sql(SqlArguments),
    /// Prove the figures: received = counted + duplicate + invalid + quarantined; with --recount, every cell of every rollup
    ///
    /// Exits with 1 where anything does not hold.
    #[command(after_long_help = examples::VERIFY)]
    Verify(VerifyArguments),
    /// Count days again from raw events, and replace their cells in one step where they differ
    ///
    /// Takes whole UTC days. The minute, hour and day cells of these days, and the cells of the months that they belong to,
    /// are made anew from the raw events and compared with the rollups, in every view. If anything differs, all of them are
    /// replaced in one commit: reports see the old figures or the new ones, never a mixture. Events that come in meanwhile
    /// are counted as always.
    ///
    /// Prints each difference, up to 100, and their number. Exits with 0 where nothing differed, or what differed is
    /// replaced. Interrupted, it leaves everything as it was. All days of the months are read, one after the other.
    Rebuild(RebuildArguments),
    /// Feed the journal again into a fresh lake, and compare it with the one that is there
    ///
    /// Reads the journal of a data folder that no server uses, from its first record on, through the same rules and commits
    /// into a new lake, and proves that. If the folder has a lake, both are compared: every column of every event, and every
    /// sum of every cell; a digest over each table says in one line whether they are the same. The source is not changed.
    ///
    /// Refused if the journal no longer holds its beginning (journal.retain_bytes): without it, the first copies of some
    /// events are missing, and other copies would count. Rules must be the same too: give the server's --config, since
    /// verdicts depend on pipeline.dedup_ttl_s.
    ///
    /// Exits with 1 where the new lake does not prove, or differs. `TO/lake` may take the place of a lost one.
    Replay(ReplayArguments),
    /// Events that could not be attributed or read: list them, look into one, mend them and send them again
    ///
    /// An event in quarantine is kept and not counted, for one of these reasons: click_unresolved (a conversion that names a
    /// click and no campaign, and counts by attribution), not_approved (a postback that is pending or rejected), undecodable (a
    /// record that this binary cannot read, such as a newer one's), judging_failed (a rule failed on it). It never keeps later events from being counted.
    Quarantine(QuarantineArguments),
    /// API keys: make one, list them, revoke one
    ///
    /// Whoever connects to a server that is not on loopback (or has server.auth = "on") shows a key for what they want: to send
    /// batches (ingest), to ask (query), to change figures (admin). Clicks, pixels and single events are open to all.
    ///
    /// The keys are in the data folder, as hashes. A running server takes up each change by itself, within seconds.
    #[command(after_long_help = examples::KEYS)]
    Keys(KeysArguments),
    /// The life of one event: when it came, where it stands in the log, its verdict and why, its cells and its file
    #[command(after_long_help = examples::WHY)]
    Why(WhyArguments),
    /// Print a link to /v1/click that is signed: it leads wherever it says, without a list of hosts
    ///
    /// The signature covers everything that the link says in front of it: where it leads, campaign, ad and whatever else is set.
    /// What an ad server adds goes behind it. Macros in the destination, such as {click_id}, are filled in at each click.
    ///
    /// The keys are in `signing.keys` in the data folder; the first is made here. A running server takes note of a changed file
    /// within seconds, and needs no restart.
    #[command(after_long_help = examples::SIGN_LINK)]
    SignLink(SignLinkArguments),
    /// Print the address that an affiliate network, a shop or a partner reports conversions to, with the token that lets it in
    ///
    /// The token is for one campaign, or without --campaign for all. It is made of a key in `signing.keys` in the data folder,
    /// and good until that key is removed from there. Whoever has it can report conversions: give each partner only its own.
    ///
    /// The network fills in the click's id that it got with the click, its own number of the transaction, the amount, and
    /// whether it is approved, pending or rejected. What it repeats is counted once.
    #[command(after_long_help = examples::POSTBACK_URL)]
    PostbackUrl(PostbackUrlArguments),
    /// Print the HTML element that loads the tag: impressions when they are seen, clicks with where they were
    ///
    /// It names the version of the tag that this binary serves, and insists on its hash. On the page, every element with
    /// data-tally-campaign-id and data-tally-ad-id is an ad; other data-tally-.. attributes are event fields too.
    #[command(after_long_help = examples::TAG)]
    Tag(TagArguments),
    /// Measure this machine: capture, the pipeline behind it, an overload, and SQL beside DuckDB
    Bench(BenchArguments),
    /// Print the configuration as it results from defaults, file and environment, or what is wrong with it
    #[command(after_long_help = examples::CHECK_CONFIG)]
    CheckConfig(ConfigArguments),
}

#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Configuration file (TOML); every key is described in the defaults that `tally check-config --defaults` prints
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the defaults with their descriptions instead
    #[arg(long)]
    pub defaults: bool,
}

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Configuration file (TOML); see `tally check-config --defaults`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder that holds everything [default: ./tally-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address and port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

impl ServeArguments {
    pub fn overrides(&self) -> Overrides {
        Overrides { file: self.config.clone(), listen: self.listen, data: self.data.clone() }
    }
}

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Events a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub rate: u32,
    /// Stop after so many seconds [default: until Ctrl-C]
    #[arg(long, value_name = "S")]
    pub seconds: Option<u64>,
    /// Open the dashboard in a browser
    #[arg(long)]
    pub open: bool,
    /// Address and port of the demo's server
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Keep what was counted in this folder, which must be empty [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

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

#[derive(Debug, Args)]
pub struct KeysArguments {
    #[command(subcommand)]
    pub what: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and print it: the only time that it is shown
    Create {
        /// What it is called in lists, metrics and errors
        name: String,
        /// What it is for; none includes another
        #[arg(long, required = true, value_enum, value_delimiter = ',', value_name = "SCOPES")]
        scopes: Vec<Scope>,
        /// When it ends: a date, a time (RFC 3339), or how long from now, such as 90d [default: never]
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        expires: Option<String>,
        #[command(flatten)]
        folder: KeysFolderArguments,
    },
    /// The keys there are, without their secrets
    List {
        /// Print them as JSON, one on each line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        folder: KeysFolderArguments,
    },
    /// Take a key out of force, for good
    Revoke {
        /// The key's name
        name: String,
        #[command(flatten)]
        folder: KeysFolderArguments,
    },
}

/// The server's folder, found as the server finds it.
#[derive(Debug, Args)]
pub struct KeysFolderArguments {
    /// Configuration file of the server
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder that holds the server's data [default: ./tally-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
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

#[derive(Debug, Args)]
pub struct PostbackUrlArguments {
    /// The campaign that the token is for [default: all; the conversions are those of their clicks' campaigns]
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// The network's own macro for a parameter, such as click_id={aff_sub} or txn_id=[order_id]; empty leaves it out
    #[arg(long, value_name = "NAME=MACRO")]
    pub set: Vec<String>,
    /// The key to make the token with, by its id [default: the last one of the file]
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// The address under which servers reach this one
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./tally-data")]
    pub data: PathBuf,
}

#[derive(Debug, Args)]
pub struct SignLinkArguments {
    /// Where the link leads; may have macros such as {click_id}, {campaign_id} or {cachebuster}
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// The campaign that the clicks count for; without it, the ad server adds `campaign_id`
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// The ad that is clicked; without it, the ad server adds `ad_id`
    #[arg(long, value_name = "ID")]
    pub ad: Option<String>,
    /// Another event field that nobody may change, such as cost_micros=250000
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// How long the link holds, such as 30d or 12h; `never` where it shall not expire
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub expires: String,
    /// The key to sign with, by its id [default: the last one of the file]
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// Add a key to the file first, which signs from now on; links with the earlier ones stay good
    #[arg(long, conflicts_with = "key")]
    pub new_key: bool,
    /// The address under which people reach the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./tally-data")]
    pub data: PathBuf,
}

#[derive(Debug, Args)]
pub struct TagArguments {
    /// The address under which pages reach the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: String,
}
