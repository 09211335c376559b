//! `tally bench reports`: what people ask over HTTP, of a data folder that has a past: one after the other on an idle server, then
//! on 1, 50 and 1,000 connections while events come in, then many heavy ones at once with light ones and clicks beside them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tally_model::{Clock, SystemClock};
use tokio::task::JoinHandle;

use super::child::ServerProcess;
use super::load::{Done, Load, Loop, Requests};
use super::overload::{batch_request, click_requests};
use crate::commands::say;

const CONNECTIONS: [usize; 3] = [1, 50, 1_000];
/// Heavy reports that are asked at once.
const HEAVY: usize = 50;
/// Clicks a second beside them.
const CLICKS_PER_S: f64 = 100.0;
/// Events of one request, of those that come in meanwhile.
const BATCH_EVENTS: usize = 200;
/// Before a server is measured: what it does after its start is over.
const SETTLING: Duration = Duration::from_secs(3);
const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

pub struct Options {
    pub data: PathBuf,
    pub events_per_second: u32,
    pub time: Duration,
}

pub async fn run(options: Options) -> Result<()> {
    let Options { data, events_per_second, time } = options;
    // Nothing is remembered here: every answer is found out.
    let server = ServerProcess::start_on(&data, &[("TALLY__REPORTS__CACHE_BYTES", "0".to_owned())]).await?;
    let past = Past::of(&server).await?;
    say(format!("{} campaigns over {} days", past.campaigns.len(), past.days()));
    let questions = past.questions(server.address);
    let [many, each, no, p50, p99, max] = ["connections", "answered/s", "refused", "p50 ms", "p99 ms", "max ms"];
    say(format!("{:<46} {many} {each} {no:>8} {p50:>9} {p99:>9} {max:>9}", "reports"));
    tokio::time::sleep(SETTLING).await;
    row("not cached, nothing comes in", 1, asked(&server, &questions, 1, time).await?);
    for (at, (name, ..)) in past.shapes().iter().enumerate() {
        let questions = past.questions_of(server.address, at);
        row(&format!("   {name}"), 1, asked(&server, &questions, 1, time / 5).await?);
    }
    let events = Events::start(&server, events_per_second)?;
    for connections in CONNECTIONS {
        let name = format!("not cached, {events_per_second} events/s come in");
        row(&name, connections, asked(&server, &questions, connections, time).await?);
    }
    events.stop().await?;
    say(heavy(&server, &past, &questions, time).await?);
    drop(server);

    let server = ServerProcess::start_on(&data, &[]).await?;
    tokio::time::sleep(SETTLING).await;
    let recent = Requests::new([question(server.address, &past.recent())]);
    row("one report of the last hour, again and again", 1, asked(&server, &recent, 1, time).await?);
    let events = Events::start(&server, events_per_second)?;
    row("the same, while events come in", 1, asked(&server, &recent, 1, time).await?);
    for connections in CONNECTIONS {
        let name = format!("as shipped, {events_per_second} events/s come in");
        row(&name, connections, asked(&server, &questions, connections, time).await?);
    }
    events.stop().await?;
    Ok(())
}

/// The load of so many people who each ask the next question once the last is answered.
async fn asked(server: &ServerProcess, questions: &Arc<Requests>, connections: usize, time: Duration) -> Result<Done> {
    let load = Load { to: server.address, how: Loop::Closed, connections, time };
    let questions = questions.clone();
    tokio::task::spawn_blocking(move || load.run(&questions)).await?
}

/// Said as it is measured, since all of it takes minutes.
fn row(name: &str, connections: usize, done: Done) {
    let per_second = done.latencies_us.len() as f64 / done.elapsed.as_secs_f64();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| done.quantile_ms(part));
    let refused = done.refused;
    say(format!("{name:<46} {connections:>11} {per_second:>10.0} {refused:>8} {p50:>9.2} {p99:>9.2} {max:>9.2}"));
}

