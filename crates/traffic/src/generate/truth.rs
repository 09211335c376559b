//! The totals that a server must arrive at, exactly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts by `value|kind`, or by `kind` alone; nothing stands at zero. Sorted, so equal truths are equal bytes.
pub type Counts = BTreeMap<String, u64>;
pub type Micros = BTreeMap<String, i64>;

/// For every kind: `received` = `counted` + `duplicate` + `invalid_givt`. All that follows is about counted events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Lines by kind.
    pub received: Counts,
    pub counted: Counts,
    /// An id that an earlier line carried, whoever sent it.
    pub duplicate: Counts,
    /// The first line of an id, from a robot by its own word.
    pub invalid_givt: Counts,
    pub by_campaign_id: Counts,
    /// `campaign|variant|kind`: what an A/B test reads.
    pub by_campaign_variant: Counts,
    pub by_ad_id: Counts,
    pub by_placement_id: Counts,
    pub by_publisher_id: Counts,
    pub by_variant: Counts,
    pub by_gender: Counts,
    pub by_age_group: Counts,
    pub by_country: Counts,
    pub by_device: Counts,
    /// UTC day of `occurred_at`.
    pub by_utc_day: Counts,
    /// By kind; then by campaign, and by currency, over all kinds.
    pub cost_micros: Micros,
    pub cost_micros_by_campaign_id: Micros,
    pub cost_micros_by_currency: Micros,
    pub revenue_micros: Micros,
    pub revenue_micros_by_campaign_id: Micros,
    pub revenue_micros_by_currency: Micros,
    /// People with an id, by kind; then over all kinds.
    pub distinct_users: Counts,
    pub distinct_users_total: u64,
    /// What was put in on purpose: `late`, `resent_last`, `resent_recent`, `resent_old`, `resent_altered`.
    pub planted: Counts,
}

impl Truth {
    /// Over all kinds.
    pub fn total(counts: &Counts) -> u64 {
        counts.values().sum()
    }
}
