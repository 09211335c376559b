//! Traffic on kept connections, in two ways. In a closed loop each connection sends its next request once the last is answered:
//! it finds the top rate. In an open loop requests fall due at a fixed rate whatever the server does, and the time of one
//! runs from when it was due: a server that stalls is charged for all that had to wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::http::Connection;

/// What is sent: whole requests in turn, each with an event id of its own, where they have one.
pub(super) struct Requests {
    texts: Vec<(Vec<u8>, Option<usize>)>,
    sent: AtomicU64,
}

/// In an id, where its last twelve digits begin.
const LAST_DIGITS_AT: usize = 24;

impl Requests {
    pub fn new(texts: impl IntoIterator<Item = Vec<u8>>) -> Arc<Self> {
        let name = b"\"event_id\":\"";
        let with_id = |text: Vec<u8>| {
            let id = text.windows(name.len()).position(|window| window == name).map(|at| at + name.len());
            (text, id.map(|at| at + LAST_DIGITS_AT))
        };
        Arc::new(Self { texts: texts.into_iter().map(with_id).collect(), sent: AtomicU64::new(0) })
    }

    pub fn mean_bytes(&self) -> usize {
        self.texts.iter().map(|(text, _)| text.len()).sum::<usize>() / self.texts.len().max(1)
    }

    fn write_next(&self, into: &mut Vec<u8>) {
        let nth = self.sent.fetch_add(1, Ordering::Relaxed);
        let (text, digits_at) = &self.texts[nth as usize % self.texts.len()];
        into.clear();
        into.extend_from_slice(text);
        let Some(digits_at) = digits_at else { return };
        for (at, digit) in into[*digits_at..*digits_at + 12].iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(nth >> (4 * at)) as usize % 16];
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Loop {
    Closed,
    Open { per_second: f64 },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub to: SocketAddr,
    pub how: Loop,
    pub connections: usize,
    pub time: Duration,
}

/// Before the next request on a connection whose last was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Share {
    latencies_us: Vec<u32>,
    refused: usize,
}

impl Share {
    fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.refused += other.refused;
    }
}

/// What came of it.
pub(super) struct Done {
    pub elapsed: Duration,
    /// Of what was answered, sorted.
    pub latencies_us: Vec<u32>,
    /// Requests that were told to come back (429, 503).
    pub refused: usize,
}

impl Done {
    /// Where a refusal is none of what is measured.
    pub fn all_answered(self) -> Result<Self> {
        ensure!(self.refused == 0, "the server refused {} requests", self.refused);
        Ok(self)
    }

    /// The time that this part of all took at most, 1 being the longest.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let at = ((self.latencies_us.len() as f64 * part) as usize).min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
    }
}

impl Load {
    /// Runs on threads of its own, one a core, as the server's do: nothing of the generator is woken across cores.
    pub fn run(self, requests: &Arc<Requests>) -> Result<Done> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let started = Instant::now();
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let requests = Arc::clone(requests);
                thread::spawn(move || self.run_share(thread, threads, started, &requests))
            })
            .collect();
        let mut all = Share::default();
        for share in running {
            all.add(share.join().map_err(|_| anyhow!("a thread of the generator panicked"))??);
        }
        let elapsed = started.elapsed();
        let Share { mut latencies_us, refused } = all;
        ensure!(!latencies_us.is_empty(), "nothing was answered, and {refused} requests refused");
        latencies_us.sort_unstable();
        Ok(Done { elapsed, latencies_us, refused })
    }

    /// Every connection whose number is `thread` modulo `threads`.
    fn run_share(self, thread: usize, threads: usize, started: Instant, requests: &Arc<Requests>) -> Result<Share> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for connection in (thread..self.connections).step_by(threads) {
                let http = Connection::open(self.to).await.context("cannot connect to the server")?;
                running.spawn(self.run_connection(connection, http, started, Arc::clone(requests)));
            }
            let mut all = Share::default();
            while let Some(share) = running.join_next().await {
                all.add(share??);
            }
            Ok(all)
        })
    }

    async fn run_connection(
        self,
        connection: usize,
        mut http: Connection,
        started: Instant,
        requests: Arc<Requests>,
    ) -> Result<Share> {
        let mut share = Share::default();
        let mut request = Vec::new();
        for nth in 0.. {
            requests.write_next(&mut request);
            let due = match self.how {
                Loop::Closed => Instant::now(),
                Loop::Open { per_second } => {
                    let due =
                        started + Duration::from_secs_f64((nth * self.connections + connection) as f64 / per_second);
                    if due > Instant::now() {
                        tokio::time::sleep_until(due.into()).await;
                    }
                    due
                }
            };
            if due.duration_since(started) >= self.time {
                break;
            }
            match http.exchange(&request).await? {
                429 | 503 => {
                    share.refused += 1;
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
                status => {
                    ensure!(status < 400, "the server answered {status}");
                    share.latencies_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
        }
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_have_the_same_event_id() {
        let requests = Requests::new([br#"{"event_id":"019d0000-0000-7000-8000-00000000ffff"}"#.to_vec()]);
        let mut request = Vec::new();
        let mut ids = std::collections::HashSet::new();
        for _ in 0..300 {
            requests.write_next(&mut request);
            ids.insert(request[13..49].to_vec());
        }
        assert_eq!(ids.len(), 300);
        assert!(ids.contains(b"019d0000-0000-7000-8000-00000000012b".as_slice()));
    }
}
