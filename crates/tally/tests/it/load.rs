//! Clients that send seeded traffic, and send it again under the same ids until it is acknowledged. What they know of it is
//! what a server must arrive at, however often it died meanwhile.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tally_model::partition_of;
use tally_traffic::{Generator, Plan, Truth};
use uuid::Uuid;

use super::server::Server;

const CLIENTS: u16 = 3;
/// Lines that wait for a client: the generator runs no further ahead.
const LINES_AHEAD: usize = 128;
const BATCH_LINES_MAX: u64 = 20;
/// Between two requests of a client.
const PAUSE_MS_MAX: u64 = 80;
/// Between two attempts, while the server is away.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Longer than any restart and any outage that a test makes.
const GIVE_UP: Duration = Duration::from_secs(180);
/// From one event to the next in the generator's time: some days pass in a run, so that old ids come again too.
const STEP_US: i64 = 500_000;

/// Random numbers that are the same for the same seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % bound.max(1)
    }
}

/// Clients at work.
pub struct Load {
    counts: Arc<Counts>,
    feeder: JoinHandle<Truth>,
    clients: Vec<JoinHandle<HashMap<Uuid, Times>>>,
}

#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    /// Lines in requests that may have reached a server, and in those that it acknowledged.
    attempted: AtomicU64,
    acknowledged: AtomicU64,
    /// Requests that were refused, and that got no answer.
    refused: AtomicU64,
    unanswered: AtomicU64,
    /// Some of the ids that were acknowledged last.
    recent: Mutex<Vec<Uuid>>,
}

/// How often an id was acknowledged, and how often it may have arrived.
#[derive(Debug, Default, Clone, Copy)]
pub struct Times {
    pub acknowledged: u64,
    pub attempted: u64,
}

/// All that the senders know in the end.
pub struct Sent {
    pub truth: Truth,
    pub attempted: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unanswered: u64,
    pub ids: HashMap<Uuid, Times>,
}

impl Load {
    /// Clients that wait so long for an answer before they send again.
    pub fn start(server: &Server, seed: u64, answer_time: Duration) -> Self {
        let counts = Arc::<Counts>::default();
        let (mut lanes, mut clients) = (Vec::new(), Vec::new());
        for number in 0..CLIENTS {
            let (lane, lines) = sync_channel(LINES_AHEAD);
            let client = Client {
                http: agent(answer_time),
                url: server.url(""),
                dice: Dice(seed ^ u64::from(number + 1) << 32),
                counts: counts.clone(),
                times: HashMap::new(),
            };
            lanes.push(lane);
            clients.push(std::thread::spawn(move || client.run(&lines)));
        }
        let feeding = counts.clone();
        Self { counts, feeder: std::thread::spawn(move || feed(seed, &lanes, &feeding)), clients }
    }

    /// Lines that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::SeqCst)
    }

    /// Requests that were answered with 503 so far.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::SeqCst)
    }

    /// A few ids that were acknowledged a moment ago.
    pub fn recently_acknowledged(&self) -> Vec<Uuid> {
        self.counts.recent.lock().unwrap().clone()
    }

    /// Stops to make new events, has all that were made acknowledged, and tells what was sent.
    pub fn finish(self) -> Sent {
        self.counts.is_over.store(true, Ordering::SeqCst);
        let mut ids = HashMap::new();
        for client in self.clients {
            // Copies of an id always go by one client, so no id comes twice.
            ids.extend(client.join().unwrap());
        }
        let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Sent {
            truth: self.feeder.join().unwrap(),
            attempted: count(&self.counts.attempted),
            acknowledged: count(&self.counts.acknowledged),
            refused: count(&self.counts.refused),
            unanswered: count(&self.counts.unanswered),
            ids,
        }
    }
}

fn agent(answer_time: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(answer_time)).http_status_as_error(false).build().into()
}

