//! `tally demo`: a server in this process, traffic whose truth is known, and the two side by side, second by second: here and on
//! the dashboard.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tally_capture::LimitSettings;
use tally_model::{Clock, SystemClock};
use tally_traffic::{Client, Generator, Plan, SendOptions, Truth};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::query::grouped;
use super::{note, say};
use crate::cli::DemoArguments;
use crate::config::{Auth, Config, Overrides};
use crate::logging;
use crate::serve::{ComparedFigure, Comparison, Server};

/// A second's events leave in so many parts, as traffic does, and the live figures show no bursts of our making.
const SLICES: u32 = 4;
/// Events in one request.
const BATCH_EVENTS: usize = 5_000;
/// How long one second's events may take to be counted before the demo says that something is wrong.
const COUNT_TIME: Duration = Duration::from_secs(30);

/// The traffic's time runs from a day ago, an hour a minute, until it has caught up: reports by hour soon have something to
/// show, and clicks their conversions.
const HISTORY_US: i64 = 86_400 * 1_000_000;
const SPEED_UP: i64 = 60;

const KINDS: [&str; 3] = ["impression", "click", "conversion"];

pub async fn run(arguments: DemoArguments) -> Result<()> {
    let folder = DemoFolder::new(&arguments)?;
    let mut config = Config::load(&Overrides {
        listen: Some(arguments.listen),
        data: Some(folder.path.clone()),
        ..Overrides::default()
    })?;
    // Shorter than a server's, so that the table moves each second.
    config.pipeline.commit_after_ms = 200;
    config.log.level = "warn".to_owned();
    // It shows made-up figures to whoever was let near, and its truth knows no limits.
    config.server.auth = Auth::Off;
    config.limits = LimitSettings::default();
    logging::start(&config.log)?;
    let (told, truth) = watch::channel(Comparison::default());
    let server = Server::start(&config, Some(truth)).await?;
    let url = format!("http://{}", server.address);
    say(format!("the dashboard: {url}/\n"));
    if arguments.open {
        open_in_browser(&url);
    }
    let counted = tokio::select! {
        counted = count(&arguments, &url, &told) => counted,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    server.stop().await?;
    folder.remove();
    counted
}

/// Sends a second's traffic, waits until it is counted, compares, shows; again and again.
async fn count(arguments: &DemoArguments, url: &str, told: &watch::Sender<Comparison>) -> Result<()> {
    // For the size of the population only: the generator itself has no end.
    let mut generator = Generator::new(Plan { seed: arguments.seed, events: 1_000_000, ..Plan::default() })?;
    let history = History::begin();
    let client = Client::new(&SendOptions::to(url.parse()?), &ProgressBar::hidden())?;
    let http = reqwest::Client::new();
    let mut screen = Screen::default();
    let started = Instant::now();
    for second in 0.. {
        if arguments.seconds.is_some_and(|seconds| second >= seconds) {
            return Ok(());
        }
        for slice in 0..SLICES {
            sleep_until(started + Duration::from_secs(second) + slice * Duration::from_secs(1) / SLICES).await;
            let sent = arguments.rate * slice / SLICES;
            let due = arguments.rate * (slice + 1) / SLICES;
            send_events(&mut generator, &client, due - sent, &history).await?;
        }
        let truth = generator.truth();
        let asked = Instant::now();
        let figures = figures_of(&http, url, &truth).await?;
        let comparison = compare(&truth, &figures, asked.elapsed());
        screen.show(&comparison, url)?;
        told.send_replace(comparison);
        sleep_until(started + Duration::from_secs(second + 1)).await;
    }
    Ok(())
}

/// The traffic's clock.
struct History {
    began_us: i64,
}

impl History {
    fn begin() -> Self {
        Self { began_us: SystemClock.now_us() }
    }

    fn now_us(&self) -> i64 {
        let now_us = SystemClock.now_us();
        (self.began_us - HISTORY_US + (now_us - self.began_us) * SPEED_UP).min(now_us)
    }
}

async fn send_events(generator: &mut Generator, client: &Client, count: u32, history: &History) -> Result<()> {
    let mut lines = String::new();
    for sent in 1..=count as usize {
        generator.write_at(history.now_us(), &mut lines);
        lines.push('\n');
        if sent % BATCH_EVENTS == 0 || sent == count as usize {
            let answer = client.post(lines.as_bytes()).await?;
            ensure!(answer.rejected == 0, "the server rejected {} generated events", answer.rejected);
            lines.clear();
        }
    }
    Ok(())
}

/// The server's figures, once it has counted all that was sent.
async fn figures_of(http: &reqwest::Client, url: &str, truth: &Truth) -> Result<Value> {
    let sent = Truth::total(&truth.received);
    let metrics: Vec<String> = KINDS
        .iter()
        .flat_map(|kind| ["gross_", "", "duplicate_", "invalid_givt_"].map(|class| format!("{class}{kind}s")))
        .chain(["cost_micros".to_owned(), "revenue_micros".to_owned()])
        .collect();
    // Only the generated campaigns: what a visitor sends along is counted as well, but not part of the known truth.
    let campaigns: BTreeSet<&str> = truth.by_campaign_id.keys().filter_map(|key| key.split('|').next()).collect();
    let question = json!({
        "metrics": metrics, "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        "filters": [{"field": "campaign_id", "values": campaigns}],
    });
    let deadline = Instant::now() + COUNT_TIME;
    loop {
        let answer: Value = http.post(format!("{url}/v1/query")).json(&question).send().await?.json().await?;
        let row = answer["rows"].get(0).cloned().unwrap_or_default();
        let received: u64 = KINDS.iter().map(|kind| row[format!("gross_{kind}s")].as_u64().unwrap_or(0)).sum();
        if received >= sent {
            return Ok(row);
        }
        if Instant::now() > deadline {
            bail!("{sent} events were acknowledged, but only {received} counted after {} s", COUNT_TIME.as_secs());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Draws over its last drawing on a terminal; elsewhere adds a table now and then.
#[derive(Default)]
struct Screen {
    lines_drawn: usize,
    tables: u64,
}

impl Screen {
    fn show(&mut self, comparison: &Comparison, url: &str) -> Result<()> {
        self.tables += 1;
        let is_terminal = std::io::stdout().is_terminal();
        if !is_terminal && self.tables % 5 != 1 {
            return Ok(());
        }
        let table = table_of(&comparison.rows);
        let verdict =
            if comparison.is_equal() { "counted = truth, to the last event" } else { "counted DIFFERS from the truth" };
        let text = format!(
            "{table}\n{verdict}; {} events so far; the last second's were in the figures {} ms after the last answer\n\n{}",
            grouped(i64::try_from(comparison.events).unwrap_or(i64::MAX)),
            comparison.counted_after_ms,
            what_next(url),
        );
        if is_terminal && self.lines_drawn > 0 {
            let mut out = std::io::stdout();
            write!(out, "\x1b[{}A\x1b[J", self.lines_drawn)?;
            out.flush()?;
        }
        self.lines_drawn = text.lines().count();
        say(&text);
        Ok(())
    }
}

fn compare(truth: &Truth, figures: &Value, waited: Duration) -> Comparison {
    let mut rows = Vec::new();
    let mut row = |name: String, counted: i64, truth: i64| rows.push(ComparedFigure { name, counted, truth });
    let figure = |name: String| figures[name].as_i64().unwrap_or(0);
    for kind in KINDS {
        let known = |counts: &tally_traffic::generate::Counts| counts.get(kind).copied().unwrap_or(0) as i64;
        row(format!("{kind}s received"), figure(format!("gross_{kind}s")), known(&truth.received));
        row("  counted".to_owned(), figure(format!("{kind}s")), known(&truth.counted));
        row("  duplicates".to_owned(), figure(format!("duplicate_{kind}s")), known(&truth.duplicate));
        row("  robots".to_owned(), figure(format!("invalid_givt_{kind}s")), known(&truth.invalid_givt));
    }
    row("cost, micros (all currencies)".to_owned(), figure("cost_micros".to_owned()), truth.cost_micros.values().sum());
    row(
        "revenue, micros (all currencies)".to_owned(),
        figure("revenue_micros".to_owned()),
        truth.revenue_micros.values().sum(),
    );
    let counted_after_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Comparison { events: Truth::total(&truth.received), counted_after_ms, rows }
}

fn table_of(rows: &[ComparedFigure]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["", "counted", "known truth", ""]);
    for ComparedFigure { name, counted, truth } in rows {
        let mark = if counted == truth { "=" } else { "DIFFERS" };
        table.add_row([name, &grouped(*counted), &grouped(*truth), mark]);
    }
    for at in [1, 2] {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Where the desktop has a way to; where not, the address stands on the screen.
fn open_in_browser(url: &str) {
    let opening = std::process::Command::new("xdg-open").arg(url).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = opening {
        note(format!("cannot open a browser with `xdg-open`: {error}; open {url}/ yourself"));
    }
}

fn what_next(url: &str) -> String {
    format!(
        "Try, in another terminal (Ctrl-C here ends the demo):\n\
         \x20 tally query clicks,gross_clicks,duplicate_clicks,invalid_clicks,ctr --by campaign_id --order -clicks --limit 5 --server {url}\n\
         \x20 tally verify --recount --server {url}\n\
         \x20 curl -s {url}/v1/verify\n\
         \x20 curl -s {url}/v1/events -d '{{\"kind\":\"click\",\"campaign_id\":\"mine\",\"ad_id\":\"a1\",\"user_agent\":\"me\"}}'\n\
         \x20 curl -s {url}/v1/query -d '{{\"metrics\":[\"clicks\"],\"group_by\":[\"campaign_id\"],\"from\":\"2020-01-01T00:00:00Z\",\"to\":\"2030-01-01T00:00:00Z\"}}'\n\
         \x20 curl -s {url}/metrics"
    )
}

/// The demo's data: a folder of its own that is removed, or one that was asked for and stays.
struct DemoFolder {
    path: std::path::PathBuf,
    is_ours: bool,
}

impl DemoFolder {
    fn new(arguments: &DemoArguments) -> Result<Self> {
        if let Some(path) = &arguments.data {
            let is_empty = !path.exists() || std::fs::read_dir(path)?.next().is_none();
            ensure!(
                is_empty,
                "`{}` is not empty; the demo compares with a known truth, and needs a fresh folder",
                path.display()
            );
            return Ok(Self { path: path.clone(), is_ours: false });
        }
        let path = std::env::temp_dir().join(format!("tally-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self { path, is_ours: true })
    }

    fn remove(&self) {
        if self.is_ours {
            // What is left behind is in the system's folder for such things.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