/// Many reports over raw events at once; how long until the last is answered, and what others wait meanwhile.
async fn heavy(server: &ServerProcess, past: &Past, light: &Arc<Requests>, time: Duration) -> Result<String> {
    let heavy = Requests::new((0..HEAVY).map(|nth| question(server.address, &past.heavy(nth))));
    let began = Instant::now();
    // Each connection asks once: the next question of one that is answered would be due after the time.
    let all = asked(server, &heavy, HEAVY, Duration::from_millis(100));
    let lights = asked(server, light, 1, time);
    let load = Load { to: server.address, how: Loop::Open { per_second: CLICKS_PER_S }, connections: 4, time };
    let clicks = click_requests(server.address)?;
    let clicks = tokio::task::spawn_blocking(move || load.run(&clicks));
    let (all, lights, clicks) = tokio::join!(all, lights, clicks);
    let (all, lights, clicks) = (all?, lights?, clicks??.all_answered()?);
    ensure!(all.latencies_us.len() >= HEAVY, "{} of {HEAVY} heavy reports were answered", all.latencies_us.len());
    Ok(format!(
        "{} heavy reports over raw events at once, answered within {:.1} s (first {:.1} s); beside them a light report p50 {:.1} \
         ms, p99 {:.0} ms, and a durable click p50 {:.1} ms, p99 {:.0} ms ({:.0} s in all)",
        all.latencies_us.len(),
        all.quantile_ms(1.0) / 1e3,
        all.quantile_ms(0.0) / 1e3,
        lights.quantile_ms(0.5),
        lights.quantile_ms(0.99),
        clicks.quantile_ms(0.5),
        clicks.quantile_ms(0.99),
        began.elapsed().as_secs_f64(),
    ))
}

/// Events that come in beside what is measured.
struct Events {
    running: JoinHandle<Result<()>>,
    stop: Arc<AtomicBool>,
}

impl Events {
    fn start(server: &ServerProcess, per_second: u32) -> Result<Self> {
        let batch = Requests::new([batch_request(server.address, BATCH_EVENTS)?]);
        let per_second = f64::from(per_second) / BATCH_EVENTS as f64;
        let stop = Arc::new(AtomicBool::new(false));
        let (to, stopped) = (server.address, stop.clone());
        let running = tokio::task::spawn_blocking(move || {
            let time = Duration::from_secs(1);
            let mut refused = 0;
            while !stopped.load(Ordering::Relaxed) {
                refused += Load { to, how: Loop::Open { per_second }, connections: 4, time }.run(&batch)?.refused;
            }
            ensure!(refused == 0, "the server refused {refused} batches of the events that come in meanwhile");
            Ok(())
        });
        Ok(Self { running, stop })
    }

    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await?
    }
}

/// What there is to ask about.
struct Past {
    campaigns: Vec<String>,
    from_us: i64,
    to_us: i64,
}

