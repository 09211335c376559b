//! Single events over HTTP, each answered after its sync. Beside it, in turn, the same HTTP stack answering 204 to the same
//! requests without work; and nginx with a redirect and a log line, where it is installed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tally_model::{Clock, SystemClock};
use tally_traffic::{Generator, Plan};

use super::child::ServerProcess;
use super::cpu::CpuTime;
use super::load::{Done, Load, Loop, Requests};
use super::{median, nginx};
use crate::commands::query::grouped;
use crate::commands::say;

/// Different events that the generator's connections send in turn, each time under another id.
const EVENTS: u64 = 5_000;
/// How long the pipeline may take to catch up after a round, so that the next one has the machine to itself.
const CATCH_UP_TIME: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub connections: usize,
    pub time: Duration,
    pub rounds: usize,
    pub per_second: f64,
}

/// One server, and the rounds that it was measured in.
struct Side {
    name: &'static str,
    server: ServerProcess,
    requests: Arc<Requests>,
    /// Whether it has a journal to ask about.
    is_tally: bool,
}

pub(super) async fn run(options: Options) -> Result<()> {
    let sides = sides().await?;
    let request_bytes = sides[0].requests.mean_bytes();
    let Options { connections, rounds, .. } = options;
    let seconds = options.time.as_secs();
    say(format!(
        "{connections} connections, requests of {request_bytes} bytes, medians of {rounds} rounds of {seconds} s, in turn"
    ));
    let closed = measure(&sides, options, Loop::Closed).await?;
    let per_second = options.per_second;
    let open = measure(&sides, options, Loop::Open { per_second }).await?;

    show("closed loop", &sides, &closed);
    say(format!(
        "event / empty answer: {:.2} of the throughput; CPU {:.2} times in capture's threads, {:.2} times with deduplication, \
         verdicts, rollups and the lake",
        closed[0].per_second / closed[1].per_second,
        closed[0].capture_us / closed[1].capture_us,
        closed[0].all_us / closed[1].all_us
    ));
    show(
        &format!("open loop, {} requests/s offered, times from when each was due", grouped(per_second as i64)),
        &sides,
        &open,
    );
    Ok(())
}

async fn sides() -> Result<Vec<Side>> {
    let mut generator = Generator::new(Plan { events: EVENTS, ..Plan::default() })?;
    let bodies: Vec<_> =
        std::iter::repeat_with(|| generator.next_at(SystemClock.now_us()).line).take(EVENTS as usize).collect();
    let posts = |server: &ServerProcess| {
        let post = |body: &String| {
            let (host, bytes) = (server.address, body.len());
            let head = "content-type: application/json\r\ncontent-length";
            format!("POST /v1/events HTTP/1.1\r\nhost: {host}\r\n{head}: {bytes}\r\n\r\n{body}").into_bytes()
        };
        Requests::new(bodies.iter().map(post))
    };
    let server = ServerProcess::start().await?;
    let tally = Side { name: "event, after its sync", requests: posts(&server), server, is_tally: true };
    let server = ServerProcess::start_empty().await?;
    let empty = Side { name: "empty answer", requests: posts(&server), server, is_tally: false };
    let mut sides = vec![tally, empty];
    match nginx::start().await? {
        Some(server) => {
            let get = format!("GET /?campaign_id=c&ad_id=a HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
            let requests = Requests::new([get.into_bytes()]);
            sides.push(Side { name: "nginx, 302 and log", requests, server, is_tally: false });
        }
        None => say("nginx is not measured, since it is not installed"),
    }
    Ok(sides)
}

/// Medians over the rounds.
struct Figures {
    per_second: f64,
    all_us: f64,
    /// Of the threads that take events in.
    capture_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    syncs_per_second: f64,
    events_per_sync: f64,
}

struct Round {
    done: Done,
    cpu: CpuTime,
    syncs: f64,
}

async fn measure(sides: &[Side], options: Options, how: Loop) -> Result<Vec<Figures>> {
    let mut rounds: Vec<Vec<Round>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (side, rounds) in sides.iter().zip(&mut rounds) {
            rounds.push(side.round(options, how).await?);
        }
    }
    Ok(rounds.iter().map(|rounds| Figures::of(rounds)).collect())
}

impl Side {
    async fn round(&self, options: Options, how: Loop) -> Result<Round> {
        let Options { connections, time, .. } = options;
        let (syncs_before, cpu_before) = (self.syncs().await?, self.server.cpu_time()?);
        let load = Load { to: self.server.address, how, connections, time };
        let requests = Arc::clone(&self.requests);
        let done = tokio::task::spawn_blocking(move || load.run(&requests)).await??.all_answered()?;
        let mut cpu = self.server.cpu_time()? - cpu_before;
        let syncs = self.syncs().await? - syncs_before;
        if self.is_tally {
            self.catch_up().await?;
            cpu.all_s = self.server.cpu_time()?.all_s - cpu_before.all_s;
        }
        Ok(Round { done, cpu, syncs })
    }

    async fn catch_up(&self) -> Result<()> {
        let started = Instant::now();
        while self.server.metric("tally_pipeline_lag_records").await? > 0.0 {
            ensure!(started.elapsed() < CATCH_UP_TIME, "the pipeline did not catch up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn syncs(&self) -> Result<f64> {
        if self.is_tally { self.server.metric("tally_journal_sync_seconds_count").await } else { Ok(0.0) }
    }
}

impl Figures {
    fn of(rounds: &[Round]) -> Self {
        let over = |of: &dyn Fn(&Round) -> f64| median(&mut rounds.iter().map(of).collect::<Vec<_>>());
        let answered = |round: &Round| round.done.latencies_us.len() as f64;
        let quantile_ms = |part: f64| over(&|round| round.done.quantile_ms(part));
        Self {
            per_second: over(&|round| answered(round) / round.done.elapsed.as_secs_f64()),
            all_us: over(&|round| round.cpu.all_s * 1e6 / answered(round)),
            capture_us: over(&|round| round.cpu.capture_s * 1e6 / answered(round)),
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            p999_ms: quantile_ms(0.999),
            max_ms: quantile_ms(1.0),
            syncs_per_second: over(&|round| round.syncs / round.done.elapsed.as_secs_f64()),
            events_per_sync: over(&|round| answered(round) / round.syncs),
        }
    }
}

fn show(title: &str, sides: &[Side], figures: &[Figures]) {
    say(title);
    say(format!(
        "{:<22} {:>11} {:>15} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>11}",
        "", "requests/s", "CPU us: capture", "all", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "syncs/s", "events/sync"
    ));
    for (side, figures) in sides.iter().zip(figures) {
        let of_tally = |figure: String| if side.is_tally { figure } else { String::new() };
        let capture_us = if figures.capture_us > 0.0 { format!("{:.1}", figures.capture_us) } else { String::new() };
        say(format!(
            "{:<22} {:>11} {:>15} {:>9.1} {:>8.2} {:>8.2} {:>8.2} {:>8.1} {:>8} {:>11}",
            side.name,
            grouped(figures.per_second as i64),
            capture_us,
            figures.all_us,
            figures.p50_ms,
            figures.p99_ms,
            figures.p999_ms,
            figures.max_ms,
            of_tally(grouped(figures.syncs_per_second as i64)),
            of_tally(format!("{:.1}", figures.events_per_sync))
        ));
    }
}
