//! Single events over HTTP, each answered after its sync; beside `/healthz`, an empty answer on the same stack.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tally_model::{Clock, SystemClock};
use tally_traffic::{Generator, Plan};

use super::child::ServerProcess;
use super::http::Connection;
use super::median;
use crate::commands::query::grouped;
use crate::commands::say;

/// Different events that the generator's connections send in turn; their ids repeat, which capture does not see.
const EVENTS: u64 = 5_000;

pub(super) async fn run(connections: usize, seconds: u64, rounds: usize) -> Result<()> {
    let server = ServerProcess::start().await?;
    let host = server.address;
    let empty = vec![format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()];
    let mut generator = Generator::new(Plan { events: EVENTS, ..Plan::default() })?;
    let events: Vec<Vec<u8>> = std::iter::repeat_with(|| generator.next_at(SystemClock.now_us()).line)
        .take(EVENTS as usize)
        .map(|line| format!("POST /v1/events HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{line}", line.len()).into_bytes())
        .collect();
    let event_bytes: usize = events.iter().map(Vec::len).sum::<usize>() / events.len();
    say(format!(
        "closed loop, {connections} connections, {rounds} rounds of {seconds} s each, requests of {event_bytes} bytes"
    ));
    let (mut empties, mut durables) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        empties.push(round(&server, &empty, connections, seconds).await?);
        durables.push(round(&server, &events, connections, seconds).await?);
    }
    let (empty, durable) = (Summary::of(&empties), Summary::of(&durables));
    say(format!(
        "{:<22} {:>12} {:>14} {:>10} {:>10} {:>10}",
        "", "requests/s", "CPU us/request", "p50 ms", "p99 ms", "p99.9 ms"
    ));
    for (name, summary) in [("empty answer", &empty), ("event, after its sync", &durable)] {
        say(format!(
            "{name:<22} {:>12} {:>14.1} {:>10.2} {:>10.2} {:>10.2}",
            grouped(summary.per_second as i64),
            summary.cpu_us,
            summary.p50_ms,
            summary.p99_ms,
            summary.p999_ms
        ));
    }
    say(format!(
        "ratios: {:.2} of the throughput, {:.2} times the CPU of an empty answer",
        durable.per_second / empty.per_second,
        durable.cpu_us / empty.cpu_us
    ));
    Ok(())
}

/// One round's figures.
struct Round {
    per_second: f64,
    cpu_us: f64,
    /// Sorted.
    latencies_us: Vec<u32>,
}

struct Summary {
    per_second: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

impl Summary {
    /// Medians over the rounds.
    fn of(rounds: &[Round]) -> Self {
        let over = |of: &dyn Fn(&Round) -> f64| median(&mut rounds.iter().map(of).collect::<Vec<_>>());
        let percentile = |part: f64| {
            over(&|round| {
                let at = (round.latencies_us.len() as f64 * part) as usize;
                f64::from(round.latencies_us.get(at).copied().unwrap_or(0)) / 1_000.0
            })
        };
        Self {
            per_second: over(&|round| round.per_second),
            cpu_us: over(&|round| round.cpu_us),
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
            p999_ms: percentile(0.999),
        }
    }
}

async fn round(server: &ServerProcess, requests: &[Vec<u8>], connections: usize, seconds: u64) -> Result<Round> {
    let cpu_before = server.cpu_seconds()?;
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut running = tokio::task::JoinSet::new();
    for connection in 0..connections {
        let (address, requests) = (server.address, requests.to_vec());
        running.spawn(async move {
            let mut http = Connection::open(address).await?;
            let mut latencies_us = Vec::new();
            for request in requests.iter().cycle().skip(connection * 17 % requests.len()) {
                let sent = Instant::now();
                if sent >= until {
                    break;
                }
                let status = http.exchange(request).await?;
                ensure!(status < 300, "the server answered {status}");
                latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(latencies_us)
        });
    }
    let mut latencies_us = Vec::new();
    while let Some(done) = running.join_next().await {
        latencies_us.extend(done??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = server.cpu_seconds()? - cpu_before;
    latencies_us.sort_unstable();
    let n = latencies_us.len() as f64;
    Ok(Round { per_second: n / elapsed, cpu_us: cpu * 1e6 / n, latencies_us })
}
