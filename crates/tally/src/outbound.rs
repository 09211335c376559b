//! Postbacks to advertisers: each conversion that is owed to something is told to the address of its campaign, at least once.
//!
//! What has to be told follows from the versions of `attributions`, and is written to a journal of its own before the first try;
//! so is what became of it. After a kill, what has no outcome there is sent again, under the key that it had: the receiver can
//! tell a repeat by it.

mod address;
mod ledger;
mod sender;
mod template;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tally_lake::{Lake, LakeError};
use tally_model::{Clock, Entropy};
use tracing::{error, warn};

use ledger::{Entry, GivenUp, Ledger, Outcome};
use sender::{Sender, Sent};
use template::Templates;
pub(crate) use template::{OutboundConfig, encoded};

/// Tries at once.
const AT_ONCE: usize = 32;
/// What waits in memory. Beyond it, no new version of `attributions` is looked at.
const WAITING_MAX: usize = 100_000;
const PAUSE: Duration = Duration::from_millis(250);
/// After a failure of our own: the lake or the journal.
const RETRY: Duration = Duration::from_secs(5);
/// The first wait after a try that failed; each is twice the one before, up to the last. All in all about a day and a half.
const WAIT_FIRST_MS: i64 = 1_000;
const WAIT_LAST_MS: i64 = 4 * 3_600 * 1_000;
const TRIES_MAX: u32 = 22;
/// Of those that were given up, so many are listed.
const LISTED_MAX: usize = 1_000;

pub(crate) struct Outbound {
    lake: Lake,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    templates: Templates,
    ledger: Ledger,
    sender: Sender,
    metrics: Metrics,
    listed: Arc<Listed>,
}

/// What is told of it.
#[derive(Default)]
pub(crate) struct Listed {
    given_up: Mutex<VecDeque<GivenUp>>,
}

struct Metrics {
    delivered: Counter,
    failed: Counter,
    given_up: Counter,
    waiting: Gauge,
}

/// What it is built from.
pub(crate) struct OutboundParts {
    pub lake: Lake,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub folder: std::path::PathBuf,
}