impl Past {
    async fn of(server: &ServerProcess) -> Result<Self> {
        let everything = json!({
            "metrics": ["gross_impressions"], "group_by": ["campaign_id", "day"], "limit": 1_000_000,
            "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        });
        let asked = reqwest::Client::new().post(format!("{}/v1/query", server.url())).json(&everything);
        let answer: Value = asked.send().await?.error_for_status()?.json().await?;
        let (mut campaigns, mut days) = (BTreeMap::new(), Vec::new());
        for row in answer["rows"].as_array().into_iter().flatten() {
            let count = row["gross_impressions"].as_i64().unwrap_or_default();
            *campaigns.entry(row["campaign_id"].as_str().unwrap_or_default().to_owned()).or_insert(0) += count;
            days.push(row["day"].as_str().unwrap_or_default().to_owned());
        }
        days.sort();
        let (Some(first), Some(last)) = (days.first(), days.last()) else {
            bail!("the folder has no events; docs/performance.md says how to make some");
        };
        let at_us =
            |day: &str| -> Result<i64> { Ok(format!("{day}T00:00:00Z").parse::<Timestamp>()?.as_microsecond()) };
        let mut campaigns: Vec<(String, i64)> = campaigns.into_iter().collect();
        campaigns.sort_by_key(|(name, count)| (-count, name.clone()));
        let campaigns = campaigns.into_iter().map(|(name, _)| name).take(100).collect();
        Ok(Self { campaigns, from_us: at_us(first)?, to_us: at_us(last)? + DAY_US })
    }

    fn days(&self) -> i64 {
        (self.to_us - self.from_us) / DAY_US
    }

    /// What is asked most: a name, what to ask, and over how many days.
    fn shapes(&self) -> [(&'static str, Value, i64); 7] {
        let usual = json!(["impressions", "clicks", "ctr", "cost_micros", "revenue_micros"]);
        [
            ("a campaign by day, 7 days", json!({"metrics": usual, "group_by": ["day"]}), 7),
            ("a campaign by hour, a day", json!({"metrics": usual, "group_by": ["hour"]}), 1),
            ("a campaign by ad, 7 days", json!({"metrics": usual, "group_by": ["ad_id"]}), 7),
            ("a campaign by country, 30 days", json!({"metrics": usual, "group_by": ["country"]}), 30),
            ("a campaign by device and system, 7 days", json!({"metrics": usual, "group_by": ["device", "os"]}), 7),
            ("a campaign's audience, 30 days", json!({"metrics": usual, "group_by": ["age_group", "gender"]}), 30),
            ("a campaign's users, 30 days", json!({"metrics": ["impressions", "users"], "group_by": []}), 30),
        ]
    }

    /// Every shape of every campaign, over days that begin at various ones.
    fn questions(&self, to: SocketAddr) -> Arc<Requests> {
        let count = self.campaigns.len() * self.shapes().len();
        Requests::new((0..count).map(|nth| question(to, &self.ask(nth % self.shapes().len(), nth))))
    }

    fn questions_of(&self, to: SocketAddr, shape: usize) -> Arc<Requests> {
        Requests::new((0..self.campaigns.len()).map(|nth| question(to, &self.ask(shape, nth))))
    }

    fn ask(&self, shape: usize, nth: usize) -> Value {
        let (_, mut ask, days) = self.shapes()[shape].clone();
        let days = days.min(self.days());
        let starts = self.days() - days + 1;
        let from_us = self.from_us + (nth as i64 * 7) % starts * DAY_US;
        ask["filters"] = json!([{"field": "campaign_id", "values": [self.campaigns[nth % self.campaigns.len()]]}]);
        between(&mut ask, from_us, from_us + days * DAY_US);
        ask
    }

    /// The last hour of the busiest campaign by minute, the one under way included.
    fn recent(&self) -> Value {
        let mut ask = json!({"metrics": ["impressions", "clicks", "ctr"], "group_by": ["minute"]});
        ask["filters"] = json!([{"field": "campaign_id", "values": [self.campaigns[0]]}]);
        let to_us = (SystemClock.now_us() / MINUTE_US + 1) * MINUTE_US;
        between(&mut ask, to_us - HOUR_US, to_us);
        ask
    }

    /// Over raw events, since no rollup has ad and country together.
    fn heavy(&self, nth: usize) -> Value {
        let mut ask = json!({"metrics": ["impressions", "users", "cost_micros"], "group_by": ["ad_id", "country"]});
        ask["limit"] = json!(100);
        between(&mut ask, self.from_us, self.to_us - (nth as i64 % self.days()) * HOUR_US);
        ask
    }
}

fn between(ask: &mut Value, from_us: i64, to_us: i64) {
    let time = |us: i64| Timestamp::from_microsecond(us).map(|at| at.to_string()).unwrap_or_default();
    (ask["from"], ask["to"]) = (json!(time(from_us)), json!(time(to_us)));
}

fn question(to: SocketAddr, ask: &Value) -> Vec<u8> {
    let body = ask.to_string();
    let head = "content-type: application/json\r\ncontent-length";
    format!("POST /v1/query HTTP/1.1\r\nhost: {to}\r\n{head}: {}\r\n\r\n{body}", body.len()).into_bytes()
}
