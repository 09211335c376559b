//! Senders: each makes its requests one after the other, and sends again what was refused or not answered, as a good client does.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tally_capture::Front;
use tally_model::{Clock, Kind};
use tower::ServiceExt;
use uuid::Uuid;

use crate::truth::{Sent, Truth};
use crate::world::World;

const HOUR_US: i64 = 3_600_000_000;
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0";
const ROBOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1)";

pub struct Client {
    pub number: u64,
    pub world: Arc<World>,
    pub truth: Arc<Truth>,
    pub door: Front,
}

impl Client {
    /// Until nothing is left to send.
    pub async fn run(self) -> Result<()> {
        self.take_up_what_was_open();
        loop {
            self.world.sleep_ms(0, 200).await;
            self.set_the_clock();
            let Some(ids) = self.next_request() else {
                if self.truth.known().is_done(self.world.plan.clients, self.world.plan.requests) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            };
            self.send(ids).await?;
        }
    }

    fn take_up_what_was_open(&self) {
        let mut known = self.truth.known();
        if let Some(ids) = known.open.remove(&self.number) {
            self.again_or_never(&mut known.again, ids);
        }
    }

    fn again_or_never(&self, again: &mut std::collections::VecDeque<Vec<u128>>, ids: Vec<u128>) {
        if !self.world.trouble("sender gave up", self.world.plan.troubles.give_up) {
            again.push_back(ids);
        }
    }

    fn set_the_clock(&self) {
        let (world, troubles) = (&self.world, &self.world.plan.troubles);
        if world.trouble("clock set forward", troubles.clock_forward) {
            world.set_clock_by_s(world.chance.one_of(&[1, 60, 7_200, 200_000]));
        }
        if world.trouble("clock set back", troubles.clock_back) {
            world.set_clock_by_s(-world.chance.one_of(&[1, 60, 7_200]));
        }
    }

    fn next_request(&self) -> Option<Vec<u128>> {
        let (world, plan) = (&self.world, &self.world.plan);
        let mut known = self.truth.known();
        let made = known.made.entry(self.number).or_default();
        let has_more = *made < plan.requests;
        if (!has_more || world.chance.permille(400))
            && let Some(ids) = known.again.pop_front()
        {
            return Some(ids);
        }
        if !has_more {
            return None;
        }
        *known.made.entry(self.number).or_default() += 1;
        let size = world.chance.one_of(&[1, 1, 1, 3, 12]);
        let repeats = world.trouble("acknowledged events sent again", plan.troubles.repeat);
        let mut ids = Vec::new();
        for _ in 0..size {
            let old = repeats && world.chance.permille(500) && !known.events.is_empty();
            let id = if old {
                let at = world.chance.below(known.events.len() as u64) as usize;
                known.events.keys().nth(at).copied().unwrap_or_default()
            } else {
                let id = world.chance.bits();
                known.events.insert(id, self.event());
                id
            };
            ids.push(id);
        }
        Some(ids)
    }

    fn event(&self) -> Sent {
        let (world, troubles) = (&self.world, &self.world.plan.troubles);
        let mut occurred_at_us = world.now_us() - world.chance.below(3_000_000) as i64;
        if world.trouble("late event", troubles.late) {
            occurred_at_us -= world.chance.between(1, 72) as i64 * HOUR_US;
        } else if world.trouble("event of the future", troubles.future) {
            occurred_at_us += world.chance.between(1, 30) as i64 * HOUR_US;
        }
        Sent {
            kind: world.chance.one_of(&Kind::ALL),
            campaign_id: format!("campaign-{}", world.chance.below(3)),
            occurred_at_us,
            ad_id: world.chance.one_of(&["a", "b"]),
            country: world.chance.one_of(&["DE", "US", "JP"]),
            currency: world.chance.one_of(&["EUR", "USD"]),
            cost_micros: world.chance.below(1_000_000) as i64,
            revenue_micros: world.chance.below(9_000_000) as i64,
            by_robot: world.chance.permille(100),
            attempts: 0,
            acknowledged: 0,
        }
    }