impl Outbound {
    /// None where no campaign has an address.
    pub fn open(
        config: &OutboundConfig,
        parts: OutboundParts,
        registry: &mut Registry,
    ) -> anyhow::Result<Option<Self>> {
        let templates = config.templates()?;
        if templates.is_empty() {
            return Ok(None);
        }
        let OutboundParts { lake, clock, entropy, folder } = parts;
        let ledger = Ledger::open(&folder)?;
        let metrics = Metrics {
            delivered: Counter::default(),
            failed: Counter::default(),
            given_up: Counter::default(),
            waiting: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("tally_outbound");
        registry.register("delivered", "Postbacks that an advertiser took", metrics.delivered.clone());
        registry.register("failed_tries", "Tries that failed", metrics.failed.clone());
        registry.register("given_up", "Postbacks that are not tried any more", metrics.given_up.clone());
        registry.register("waiting", "Postbacks that are to be sent", metrics.waiting.clone());
        let listed = Arc::new(Listed { given_up: Mutex::new(ledger.given_up().iter().cloned().collect()) });
        let sender = Sender::new(config.allow_private)?;
        Ok(Some(Self { lake, clock, entropy, templates, ledger, sender, metrics, listed }))
    }

    pub fn listed(&self) -> Arc<Listed> {
        self.listed.clone()
    }

    pub async fn run(mut self) {
        loop {
            self.metrics.waiting.set(i64::try_from(self.ledger.len()).unwrap_or(i64::MAX));
            let pause = match self.step().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => PAUSE,
                Err(error) => {
                    warn!(%error, "postbacks to advertisers wait; it is tried again");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes up what is new, and sends what is due. Whether there was anything.
    async fn step(&mut self) -> anyhow::Result<bool> {
        let is_new = self.ledger.len() < WAITING_MAX && self.follow().await?;
        let now_ms = self.clock.now_us() / 1_000;
        let due = self.ledger.due(now_ms, AT_ONCE);
        let sender = &self.sender;
        let tries = due.iter().map(|postback| async move { (postback, sender.send(postback).await) });
        let mut outcomes = Vec::new();
        for (postback, sent) in join_all(tries).await {
            match sent {
                Sent::Taken => {
                    self.metrics.delivered.inc();
                    outcomes.push(Entry::Done { key: postback.key, outcome: Outcome::Delivered });
                }
                Sent::Failed { why, is_final } => {
                    self.metrics.failed.inc();
                    if is_final || postback.tries + 1 >= TRIES_MAX {
                        self.metrics.given_up.inc();
                        error!(key = %postback.key, campaign = postback.campaign_id, why, "a postback is given up");
                        let outcome = Outcome::GivenUp { campaign_id: postback.campaign_id.clone(), why };
                        outcomes.push(Entry::Done { key: postback.key, outcome });
                    } else {
                        let wait_ms = self.wait_ms(postback.tries);
                        self.ledger.postpone(postback.key, now_ms + wait_ms);
                    }
                }
            }
        }
        let has_sent = !due.is_empty();
        for entry in &outcomes {
            if let Entry::Done { key, outcome: Outcome::GivenUp { campaign_id, why } } = entry {
                self.listed.add(GivenUp { key: *key, campaign_id: campaign_id.clone(), why: why.clone() });
            }
        }
        self.ledger.write(outcomes).await?;
        Ok(is_new || has_sent)
    }

    /// Writes down what the next version of `attributions` owes. From the version on that stands when the first address is set.
    async fn follow(&mut self) -> anyhow::Result<bool> {
        let newest = self.lake.attributions_version();
        let Some(followed) = self.ledger.followed() else {
            self.ledger.write(vec![Entry::Followed { version: newest }]).await?;
            return Ok(false);
        };
        if followed >= newest {
            return Ok(false);
        }
        let version = followed + 1;
        let conversions = match self.lake.attributed_in(version).await {
            // Trying again would find the same, and nothing would be told any more.
            Err(cause @ LakeError::Damaged { .. }) => {
                error!(version, %cause, "a version of `attributions` cannot be read, and what it owes is not told; see `GET /v1/conversions`");
                Vec::new()
            }
            found => found?,
        };
        let owed = conversions.iter().filter_map(|conversion| self.templates.owed(conversion));
        let entries = owed.chain([Entry::Followed { version }]).collect();
        self.ledger.write(entries).await?;
        Ok(true)
    }

    /// Between half and all of what doubling says, so that what failed together does not come back together.
    fn wait_ms(&self, tries: u32) -> i64 {
        let full_ms = WAIT_FIRST_MS.saturating_mul(1 << tries.min(20)).min(WAIT_LAST_MS);
        let jitter = i64::from((self.entropy.bits() as u32) >> 1);
        full_ms / 2 + jitter % (full_ms / 2 + 1)
    }
}

impl Listed {
    fn add(&self, given_up: GivenUp) {
        let mut listed = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.len() >= LISTED_MAX {
            listed.pop_front();
        }
        listed.push_back(given_up);
    }
}

/// `GET /v1/outbound`: the newest postbacks that were given up.
pub(crate) fn router(listed: Arc<Listed>) -> Router {
    Router::new().route("/v1/outbound", get(list)).with_state(listed)
}

/// Postbacks to advertisers that were given up
///
/// In one page: the newest 1,000.
#[utoipa::path(get, path = "/v1/outbound", operation_id = "listOutbound", tag = "events", responses((status = 200, description = "`given_up`: `key`, `campaign_id`, `why`.", body = Object)))]
pub(crate) async fn list(State(listed): State<Arc<Listed>>) -> Json<Value> {
    let given_up = listed.given_up.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({"given_up": given_up.iter().rev().collect::<Vec<_>>()}))
}
