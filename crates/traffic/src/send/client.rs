//! One request, made again until it is answered, refused, or has waited long enough.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};
use serde::Deserialize;
use tally_model::{Entropy, SystemEntropy};
use tokio::time::Instant;

use super::{Encoding, SendError, SendOptions};

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A server that asks for a longer pause than this is asked again sooner.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Fast enough for a line that is read from disk; a higher level would keep the network waiting.
const ZSTD_LEVEL: i32 = 1;
/// Of an answer that is no problem document, what a person will read.
const PROBLEM_CHARS_MAX: usize = 500;

pub struct Client {
    http: reqwest::Client,
    url: Url,
    api_key: Option<String>,
    encoding: Encoding,
    retry_max: Duration,
    retries: AtomicU64,
    bar: ProgressBar,
}

/// What a server says of a batch that it took in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Answer {
    pub accepted: u64,
    pub rejected: u64,
    #[serde(default)]
    pub errors: Vec<AnswerError>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AnswerError {
    /// In the request, from 1.
    pub line: u64,
    pub field: Option<String>,
    pub what: String,
    pub cure: Option<String>,
}

/// RFC 9457, as far as a person at a terminal wants it.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// What a server adds to a problem with a batch that it read, but of which it could take no event.
#[derive(Deserialize)]
struct NoneTaken {
    rejected: u64,
    errors: Vec<AnswerError>,
}

/// What one attempt came to.
enum Attempt {
    Answered(Answer),
    Refused { status: u16, problem: String },
    Again { why: String, after: Duration },
}

impl Client {
    /// Says on `bar` when it waits for the server.
    pub fn new(options: &SendOptions, bar: &ProgressBar) -> Result<Self, SendError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // A POST that is redirected would arrive as a GET, without its events.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| SendError::Setup(in_full(&error)))?;
        let mut base = options.to.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let url = base.join("v1/events/batch").map_err(|error| SendError::Setup(error.to_string()))?;
        Ok(Self {
            http,
            url,
            api_key: options.api_key.clone(),
            encoding: options.encoding,
            retry_max: Duration::from_secs(options.retry_s_max),
            retries: AtomicU64::new(0),
            bar: bar.clone(),
        })
    }

    /// Requests that were made again, over the client's life.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Posts events that are at hand, one a line. Returns once the server has taken them in.
    pub async fn post(&self, ndjson: &[u8]) -> Result<Answer, SendError> {
        self.post_encoded(encode(ndjson, self.encoding)).await
    }

    /// The same for a body that [`encode`] made.
    pub(super) async fn post_encoded(&self, body: Bytes) -> Result<Answer, SendError> {
        let (mut failing_since, mut backoff) = (None, BACKOFF_FIRST);
        loop {
            let (why, after) = match self.attempt(body.clone()).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Refused { status, problem } => {
                    return Err(SendError::Refused { to: self.url.clone(), status, problem });
                }
                Attempt::Again { why, after } => (why, after),
            };
            let waited = failing_since.get_or_insert_with(Instant::now).elapsed();
            let pause = jittered(backoff).max(after.min(RETRY_AFTER_MAX));
            if waited + pause > self.retry_max {
                return Err(SendError::Away { to: self.url.clone(), waited_s: waited.as_secs(), last: why });
            }
            self.bar.set_message(format!("waiting for the server ({} s): {why}", waited.as_secs()));
            tokio::time::sleep(pause).await;
            self.retries.fetch_add(1, Ordering::Relaxed);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn attempt(&self, body: Bytes) -> Attempt {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/x-ndjson");
        let request = request.header(ACCEPT, "application/json");
        let request = match self.encoding {
            Encoding::None => request,
            encoding => request.header(CONTENT_ENCODING, encoding.as_str()),
        };
        let request = match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) => return Attempt::Again { why: in_full(&error), after: Duration::ZERO },
        };
        let (status, after) = (response.status(), retry_after(&response));
        // An answer cut short is no acknowledgement; the events may have arrived, and their ids make a repeat harmless.
        let text = match response.text().await {
            Ok(text) => text,
            Err(error) => return Attempt::Again { why: in_full(&error), after },
        };
        judge(status, &text, after)
    }
}

fn judge(status: StatusCode, text: &str, after: Duration) -> Attempt {
    let may_pass = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    if may_pass {
        return Attempt::Again { why: format!("status {}: {}", status.as_u16(), problem(text)), after };
    }
    // That is about these lines, not about us: the next may be good.
    if status == StatusCode::BAD_REQUEST
        && let Ok(NoneTaken { rejected, errors }) = serde_json::from_str(text)
    {
        return Attempt::Answered(Answer { accepted: 0, rejected, errors });
    }
    if !status.is_success() {
        return Attempt::Refused { status: status.as_u16(), problem: problem(text) };
    }
    match serde_json::from_str(text) {
        Ok(answer) => Attempt::Answered(answer),
        Err(_) => Attempt::Refused {
            status: status.as_u16(),
            problem: format!("this is no answer of Tally's: {}; see whether the address is right", problem(text)),
        },
    }
}

fn problem(text: &str) -> String {
    match serde_json::from_str::<Problem>(text) {
        Ok(Problem { title: Some(title), detail: Some(detail) }) => format!("{title}: {detail}"),
        Ok(Problem { title: Some(said), .. } | Problem { detail: Some(said), .. }) => said,
        _ if text.trim().is_empty() => "no reason given".to_owned(),
        _ => text.trim().chars().take(PROBLEM_CHARS_MAX).collect(),
    }
}

/// In seconds; the form that is a date is not used by servers that are overloaded.
fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Between half of it and all of it, so that clients that lost a server together do not come back together.
fn jittered(backoff: Duration) -> Duration {
    let half = backoff / 2;
    half + half.mul_f64((SystemEntropy.bits() as u32) as f64 / f64::from(u32::MAX))
}

/// An HTTP error tells its cause only one level down.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub fn encode(body: &[u8], encoding: Encoding) -> Bytes {
    // Both write to memory, which has no way to fail; were it to, the server would refuse an empty body.
    match encoding {
        Encoding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL).unwrap_or_default().into(),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let written = encoder.write_all(body).and_then(|()| encoder.finish());
            written.unwrap_or_default().into()
        }
        Encoding::None => Bytes::copy_from_slice(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        assert_eq!(
            problem(r#"{"title":"Too large","detail":"the body has 9 MB","status":413}"#),
            "Too large: the body has 9 MB"
        );
        assert_eq!(problem(r#"{"title":"Too large"}"#), "Too large");
        assert_eq!(problem("<html>nginx"), "<html>nginx");
        assert_eq!(problem(" "), "no reason given");
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        for status in [429, 500, 502, 503, 504] {
            let judged = judge(StatusCode::from_u16(status).unwrap(), "", Duration::ZERO);
            assert!(matches!(judged, Attempt::Again { .. }), "{status} is not tried again");
        }
        for status in [200, 301, 400, 401, 404, 413] {
            let judged = judge(StatusCode::from_u16(status).unwrap(), "{}", Duration::ZERO);
            assert!(matches!(judged, Attempt::Refused { .. }), "{status} with a foreign text is not refused");
        }
    }

    #[test]
    fn pauses_vary_within_their_bound() {
        let pauses: Vec<Duration> = (0..50).map(|_| jittered(BACKOFF_MAX)).collect();
        assert!(pauses.iter().all(|pause| (BACKOFF_MAX / 2..=BACKOFF_MAX).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
