//! Sends files of events to a server, so that what arrives is everything, and a repetition adds nothing.
//!
//! It goes by rounds: read some lines, share them out over as many requests as are sent at once, wait for all answers,
//! note how far we came. Copies of an id always go by the same lane of a round, so they arrive in the file's order and
//! the first of them counts, however many requests are under way. The next round is read while this one is sent.

mod client;
mod identity;
mod round;
mod saved;
mod source;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use reqwest::Url;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::Instant;

pub use client::{Answer, AnswerError, Client};
use round::{Feed, Lane};

/// Errors of single lines that a report spells out; the rest are only counted.
const ERRORS_MAX: usize = 20;

#[derive(Debug, Clone)]
pub struct SendOptions {
    /// The server, such as `http://127.0.0.1:8080`; a path before `/v1` is kept.
    pub to: Url,
    /// Goes out as a bearer token; a server asks for one before it believes `ip` and `user_agent` in a body.
    pub api_key: Option<String>,
    /// The most events in one request.
    pub batch_events: usize,
    /// The most requests at once.
    pub concurrency: u16,
    pub encoding: Encoding,
    /// How long one batch is tried again while the server is away or overloaded: long enough for a restart.
    pub retry_s_max: u64,
    pub resume: Resume,
    /// CSV only: event field, and the column that holds it. Columns that are named like an event field need no entry;
    /// all others are left out unless named here. A field that events do not know is kept in `props`.
    pub map: Vec<(String, String)>,
    /// CSV only: event field, and the value that it has in every row.
    pub set: Vec<(String, String)>,
}

impl SendOptions {
    pub fn to(to: Url) -> Self {
        Self {
            to,
            api_key: None,
            batch_events: 5_000,
            concurrency: 4,
            encoding: Encoding::Zstd,
            retry_s_max: 300,
            resume: Resume::No,
            map: Vec::new(),
            set: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Zstd,
    Gzip,
    None,
}

impl Encoding {
    pub const ALL: [Encoding; 3] = [Encoding::Zstd, Encoding::Gzip, Encoding::None];

    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::Gzip => "gzip",
            Encoding::None => "none",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.as_str() == name)
    }
}

/// Whether to note how far a file was acknowledged, and go on from there next time: after an interruption, or when the
/// file has grown. The note is only believed while everything before it is unchanged, byte for byte; else the file is
/// sent from its start, which adds nothing for lines that the server has. Standard input is never resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    No,
    /// The note stands beside the file, as `FILE.tally-sent`.
    Beside,
    /// Notes stand in this folder, named by a hash of the file's full path and the server.
    In(PathBuf),
}

/// `sent` is `accepted` plus what the server rejected: a server for which that does not hold lost something.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendReport {
    /// Events that a server answered for.
    pub sent: u64,
    pub accepted: u64,
    /// By the server, or because the line could not be read here.
    pub rejected: u64,
    /// Lines passed over because an earlier run had them acknowledged.
    pub skipped: u64,
    /// The first few.
    pub errors: Vec<LineError>,
    /// Requests that were made again.
    pub retries: u64,
    pub elapsed: Duration,
}

/// What is wrong with one line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    pub file: PathBuf,
    /// In the file, from 1.
    pub line: u64,
    pub field: Option<String>,
    pub what: String,
    pub cure: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot note progress in `{}`: {source}; give another state folder, or do not resume", path.display())]
    Note { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Mapping(String),
    #[error("the server at {to} refused a batch with status {status}: {problem}")]
    Refused { to: Url, status: u16, problem: String },
    #[error(
        "gave up on {to} after {waited_s} s of retries: {last}; see whether it runs, and send again: nothing counts twice"
    )]
    Away { to: Url, waited_s: u64, last: String },
    #[error("cannot set up the client: {0}")]
    Setup(String),
}

