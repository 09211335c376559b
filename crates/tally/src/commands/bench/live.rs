//! People who look at the live figures while clicks come in: what they cost the server, and how long a push takes to reach them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_model::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::child::ServerProcess;
use super::load::{Load, Loop};
use super::overload::click_requests;
use crate::commands::say;

/// Connections that clicks are spread over.
const CLICK_CONNECTIONS: usize = 16;
/// The server is left alone for so long before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// The least of a WebSocket handshake (RFC 6455); the key is that of its example.
const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
/// More than the server sends in one message.
const FRAME_BYTES_MAX: u64 = 1 << 20;
const TEXT_FRAME: u8 = 0x81;

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub connections: usize,
    pub clicks_per_second: f64,
    pub time: Duration,
}

pub(super) async fn run(options: Options) -> Result<()> {
    let Options { connections, clicks_per_second, time } = options;
    let server = ServerProcess::start_with(&[("TALLY__PIPELINE__COMMIT_AFTER_MS", "1000".to_owned())]).await?;
    let alone = measure(&server, options, 0).await?;
    let watched = measure(&server, options, connections).await?;
    let mut delays_ms = watched.delays_ms;
    delays_ms.sort_by(f64::total_cmp);
    ensure!(!delays_ms.is_empty(), "nothing was pushed");
    let quantile = |part: f64| delays_ms[((delays_ms.len() as f64 * part) as usize).min(delays_ms.len() - 1)];
    let cost = (watched.cpu_s - alone.cpu_s) / time.as_secs_f64();
    say(format!("{} s, {clicks_per_second} clicks a second, {connections} connections", time.as_secs()));
    say(format!(
        "pushes           {:>10} of {:.1} KB",
        delays_ms.len(),
        watched.bytes as f64 / delays_ms.len() as f64 / 1e3
    ));
    say(format!(
        "delay            {:>10.1} ms p50, {:.1} ms p99, {:.1} ms at most, from the figures to the viewer",
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    ));
    say(format!(
        "CPU              {:>10.1} % of a core without viewers, {:.1} % with them: {:.3} % for each",
        100.0 * alone.cpu_s / time.as_secs_f64(),
        100.0 * watched.cpu_s / time.as_secs_f64(),
        100.0 * cost / connections.max(1) as f64
    ));
    Ok(())
}

struct Measured {
    cpu_s: f64,
    delays_ms: Vec<f64>,
    bytes: u64,
}

async fn measure(server: &ServerProcess, options: Options, connections: usize) -> Result<Measured> {
    let load = Load {
        to: server.address,
        how: Loop::Open { per_second: options.clicks_per_second },
        connections: CLICK_CONNECTIONS,
        time: WARM_UP + options.time,
    };
    let clicks = click_requests(server.address)?;
    let clicking = tokio::task::spawn_blocking(move || load.run(&clicks));
    tokio::time::sleep(WARM_UP).await;
    let before_s = server.cpu_seconds()?;
    let mut viewers = JoinSet::new();
    for _ in 0..connections {
        viewers.spawn(view(server.address, Instant::now() + options.time));
    }
    tokio::time::sleep(options.time).await;
    let cpu_s = server.cpu_seconds()? - before_s;
    let mut measured = Measured { cpu_s, delays_ms: Vec::new(), bytes: 0 };
    while let Some(seen) = viewers.join_next().await {
        let (delays_ms, bytes) = seen??;
        measured.delays_ms.extend(delays_ms);
        measured.bytes += bytes;
    }
    clicking.await??.all_answered()?;
    Ok(measured)
}

/// How old each frame is when it is here, in milliseconds, and the bytes of all.
async fn view(address: SocketAddr, until: Instant) -> Result<(Vec<f64>, u64)> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let request = format!("GET /v1/live HTTP/1.1\r\nhost: {address}\r\n{HANDSHAKE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    ensure!(head.starts_with(b"HTTP/1.1 101"), "the server did not open a WebSocket");
    let (mut delays_ms, mut bytes) = (Vec::new(), 0);
    while Instant::now() < until {
        let text = frame(&mut stream).await?;
        let here_us = SystemClock.now_us();
        bytes += text.len() as u64;
        let told: Value = serde_json::from_slice(&text).context("a frame is no JSON")?;
        let at_ms = told["at_ms"].as_i64().context("a frame does not say when it is from")?;
        delays_ms.push((here_us as f64 / 1_000.0 - at_ms as f64).max(0.0));
    }
    Ok((delays_ms, bytes))
}

/// A whole text message: a server masks nothing and does not split what it sends at once (RFC 6455, 5.2).
async fn frame(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    ensure!(stream.read_u8().await? == TEXT_FRAME, "the server sent something else than a whole text");
    let length = match stream.read_u8().await? {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let mut text = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut text).await?;
    Ok(text)
}