/// All copies of an id go to one client, which sends nothing before the last request is acknowledged: so the first copy that
/// the generator made is the first that arrives, and its truth holds.
fn feed(seed: u64, lanes: &[SyncSender<String>], counts: &Counts) -> Truth {
    let plan = Plan { seed, duplicate_fraction: 0.1, campaigns: 8, ..Plan::default() };
    let mut now_us = plan.start_us;
    let mut generator = Generator::new(plan).unwrap();
    while !counts.is_over.load(Ordering::SeqCst) {
        now_us += STEP_US;
        let line = generator.next_at(now_us).line;
        let lane = usize::from(partition_of(id_of(&line), CLIENTS));
        if lanes[lane].send(line).is_err() {
            // That client has failed, and says so where it is joined.
            break;
        }
    }
    generator.truth()
}

fn id_of(line: &str) -> Uuid {
    let event: Value = serde_json::from_str(line).unwrap();
    event["event_id"].as_str().unwrap().parse().unwrap()
}

struct Client {
    http: ureq::Agent,
    url: String,
    dice: Dice,
    counts: Arc<Counts>,
    times: HashMap<Uuid, Times>,
}

/// What became of one request.
enum Answer {
    Acknowledged,
    Refused,
    /// It may have arrived.
    None,
    /// Nobody listened.
    NotSent,
}

impl Client {
    fn run(mut self, lines: &Receiver<String>) -> HashMap<Uuid, Times> {
        while let Ok(first) = lines.recv() {
            let mut request = vec![first];
            if self.dice.below(2) == 0 {
                let more = self.dice.below(BATCH_LINES_MAX) as usize;
                request.extend(lines.try_iter().take(more));
            }
            self.send_until_acknowledged(&request);
            std::thread::sleep(Duration::from_millis(self.dice.below(PAUSE_MS_MAX)));
        }
        self.times
    }

    fn send_until_acknowledged(&mut self, lines: &[String]) {
        let ids: Vec<Uuid> = lines.iter().map(|line| id_of(line)).collect();
        let n = lines.len() as u64;
        let body = if n == 1 { lines[0].clone() } else { lines.join("\n") };
        let (path, encoding) = match (n, self.dice.below(2)) {
            (1, _) => ("/v1/events", "identity"),
            (_, 0) => ("/v1/events/batch", "identity"),
            _ => ("/v1/events/batch", "zstd"),
        };
        let body = if encoding == "zstd" { zstd::encode_all(body.as_bytes(), 1).unwrap() } else { body.into_bytes() };
        let began = Instant::now();
        loop {
            let answer = self.attempt(path, encoding, &body, n);
            if !matches!(answer, Answer::NotSent) {
                self.counts.attempted.fetch_add(n, Ordering::SeqCst);
                ids.iter().for_each(|id| self.times.entry(*id).or_default().attempted += 1);
            }
            match answer {
                Answer::Acknowledged => break,
                Answer::Refused => self.counts.refused.fetch_add(1, Ordering::SeqCst),
                Answer::None => self.counts.unanswered.fetch_add(1, Ordering::SeqCst),
                Answer::NotSent => 0,
            };
            assert!(began.elapsed() < GIVE_UP, "a request was not acknowledged for {} s", GIVE_UP.as_secs());
            std::thread::sleep(RETRY_PAUSE);
        }
        self.counts.acknowledged.fetch_add(n, Ordering::SeqCst);
        ids.iter().for_each(|id| self.times.entry(*id).or_default().acknowledged += 1);
        *self.counts.recent.lock().unwrap() = ids.into_iter().take(3).collect();
    }

    fn attempt(&self, path: &str, encoding: &str, body: &[u8], lines: u64) -> Answer {
        let request = self.http.post(format!("{}{path}", self.url)).header("content-encoding", encoding);
        let mut answer = match request.send(body) {
            Ok(answer) => answer,
            Err(ureq::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => return Answer::NotSent,
            Err(_) => return Answer::None,
        };
        let status = answer.status().as_u16();
        let Ok(text) = answer.body_mut().read_to_string() else { return Answer::None };
        match status {
            202 if lines == 1 => Answer::Acknowledged,
            202 => {
                let taken: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&taken["accepted"], &taken["rejected"]), (&lines.into(), &0.into()), "{text}");
                Answer::Acknowledged
            }
            503 => Answer::Refused,
            _ => panic!("a good request got {status}: {text}"),
        }
    }
}
