//! An event with its verdict: what the pipeline hands to the lake.

use crate::{Country, Device, Event, Fact, Offset, Partition, Verdict};

/// An event, its place in the log, and what we think of it.
#[derive(Debug, Clone)]
pub struct Judged<T = String> {
    pub partition: Partition,
    pub offset: Offset,
    /// The partition's time when it was judged: its id is remembered from then on. Seconds since the Unix epoch.
    pub judged_at_s: i64,
    pub event: Event<T>,
    pub device: Device,
    pub verdict: Verdict,
}

impl<T: AsRef<str>> Judged<T> {
    pub fn fact(&self) -> Fact<'_> {
        let event = &self.event;
        Fact {
            kind: event.kind,
            class: self.verdict.class(),
            occurred_at_us: event.occurred_at_us,
            campaign_id: event.campaign_id.as_ref(),
            currency: event.currency.as_ref().map(AsRef::as_ref),
            ad_id: event.ad_id.as_ref(),
            variant: event.variant.as_ref().map(AsRef::as_ref),
            country: event.country.as_ref().map(Country::as_str),
            region: event.region.as_str(),
            age_group: event.age_group.as_ref().map(AsRef::as_ref),
            gender: event.gender.as_ref().map(AsRef::as_ref),
            device: self.device.device,
            os: self.device.os,
            browser: self.device.browser,
            user_hash: event.user_hash,
            cost_micros: event.cost_micros,
            revenue_micros: event.revenue_micros,
        }
    }
}

impl<T> Judged<T> {
    /// The same with its texts in another form.
    pub fn map<'a, U>(&'a self, of: impl Fn(&'a T) -> U) -> Judged<U> {
        let Self { partition, offset, judged_at_s, ref event, device, verdict } = *self;
        Judged { partition, offset, judged_at_s, event: event.map(of), device, verdict }
    }
}