/// Draws to standard error, and nothing where that is no terminal.
pub fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {bytes} of {total_bytes}  {msg}  {eta} left");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Sends `files` in turn: NDJSON, or CSV where the name says `.csv` or `.tsv`, each also as `.gz` or `.zst`; `-` is
/// standard input (CSV if a mapping is given). Lines without an `event_id` get one that depends on nothing but the line
/// and its number, so that sending the same file twice adds nothing.
pub async fn send(files: &[PathBuf], options: &SendOptions, bar: &ProgressBar) -> Result<SendReport, SendError> {
    let started = Instant::now();
    let client = Arc::new(Client::new(options, bar)?);
    let sizes: Vec<u64> = files.iter().map(|file| std::fs::metadata(file).map_or(0, |about| about.len())).collect();
    if !files.iter().any(|file| source::is_stdin(file)) {
        bar.set_length(sizes.iter().sum());
    }
    let mut report = SendReport::default();
    let mut bytes_before = 0;
    for (file, bytes) in files.iter().zip(sizes) {
        send_file(file, options, &client, &mut report, |report, bytes_read| {
            let rate = report.sent as f64 / started.elapsed().as_secs_f64().max(0.001);
            bar.set_position(bytes_before + bytes_read);
            bar.set_message(format!("{} events, {}/s", HumanCount(report.sent), HumanCount(rate as u64)));
        })
        .await?;
        bytes_before += bytes;
    }
    report.retries = client.retries();
    report.elapsed = started.elapsed();
    bar.finish();
    Ok(report)
}

async fn send_file(
    file: &Path,
    options: &SendOptions,
    client: &Arc<Client>,
    report: &mut SendReport,
    progress: impl Fn(&SendReport, u64),
) -> Result<(), SendError> {
    let (path, options) = (file.to_owned(), options.clone());
    let feed = joined(spawn_blocking(move || Feed::open(path, options)).await)?;
    report.skipped += feed.skipped();
    let mut ahead = Some(spawn_blocking(move || feed.read()));
    while let Some(reading) = ahead.take() {
        let (feed, round) = joined(reading.await)?;
        let note = feed.note();
        if !round.is_last {
            ahead = Some(spawn_blocking(move || feed.read()));
        }
        report.rejected += round.unreadable.len() as u64;
        let mut errors = round.unreadable;
        errors.extend(post(file, round.lanes, client, report).await?);
        errors.sort_by_key(|error| error.line);
        let room = ERRORS_MAX.saturating_sub(report.errors.len());
        report.errors.extend(errors.into_iter().take(room));
        if let Some(note) = note {
            joined(spawn_blocking(move || note.save()).await)?;
        }
        progress(report, round.bytes_read);
    }
    Ok(())
}

/// All requests of a round at once. Tells what the server found wrong.
async fn post(
    file: &Path,
    lanes: Vec<Lane>,
    client: &Arc<Client>,
    report: &mut SendReport,
) -> Result<Vec<LineError>, SendError> {
    let (mut posts, mut errors) = (JoinSet::new(), Vec::new());
    for lane in lanes {
        let client = Arc::clone(client);
        posts.spawn(async move { client.post_encoded(lane.body).await.map(|answer| (lane.line_numbers, answer)) });
    }
    while let Some(posted) = posts.join_next().await {
        let (line_numbers, answer) = joined(posted)?;
        report.sent += line_numbers.len() as u64;
        report.accepted += answer.accepted;
        report.rejected += answer.rejected;
        for AnswerError { line, field, what, cure } in answer.errors {
            // The server counts the lines of the request from 1.
            let at = usize::try_from(line).unwrap_or(0).saturating_sub(1);
            let line = line_numbers.get(at).copied().unwrap_or(0);
            errors.push(LineError { file: file.to_owned(), line, field, what, cure });
        }
    }
    Ok(errors)
}

/// A task of ours is never cancelled while it is waited for, so it ends or panics; a panic goes on from here.
fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
