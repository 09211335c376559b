//! More than can be kept, for minutes: batches of impressions as fast as they are answered, whatever the answer; beside them clicks
//! at a steady rate, and reports one after the other. At the end every accepted event must be in the figures, exactly once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tally_model::{Clock, SystemClock};
use tally_traffic::{Generator, Plan};
use tokio::task::JoinSet;

use super::child::ServerProcess;
use super::http::Connection;
use super::load::{Load, Loop, Requests};
use super::median;
use crate::commands::query::grouped;
use crate::commands::say;

/// Connections that send batches, and how many events are in one.
const SENDERS: usize = 16;
const BATCH_EVENTS: usize = 2_000;
/// Connections that clicks are spread over.
const CLICK_CONNECTIONS: usize = 64;
/// So long the server is given all that it takes, to learn its top rate.
const TOP_RATE_TIME: Duration = Duration::from_secs(10);
const RECOVERY_TIME: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub time: Duration,
    pub clicks_per_second: f64,
    pub behind_bytes: u64,
}

/// What the senders of batches were told.
#[derive(Debug, Default)]
struct Flood {
    accepted: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

pub(super) async fn run(options: Options) -> Result<()> {
    let Options { time, clicks_per_second, behind_bytes } = options;
    let server = ServerProcess::start_with(&[("TALLY__JOURNAL__BEHIND_BYTES", behind_bytes.to_string())]).await?;
    let address = server.address;
    let flood = Arc::new(Flood::default());
    let (batch, clicks) = (batch_request(address, BATCH_EVENTS)?, click_requests(address)?);
    let senders = start_flood(&flood, address, batch);

    tokio::time::sleep(TOP_RATE_TIME).await;
    let top_rate = flood.accepted.load(Ordering::Relaxed) as f64 / TOP_RATE_TIME.as_secs_f64();
    say(format!("taken at first, until the journal fills up: {} events/s", grouped(top_rate as i64)));
    let (accepted_before, refused_before) =
        (flood.accepted.load(Ordering::Relaxed), flood.refused.load(Ordering::Relaxed));

    let load =
        Load { to: address, how: Loop::Open { per_second: clicks_per_second }, connections: CLICK_CONNECTIONS, time };
    let clicking = tokio::task::spawn_blocking(move || load.run(&clicks));
    let watching = watch(&server, time);
    let (clicked, watched) = tokio::join!(clicking, watching);
    let (clicked, watched) = (clicked??.all_answered()?, watched?);
    let offered = flood.accepted.load(Ordering::Relaxed) + flood.refused.load(Ordering::Relaxed)
        - accepted_before
        - refused_before;
    flood.stop.store(true, Ordering::Relaxed);
    let stopped = Instant::now();
    senders.join_all().await.into_iter().collect::<Result<()>>()?;
    let accepted = flood.accepted.load(Ordering::Relaxed);

    while server.metric("tally_pipeline_lag_records").await? > 0.0 {
        ensure!(stopped.elapsed() < RECOVERY_TIME, "the pipeline did not catch up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let caught_up_s = stopped.elapsed().as_secs_f64();
    let clicks = clicked.latencies_us.len() as u64;
    let seconds = clicked.elapsed.as_secs_f64();
    ensure_counted(&server, accepted, clicks).await?;

    let quantile_ms = |part: f64| clicked.quantile_ms(part);
    say(format!("{} s of overload, {SENDERS} senders of {BATCH_EVENTS} impressions a batch", time.as_secs()));
    say(format!("offered          {:>12} events/s", grouped((offered as f64 / seconds) as i64)));
    say(format!(
        "accepted         {:>12} events/s; all of them and {} clicks are in the figures, once each",
        grouped(((accepted - accepted_before) as f64 / seconds) as i64),
        grouped(clicks as i64)
    ));
    say(format!(
        "clicks           {:>12} a second, none refused: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms",
        grouped(clicks_per_second as i64),
        quantile_ms(0.5),
        quantile_ms(0.99),
        quantile_ms(0.999),
        quantile_ms(1.0)
    ));
    say(format!("reports          {:>12} answered, median {:.0} ms", watched.reports, watched.report_ms));
    say(format!(
        "memory           {:>12.0} MB after a fifth of the time ({:.0} of ids), {:.0} MB at its end ({:.0}), {:.0} MB at most",
        watched.early.all_mb,
        watched.early.ids_mb,
        watched.late.all_mb,
        watched.late.ids_mb,
        server.peak_memory_bytes()? as f64 / 1e6
    ));
    say(format!("all counted      {caught_up_s:>12.1} s after the overload ended"));
    Ok(())
}

/// One batch of impressions without ids, so that each time it is sent it is other events.
pub(super) fn batch_request(address: SocketAddr, count: usize) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for line in events(count, "impression")? {
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    let body = zstd::encode_all(lines.as_slice(), 1)?;
    let length = body.len();
    let head = "content-type: application/x-ndjson\r\ncontent-encoding: zstd\r\ncontent-length";
    let mut request =
        format!("POST /v1/events/batch HTTP/1.1\r\nhost: {address}\r\n{head}: {length}\r\n\r\n").into_bytes();
    request.extend(body);
    Ok(request)
}

pub(super) fn click_requests(address: SocketAddr) -> Result<Arc<Requests>> {
    let posts = events(1_000, "click")?.into_iter().map(|event| {
        let body = event.to_string();
        let length = body.len();
        let head = "content-type: application/json\r\ncontent-length";
        format!("POST /v1/events HTTP/1.1\r\nhost: {address}\r\n{head}: {length}\r\n\r\n{body}").into_bytes()
    });
    Ok(Requests::new(posts))
}

fn events(count: usize, kind: &str) -> Result<Vec<Value>> {
    let mut generator = Generator::new(Plan { events: count as u64, ..Plan::default() })?;
    (0..count)
        .map(|_| {
            let mut event: Value = serde_json::from_str(&generator.next_at(SystemClock.now_us()).line)?;
            event["kind"] = json!(kind);
            // By nobody in particular: what is accepted is to be counted, not to be thought a double click or a robot.
            if let Some(fields) = event.as_object_mut() {
                fields.retain(|name, _| !["event_id", "user_id", "user_agent", "click_id"].contains(&name.as_str()));
            }
            Ok(event)
        })
        .collect()
}

fn start_flood(flood: &Arc<Flood>, address: SocketAddr, batch: Vec<u8>) -> JoinSet<Result<()>> {
    let batch = Arc::new(batch);
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (flood, batch) = (Arc::clone(flood), Arc::clone(&batch));
        senders.spawn(async move {
            let mut connection = Connection::open(address).await?;
            while !flood.stop.load(Ordering::Relaxed) {
                let told = match connection.exchange(&batch).await? {
                    202 => &flood.accepted,
                    503 => &flood.refused,
                    other => bail!("a batch was answered {other}"),
                };
                told.fetch_add(BATCH_EVENTS as u64, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    senders
}

struct Watched {
    reports: usize,
    report_ms: f64,
    early: Memory,
    late: Memory,
}

struct Memory {
    all_mb: f64,
    ids_mb: f64,
}

impl Memory {
    async fn of(server: &ServerProcess) -> Result<Self> {
        let ids_bytes = server.metrics().await?.ids_bytes()?;
        Ok(Self { all_mb: server.memory_bytes()? as f64 / 1e6, ids_mb: ids_bytes as f64 / 1e6 })
    }
}

/// Asks one question after the other, and looks at the server's memory.
async fn watch(server: &ServerProcess, time: Duration) -> Result<Watched> {
    let http = reqwest::Client::new();
    let question = json!({
        "metrics": ["impressions", "clicks", "ctr"], "group_by": ["campaign_id", "device"],
        "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"
    });
    let started = Instant::now();
    let (mut times_ms, mut early) = (Vec::new(), None);
    while started.elapsed() < time {
        let asked = Instant::now();
        let answer = http.post(format!("{}/v1/query", server.url())).json(&question).send().await?;
        ensure!(answer.status().is_success(), "a report was answered {}", answer.status());
        answer.bytes().await?;
        times_ms.push(asked.elapsed().as_secs_f64() * 1e3);
        if early.is_none() && started.elapsed() > time / 5 {
            early = Some(Memory::of(server).await?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let late = Memory::of(server).await?;
    let (reports, report_ms) = (times_ms.len(), median(&mut times_ms));
    Ok(Watched { reports, report_ms, early: early.context("the overload ended before a fifth of its time")?, late })
}

async fn ensure_counted(server: &ServerProcess, impressions: u64, clicks: u64) -> Result<()> {
    let question = json!({
        "metrics": ["gross_impressions", "impressions", "gross_clicks", "clicks"],
        "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"
    });
    let asked = reqwest::Client::new().post(format!("{}/v1/query", server.url())).json(&question).send().await?;
    let row = asked.json::<Value>().await?["rows"][0].clone();
    let expected = json!({
        "gross_impressions": impressions, "impressions": impressions, "gross_clicks": clicks, "clicks": clicks
    });
    for (name, expected) in expected.as_object().into_iter().flatten() {
        ensure!(row[name] == *expected, "{name} are {}, accepted were {expected}", row[name]);
    }
    Ok(())
}
