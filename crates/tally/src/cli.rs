//! The command line. The texts here are the manual that `--help` prints.

mod bench;
mod examples;
mod mending;
mod questions;
mod secrets;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bench::{BenchArguments, BenchCommand};
pub use mending::{QuarantineArguments, QuarantineCommand, RebuildArguments, ReplayArguments};
pub use questions::{
    KeyArguments, OutputFormat, QueryArguments, SqlArguments, SqlFormat, VerifyArguments, WhereArguments, WhyArguments,
};
pub use secrets::{KeysArguments, KeysCommand, KeysFolderArguments, PostbackUrlArguments, SignLinkArguments};
pub use traffic::{EncodingArgument, GenerateArguments, SendArguments};

use crate::config::Overrides;

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
pub struct TagArguments {
    /// The address under which pages reach the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: String,
}
