//! `tally bench sql`: ten questions over raw events, beside DuckDB on the same files with as many threads, in turn.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use tally_lake::{Lake, Sql, SqlLimits};
use tally_model::{Format, SystemClock};

use super::median;
use crate::commands::say;
use crate::config::DataFolder;

const DUCKDB: &str = include_str!("duckdb.py");
/// DuckDB takes what there is, so what a server allows a statement does not count here.
const STATEMENT_BYTES: usize = 8 << 30;
const LIMITS: SqlLimits = SqlLimits { time: Duration::from_secs(600), rows: None };

pub struct Options {
    pub data: PathBuf,
    pub python: String,
    pub rounds: usize,
}

/// What analysts ask of raw events; `{campaign}` is the one with the most of them. Docs/performance.md lists them in words.
const QUESTIONS: [(&str, &str); 10] = [
    ("all by campaign and day", "SELECT campaign_id, event_date, count(*) AS n FROM events GROUP BY 1, 2"),
    (
        "money of one campaign by day",
        "SELECT event_date, count(*) AS n, sum(cost_micros) AS cost, sum(revenue_micros) AS revenue FROM events \
         WHERE campaign_id = '{campaign}' AND verdict = 'counted' GROUP BY 1 ORDER BY 1",
    ),
    (
        "one campaign by country",
        "SELECT country, count(*) AS n FROM events WHERE campaign_id = '{campaign}' AND kind = 'click' GROUP BY 1",
    ),
    (
        "click-through rates by country",
        "SELECT country, count(*) FILTER (WHERE kind = 'click') AS clicks, count(*) FILTER (WHERE kind = 'impression') AS \
         impressions FROM events WHERE verdict = 'counted' GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
    ),
    ("verdicts and reasons", "SELECT kind, verdict, reason, count(*) AS n FROM events GROUP BY 1, 2, 3"),
    ("by hour", "SELECT date_trunc('hour', occurred_at) AS hour, count(*) AS n FROM events GROUP BY 1 ORDER BY 1"),
    (
        "ads that earn most",
        "SELECT campaign_id, ad_id, sum(revenue_micros) AS revenue FROM events WHERE verdict = 'counted' GROUP BY 1, 2 \
         ORDER BY 3 DESC, 1, 2 LIMIT 100",
    ),
    (
        "devices and browsers of audiences",
        "SELECT device, os, browser, age_group, gender, count(*) AS n FROM events GROUP BY 1, 2, 3, 4, 5 HAVING count(*) > 10",
    ),
    ("exact distinct values", "SELECT count(DISTINCT occurred_at) AS n FROM events"),
    (
        "a word in user agents",
        "SELECT count(*) AS n, min(occurred_at) AS first, max(occurred_at) AS last FROM events WHERE user_agent LIKE '%Firefox%'",
    ),
];

pub async fn run(options: Options) -> Result<()> {
    let folder = DataFolder::new(&options.data).lake();
    ensure!(
        Lake::exists(&folder),
        "there is no lake in `{}`; docs/performance.md says how to make one",
        options.data.display()
    );
    let lake = Lake::open(&folder, 0, Arc::new(SystemClock)).await?;
    let (sql, view) = (lake.sql(STATEMENT_BYTES)?, lake.view());
    let files = view.event_files();
    let [events, ..] = view.sizes();
    say(format!("{} events in {} files, {} MB", events.rows, events.files, events.bytes / 1_000_000));
    let mut duckdb = DuckDb::start(&options.python, &files)?;
    let hottest = "SELECT campaign_id FROM events GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1";
    let campaign = lines(&sql, hottest).await?;
    let campaign: Value = serde_json::from_slice(&campaign).context("there are no events")?;
    let campaign = campaign["campaign_id"].as_str().unwrap_or_default();

    let [rows, ours, theirs, ratio] = ["rows", "tally ms", "duckdb ms", "ratio"];
    say(format!("{:<34} {rows:>10} {ours:>10} {theirs:>10} {ratio:>6}", "question"));
    let mut ratios = Vec::new();
    for (name, question) in QUESTIONS {
        let question = question.replace("{campaign}", campaign);
        let (mut ours, mut theirs, mut rows) = (Vec::new(), Vec::new(), 0);
        // The first round warms both sides' caches, and does not count.
        for round in 0..=options.rounds {
            let began = Instant::now();
            let answer = lines(&sql, &question).await?;
            let ms = began.elapsed().as_secs_f64() * 1_000.0;
            rows = answer.iter().filter(|byte| **byte == b'\n').count();
            let their_ms = duckdb.ask(&question, &answer)?;
            if round > 0 {
                ours.push(ms);
                theirs.push(their_ms);
            }
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        ratios.push(ours / theirs);
        // Said as it is measured, since all of it takes minutes.
        say(format!("{name:<34} {rows:>10} {ours:>10.1} {theirs:>10.1} {:>6.2}", ours / theirs));
    }
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    say(format!("beside DuckDB {}: median ratio {:.2}, worst {worst:.2}", duckdb.version, median(&mut ratios)));
    Ok(())
}

/// The answer as somebody takes it: every row, written out.
async fn lines(sql: &Sql, question: &str) -> Result<Vec<u8>> {
    let rows = sql.run(question, LIMITS).await?;
    let mut chunks = std::pin::pin!(rows.encoded(Format::Ndjson));
    let mut lines = Vec::new();
    while let Some(chunk) = chunks.next().await {
        lines.extend_from_slice(&chunk?);
    }
    Ok(lines)
}

struct DuckDb {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl DuckDb {
    fn start(python: &str, files: &[impl AsRef<Path>]) -> Result<Self> {
        let mut command = Command::new(python);
        command.args(["-c", DUCKDB]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start `{python}`"))?;
        let (Some(ask), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("`{python}` has no standard input and output");
        };
        let mut duckdb = Self { process, ask, answers: BufReader::new(answers), version: String::new() };
        let threads = std::thread::available_parallelism()?.get();
        let files: Vec<_> = files.iter().map(|file| file.as_ref().display().to_string()).collect();
        let started = duckdb.say(&json!({"files": files, "threads": threads}));
        let started = started.with_context(|| format!("`{python}` needs DuckDB (pip install duckdb)"))?;
        duckdb.version = started["version"].as_str().unwrap_or_default().to_owned();
        Ok(duckdb)
    }

    fn say(&mut self, line: &Value) -> Result<Value> {
        writeln!(self.ask, "{line}")?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer)? > 0, "it ended");
        Ok(serde_json::from_str(&answer)?)
    }

    /// Milliseconds. Fails where its answer is another than ours.
    fn ask(&mut self, question: &str, ours: &[u8]) -> Result<f64> {
        let asked = json!({"sql": question, "lines": std::str::from_utf8(ours)?});
        let answer = self.say(&asked).with_context(|| format!("DuckDB failed at: {question}"))?;
        let differs = &answer["differs"];
        ensure!(differs.as_array().is_some_and(Vec::is_empty), "the answers differ at: {question}\n{differs}");
        answer["ms"].as_f64().context("DuckDB told no time")
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