    async fn send(&self, ids: Vec<u128>) -> Result<()> {
        let events: Vec<Value> = {
            let mut known = self.truth.known();
            known.open.insert(self.number, ids.clone());
            let events = ids.iter().map(|id| {
                let sent = known.events.get_mut(id).context("only known events are sent")?;
                sent.attempts += 1;
                Ok(as_json(*id, sent))
            });
            events.collect::<Result<_>>()?
        };
        let (request, is_batch) = match events.as_slice() {
            [event] if self.world.chance.permille(500) => (post("/v1/events", event.to_string())?, false),
            [event] if self.world.chance.permille(500) => (pixel(event)?, false),
            _ => {
                let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
                (post("/v1/events/batch", lines)?, true)
            }
        };
        let sent_at_us = self.world.now_us();
        let answer = self.door.clone().oneshot(request).await?;
        let retry_after = answer.headers().contains_key(header::RETRY_AFTER);
        let (status, body) = (answer.status(), to_bytes(answer.into_body(), 1 << 20).await?);
        // A killed process answers nobody: neither does the dead code that still runs here.
        self.world.step_or_never("answer").await;
        self.world.note(status.as_str().as_bytes());
        self.answered(&Answer { ids, is_batch, status, retry_after, body, sent_at_us })
    }

    fn answered(&self, answer: &Answer) -> Result<()> {
        let Answer { ids, status, .. } = answer;
        let now_us = self.world.now_us();
        let mut known = self.truth.known();
        known.open.remove(&self.number);
        if status.is_server_error() {
            self.world.count(match answer.retry_after {
                true => "request refused for now (503, retry-after)",
                false => "request refused (503, the journal stopped)",
            });
            self.again_or_never(&mut known.again, ids.clone());
            return Ok(());
        }
        let refused = answer.refused()?;
        let (refused, safe): (Vec<_>, Vec<_>) = (1..).zip(ids).partition(|(line, _)| refused.contains(line));
        let safe: Vec<u128> = safe.into_iter().map(|(_, id)| *id).collect();
        for id in &safe {
            known.events.get_mut(id).context("only known events are answered")?.acknowledged += 1;
        }
        for (_, id) in refused {
            self.world.count("event refused (400)");
            let sent = known.events.get(id).context("only known events are answered")?;
            // Only what lies too far ahead is refused, and sending it again would not help.
            let has_cause = sent.occurred_at_us > answer.sent_at_us.min(now_us) + 24 * HOUR_US;
            ensure!(has_cause, "{} was refused without cause: {}", Uuid::from_u128(*id), answer.text());
        }
        known.acknowledged.push((now_us, safe));
        Ok(())
    }
}

/// What a request came back with.
struct Answer {
    ids: Vec<u128>,
    is_batch: bool,
    status: StatusCode,
    retry_after: bool,
    body: Bytes,
    sent_at_us: i64,
}

impl Answer {
    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The lines of a batch, or the one event, that were not taken.
    fn refused(&self) -> Result<Vec<u64>> {
        if !self.is_batch {
            ensure!(
                self.status.is_success() || self.text().contains("occurred_at"),
                "{}: {}",
                self.status,
                self.text()
            );
            return Ok(if self.status.is_success() { Vec::new() } else { vec![1] });
        }
        let answer: Value = serde_json::from_slice(&self.body)?;
        ensure!(answer["errors_omitted"] == 0, "more errors than events: {answer}");
        let errors = answer["errors"].as_array().with_context(|| format!("no list of errors: {answer}"))?;
        let line = |error: &Value| {
            ensure!(error["field"] == "occurred_at", "refused for another reason: {error}");
            error["line"].as_u64().context("an error names its line")
        };
        errors.iter().map(line).collect()
    }
}

/// What is said of consent with every third event: told by the id, so that all copies say the same.
pub fn consent_of(id: u128) -> Option<String> {
    id.is_multiple_of(3).then(|| format!("CP{id:032x}"))
}

fn as_json(id: u128, sent: &Sent) -> Value {
    json!({
        "event_id": Uuid::from_u128(id),
        "kind": sent.kind.as_str(),
        "campaign_id": sent.campaign_id,
        "ad_id": sent.ad_id,
        "occurred_at": Timestamp::from_microsecond(sent.occurred_at_us).unwrap_or_default().to_string(),
        "cost_micros": sent.cost_micros,
        "revenue_micros": sent.revenue_micros,
        "currency": sent.currency,
        "country": sent.country,
        "user_id": format!("user-{}", id % 7),
        "gdpr_consent": consent_of(id).unwrap_or_default(),
        "user_agent": if sent.by_robot { ROBOT } else { BROWSER },
    })
}

fn post(path: &str, body: String) -> Result<Request<Body>> {
    Ok(Request::builder().method(Method::POST).uri(path).body(Body::from(body))?)
}

fn pixel(event: &Value) -> Result<Request<Body>> {
    let mut query = String::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        query.push_str(&format!("{name}="));
        value.bytes().for_each(|byte| query.push_str(&format!("%{byte:02X}")));
        query.push('&');
    }
    Ok(Request::builder().uri(format!("/v1/pixel.gif?{query}")).body(Body::empty())?)
}
