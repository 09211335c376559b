//! Answers that are known already. The key is the question and what of the tables it is about, so that a commit takes away just
//! the answers that it changes: one about days that got no event stays.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tally_model::report::{Answer, AnswerMeta, Report};

use crate::turns::Work;
use crate::{Api, ApiError, Moment};

/// Answers that a cache is made for; more fit where they are small.
const ANSWERS: usize = 1_000;
/// Reports that are remembered as asked for.
const ASKED_MAX: usize = 64;
/// From how many times on, and for how long after the last, a report is found out again after a commit.
const WARM_FROM: u32 = 3;
const WARM_FOR: Duration = Duration::from_secs(60);
const WARM_MAX: usize = 8;
/// How long another cache may take. Longer than this, asking the tables is as quick.
const SHARED_TIME: Duration = Duration::from_millis(50);
/// A larger answer is not handed to others: writing and reading it takes longer than a report.
const SHARED_BYTES_MAX: usize = 1 << 20;

/// A cache that several servers share, such as Redis. What it does not know, or not in time, is answered without it.
#[async_trait]
pub trait SharedCache: Send + Sync + 'static {
    async fn get(&self, key: &str) -> Option<Bytes>;
    async fn put(&self, key: &str, answer: Bytes);
}

/// What an answer is known by: 128 bits, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AnswerKey(String);

impl AnswerKey {
    pub fn of(report: &Report, moment: &dyn Moment) -> Self {
        let digest = Sha256::digest(format!("{}\n{}", moment.state(report), report.key()));
        let mut key = String::with_capacity(32);
        for byte in &digest[..16] {
            let _ = write!(key, "{byte:02x}");
        }
        Self(key)
    }

    /// Of the answer written down in a format. Weak: the same figures, and not byte for byte the same (`meta.elapsed_ms`).
    pub fn etag(&self, report: &Report) -> String {
        format!("W/\"{}-{}\"", self.0, report.format.as_str())
    }
}

pub(crate) struct Answers {
    own: Cache<AnswerKey, Arc<Answer>, ByBytes>,
    shared: Option<Arc<dyn SharedCache>>,
    /// What was asked lately, the newest last.
    asked: Mutex<VecDeque<Asked>>,
}

struct Asked {
    key: String,
    report: Report,
    at: Instant,
    times: u32,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<AnswerKey, Arc<Answer>> for ByBytes {
    fn weight(&self, key: &AnswerKey, answer: &Arc<Answer>) -> u64 {
        (key.0.len() + bytes(answer)) as u64
    }
}

/// About how much memory an answer takes.
fn bytes(answer: &Answer) -> usize {
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    let row =
        |row: &Vec<Value>| size_of::<Vec<Value>>() + row.iter().map(|v| size_of::<Value>() + text(v)).sum::<usize>();
    size_of::<Answer>() + answer.rows.iter().map(row).sum::<usize>()
}

impl Answers {
    /// Keeps about this much; with 0, nothing.
    pub fn new(bytes_max: u64, shared: Option<Arc<dyn SharedCache>>) -> Self {
        Self { own: Cache::with_weighter(ANSWERS, bytes_max, ByBytes), shared, asked: Mutex::default() }
    }

    pub fn bytes(&self) -> u64 {
        self.own.weight()
    }

    /// Remembers that a report was asked for.
    pub fn note(&self, report: &Report) {
        // What is past is never changed by a commit.
        if report.as_of.is_some() {
            return;
        }
        let (key, at) = (report.key(), Instant::now());
        let Ok(mut asked) = self.asked.lock() else { return };
        let found = asked.iter().position(|earlier| earlier.key == key).and_then(|place| asked.remove(place));
        let times = found.map_or(0, |earlier| earlier.times) + 1;
        if asked.len() >= ASKED_MAX {
            asked.pop_front();
        }
        asked.push_back(Asked { key, report: report.clone(), at, times });
    }

    /// What is asked again and again.
    fn frequent(&self) -> Vec<Report> {
        let Ok(asked) = self.asked.lock() else { return Vec::new() };
        let frequent = asked.iter().rev().filter(|asked| asked.times >= WARM_FROM && asked.at.elapsed() < WARM_FOR);
        frequent.take(WARM_MAX).map(|asked| asked.report.clone()).collect()
    }
}

impl Api {
    /// Finds out anew what is asked again and again, after a commit: whoever asks next finds it there. Not what reads raw events:
    /// it would take the turn of somebody who waits.
    pub async fn warm(&self) {
        for report in self.answers.frequent() {
            let Ok(moment) = self.query.moment(&report).await else { return };
            if moment.is_heavy(&report) {
                continue;
            }
            if self.answer(moment.as_ref(), &report).await.is_err() {
                return;
            }
        }
    }

    /// A report's answer now.
    pub(crate) async fn report(&self, report: &Report) -> Result<Arc<Answer>, ApiError> {
        self.answer(self.query.moment(report).await?.as_ref(), report).await
    }

    /// A report's answer at a moment: known, or found out. Whoever asks the same meanwhile waits for the one answer.
    pub(crate) async fn answer(&self, moment: &dyn Moment, report: &Report) -> Result<Arc<Answer>, ApiError> {
        let key = AnswerKey::of(report, moment);
        let place = match self.answers.own.get_value_or_guard_async(&key).await {
            Ok(answer) => {
                self.metrics.cache_hits.inc();
                return Ok(answer);
            }
            Err(place) => place,
        };
        let answer = Arc::new(match self.shared(&key, report).await {
            Some(answer) => answer,
            None => {
                let work = if moment.is_heavy(report) { Work::Heavy } else { Work::Light };
                let answer = self.run(work, moment.answer(report)).await?;
                self.share(&key, &answer);
                answer
            }
        });
        // Too large for the cache, it is not kept; those who waited for it find it out themselves.
        let _ = place.insert(answer.clone());
        self.metrics.cache_bytes.set(i64::try_from(self.answers.bytes()).unwrap_or(i64::MAX));
        Ok(answer)
    }

    async fn shared(&self, key: &AnswerKey, report: &Report) -> Option<Answer> {
        let shared = self.answers.shared.as_ref()?;
        let found = tokio::time::timeout(SHARED_TIME, shared.get(&key.0)).await.ok()??;
        let (rows, meta): (Vec<Vec<Value>>, AnswerMeta) = serde_json::from_slice(&found).ok()?;
        self.metrics.shared_hits.inc();
        Some(Answer { columns: report.answer_columns(), rows, meta })
    }

    /// Hands an answer to the other servers. Nobody waits for it.
    fn share(&self, key: &AnswerKey, answer: &Answer) {
        let Some(shared) = self.answers.shared.clone().filter(|_| bytes(answer) <= SHARED_BYTES_MAX) else { return };
        let Ok(written) = serde_json::to_vec(&(&answer.rows, &answer.meta)) else { return };
        let key = key.0.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(SHARED_TIME * 20, shared.put(&key, written.into())).await;
        });
    }
}
