//! Rate limits: by address, by person, by campaign and by API key. What is over an address's or a key's is refused; what is over a
//! person's or a campaign's is kept and marked, unless the operator would rather have it refused.

mod allowance;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tally_model::{Clock, Limit};

use crate::client::Client;
use crate::parse::FreshEvent;
use allowance::Allowance;

/// Events that happened longer ago come from a file or a queue, at whatever rate that is read.
const LIVE_US: i64 = 60 * 1_000_000;

/// What an operator decides. Rates are a second's, on average; 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    pub ip_per_s: u32,
    pub user_per_s: u32,
    pub campaign_per_s: u32,
    pub key_per_s: u32,
    pub over_limit: OverLimit,
}

/// What becomes of an event over a person's or a campaign's limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimit {
    /// It is kept, and judged invalid.
    #[default]
    Keep,
    /// Its sender is told to come back. A batch is kept all the same: it is not one person's doing.
    Refuse,
}

/// Who sends with an API key, left in the request by whoever checked the key: it may speak for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub key_id: u64,
}

/// The limits, and what everybody used of them. One for all endpoints.
pub struct Limits {
    clock: Arc<dyn Clock>,
    ip: Option<Allowance>,
    user: Option<Allowance>,
    campaign: Option<Allowance>,
    key: Option<Allowance>,
    over_limit: OverLimit,
    limited: Family<LimitedLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitedLabels {
    limit: &'static str,
    outcome: &'static str,
}

/// Which limit something is over, and how long that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} faster than the server allows; retry after {} s, with the same `event_id`", self.what(), self.retry_after_s())]
pub struct Limited {
    pub limit: Limit,
    retry_after: Duration,
}

impl Limited {
    /// For `Retry-After`; whole seconds, and never at once.
    pub fn retry_after_s(&self) -> u64 {
        self.retry_after.as_secs() + 1
    }

    fn what(&self) -> &'static str {
        match self.limit {
            Limit::Ip => "this address sends requests",
            Limit::User => "this user sends events",
            Limit::Campaign => "this campaign gets events",
            Limit::Key => "this API key sends",
        }
    }
}

impl Limits {
    pub fn new(settings: &LimitSettings, clock: Arc<dyn Clock>, registry: &mut Registry) -> Self {
        let (limited, forgotten) = (Family::<LimitedLabels, Counter>::default(), Counter::default());
        let registry = registry.sub_registry_with_prefix("tally_limits");
        registry.register("exceeded", "Requests refused, and events kept with a mark, over a limit", limited.clone());
        registry.register(
            "forgotten",
            "Times that somebody who had used up half of a limit's allowance was forgotten for lack of room",
            forgotten.clone(),
        );
        let allowance = |per_s| Allowance::new(per_s, forgotten.clone());
        Self {
            clock,
            ip: allowance(settings.ip_per_s),
            user: allowance(settings.user_per_s),
            campaign: allowance(settings.campaign_per_s),
            key: allowance(settings.key_per_s),
            over_limit: settings.over_limit,
            limited,
        }
    }

    /// A request to an API endpoint by whoever is limited by the address.
    pub(crate) fn request(&self, client: &Client) -> Result<(), Limited> {
        self.ip(client).inspect_err(|_| self.count(Limit::Ip, "refused"))
    }

    /// A request with an API key.
    pub fn key(&self, caller: Caller) -> Result<(), Limited> {
        let taken = self.take(self.key.as_ref(), Limit::Key, caller.key_id);
        taken.inspect_err(|_| self.count(Limit::Key, "refused"))
    }

    /// The events of a batch beyond the first, which was taken with the request. How many there are shows only once they are
    /// here; so they are taken in, and the next request waits until they are earned.
    pub(crate) fn batch(&self, caller: Caller, events: usize) {
        if let Some(allowance) = &self.key {
            allowance.charge(caller.key_id, events.saturating_sub(1) as u64, self.clock.elapsed());
        }
    }

    /// An event of a batch: marked if it is over a limit.
    pub(crate) fn of_batch(&self, event: &mut FreshEvent<'_>, client: &Client) {
        self.mark(event, self.event(event, client));
    }

    /// An event that came alone: marked if it is over a limit, or refused.
    pub(crate) fn single(&self, event: &mut FreshEvent<'_>, client: &Client) -> Result<(), Limited> {
        let checked = self.event(event, client);
        self.mark_or_refuse(event, checked)
    }

    /// A click that redirects a person, who goes on in any case. Says whether to keep it.
    pub(crate) fn click(&self, event: &mut FreshEvent<'_>, client: &Client) -> bool {
        let checked = self.ip(client).and_then(|()| self.event(event, client));
        self.mark_or_refuse(event, checked).is_ok()
    }

    fn ip(&self, client: &Client) -> Result<(), Limited> {
        let Some(key) = client.limited_as else { return Ok(()) };
        self.take(self.ip.as_ref(), Limit::Ip, key)
    }

    /// What is over the person's limit uses up nothing of the campaign's.
    fn event(&self, event: &FreshEvent<'_>, client: &Client) -> Result<(), Limited> {
        let is_backfill = client.speaks_for_others && event.received_at_us - event.occurred_at_us > LIVE_US;
        if is_backfill {
            return Ok(());
        }
        if let Some(user) = event.user_hash {
            self.take(self.user.as_ref(), Limit::User, user)?;
        }
        if self.campaign.is_some() && !event.campaign_id.is_empty() {
            // No secret: whoever wants to use up a campaign's limit just names the campaign.
            let mut hasher = DefaultHasher::new();
            event.campaign_id.hash(&mut hasher);
            self.take(self.campaign.as_ref(), Limit::Campaign, hasher.finish())?;
        }
        Ok(())
    }

    fn take(&self, allowance: Option<&Allowance>, limit: Limit, key: u64) -> Result<(), Limited> {
        let Some(allowance) = allowance else { return Ok(()) };
        allowance.take(key, self.clock.elapsed()).map_err(|retry_after| Limited { limit, retry_after })
    }

    fn mark_or_refuse(&self, event: &mut FreshEvent<'_>, checked: Result<(), Limited>) -> Result<(), Limited> {
        match checked {
            Err(limited) if self.over_limit == OverLimit::Refuse => {
                self.count(limited.limit, "refused");
                Err(limited)
            }
            checked => {
                self.mark(event, checked);
                Ok(())
            }
        }
    }

    fn mark(&self, event: &mut FreshEvent<'_>, checked: Result<(), Limited>) {
        if let Err(Limited { limit, .. }) = checked {
            self.count(limit, "marked");
            event.mark_rate_limited(limit);
        }
    }

    fn count(&self, limit: Limit, outcome: &'static str) {
        self.limited.get_or_create(&LimitedLabels { limit: limit.as_str(), outcome }).inc();
    }
}
