//! From HTTP to queryable: generated traffic in zstd batches, until the figures equal the truth.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tally_traffic::{Plan, SendOptions, Truth, progress_bar, send, write_to};

use super::child::{ServerProcess, folder_bytes};
use super::growth::Growth;
use super::median;
use crate::commands::query::grouped;
use crate::commands::say;

/// Single events that are timed from their answer to their place in a report.
const PROBES: usize = 5;

pub(super) async fn run(events: u64, concurrency: u16) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("tally-bench-traffic-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(events, concurrency, &folder.join("traffic.ndjson.zst")).await;
    let _ = std::fs::remove_dir_all(&folder);
    measured
}

async fn measure(events: u64, concurrency: u16, file: &std::path::Path) -> Result<()> {
    let mut compressed = zstd::Encoder::new(BufWriter::new(std::fs::File::create(file)?), 1)?;
    let truth = write_to(Plan { events, ..Plan::default() }, &mut compressed)?;
    compressed.finish()?.flush()?;

    let server = ServerProcess::start().await?;
    let cpu_before = server.cpu_seconds()?;
    let options = SendOptions { concurrency, ..SendOptions::to(server.url().parse()?) };
    let started = Instant::now();
    let mut growth = Growth::default();
    let work = async {
        let sent = send(&[file.to_owned()], &options, &progress_bar()).await?;
        let acknowledged = started.elapsed();
        ensure!(sent.accepted == events, "{} of {events} events were accepted", sent.accepted);
        wait_until_counted(&server, events).await?;
        anyhow::Ok(acknowledged)
    };
    let acknowledged = tokio::select! {
        done = work => done?,
        Err(error) = growth.watch(&server) => return Err(error.context("the server cannot be watched")),
    };
    let queryable = started.elapsed();
    let cpu = server.cpu_seconds()? - cpu_before;
    ensure_equal(&server, &truth).await?;

    let n = events as f64;
    say(format!(
        "{} events, {concurrency} requests at once, all figures equal the generated truth",
        grouped(events as i64)
    ));
    say(format!("acknowledged      {:>12} events/s", grouped((n / acknowledged.as_secs_f64()) as i64)));
    say(format!("HTTP to queryable {:>12} events/s", grouped((n / queryable.as_secs_f64()) as i64)));
    say(format!("server CPU        {:>12.2} us/event ({} events/s/core)", cpu * 1e6 / n, grouped((n / cpu) as i64)));
    say(format!("peak memory       {:>12.0} MB", server.peak_memory_bytes()? as f64 / 1e6));
    for table in ["events", "rollups"] {
        let bytes = table_bytes(&server, table).await?;
        say(format!("{table:<7} on disk   {:>12.1} bytes/event", bytes / n));
    }
    say(format!(
        "lake folder       {:>12.1} bytes/event, replaced files that are not yet swept included",
        folder_bytes(&server.data.join("lake")) as f64 / n
    ));
    say(format!(
        "to a report       {:>12.1} s from answer to figure (median of {PROBES} single clicks)",
        visibility(&server).await?
    ));
    growth.tell();
    Ok(())
}

async fn ask(server: &ServerProcess, question: &Value) -> Result<Value> {
    let answer: Value =
        reqwest::Client::new().post(format!("{}/v1/query", server.url())).json(question).send().await?.json().await?;
    Ok(answer["rows"][0].clone())
}

fn question(metrics: &[&str]) -> Value {
    json!({"metrics": metrics, "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})
}

async fn wait_until_counted(server: &ServerProcess, events: u64) -> Result<()> {
    let question = question(&["gross_impressions", "gross_clicks", "gross_conversions"]);
    loop {
        let row = ask(server, &question).await?;
        let received: u64 = row.as_object().into_iter().flat_map(|row| row.values()).filter_map(Value::as_u64).sum();
        if received >= events {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ensure_equal(server: &ServerProcess, truth: &Truth) -> Result<()> {
    let row =
        ask(server, &question(&["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"])).await?;
    for kind in ["impression", "click", "conversion"] {
        let known = truth.counted.get(kind).copied().unwrap_or(0);
        ensure!(row[format!("{kind}s")] == known, "{kind}s are {}, the truth is {known}", row[format!("{kind}s")]);
    }
    let cost: i64 = truth.cost_micros.values().sum();
    ensure!(row["cost_micros"] == cost, "the cost is {}, the truth is {cost}", row["cost_micros"]);
    Ok(())
}

async fn table_bytes(server: &ServerProcess, table: &str) -> Result<f64> {
    // The gauges are set by maintenance, which comes round every ten seconds.
    tokio::time::sleep(Duration::from_secs(if table == "events" { 25 } else { 0 })).await;
    let metrics = reqwest::get(format!("{}/metrics", server.url())).await?.text().await?;
    let name = format!("tally_lake_size_bytes{{table=\"{table}\"}} ");
    Ok(metrics
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .and_then(|value| value.parse().ok())
        .unwrap_or(f64::NAN))
}

/// Seconds from the answer to a click until a report counts it.
async fn visibility(server: &ServerProcess) -> Result<f64> {
    let http = reqwest::Client::new();
    let mut seconds = Vec::new();
    for probe in 0..PROBES {
        let campaign = format!("probe-{probe}");
        let click = json!({"kind": "click", "campaign_id": campaign, "ad_id": "a", "user_agent": "bench"});
        let answer = http.post(format!("{}/v1/events", server.url())).json(&click).send().await?;
        ensure!(answer.status().is_success(), "the server answered {}", answer.status());
        let answered = Instant::now();
        let mut question = question(&["clicks"]);
        question["filters"] = json!([{"field": "campaign_id", "values": [campaign]}]);
        while ask(server, &question).await?["clicks"] != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seconds.push(answered.elapsed().as_secs_f64());
    }
    Ok(median(&mut seconds))
}
