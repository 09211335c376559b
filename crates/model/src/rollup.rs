//! Rollups: what is counted, over which dimensions. A rollup is a sum of parts, so cells of equal key simply add up.

use std::sync::Arc;

use crate::{Class, Dimension, Grain, Kind, Users};

/// A set of dimensions that is counted in advance. `campaign_id` and `currency` belong to every view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    Campaign,
    Geo,
    Audience,
    Device,
}

impl View {
    pub const ALL: [View; 4] = [View::Campaign, View::Geo, View::Audience, View::Device];

    pub fn as_str(self) -> &'static str {
        match self {
            View::Campaign => "campaign",
            View::Geo => "geo",
            View::Audience => "audience",
            View::Device => "device",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.as_str() == name)
    }

    /// The dimensions of this view, besides `campaign_id` and `currency`.
    pub fn own_dimensions(self) -> &'static [Dimension] {
        match self {
            View::Campaign => &[Dimension::AdId, Dimension::Variant],
            View::Geo => &[Dimension::Country, Dimension::Region],
            View::Audience => &[Dimension::AgeGroup, Dimension::Gender],
            View::Device => &[Dimension::Device, Dimension::Os, Dimension::Browser],
        }
    }

    pub fn has(self, dimension: Dimension) -> bool {
        matches!(dimension, Dimension::CampaignId | Dimension::Currency) || self.own_dimensions().contains(&dimension)
    }
}

/// What a rollup needs to know of one judged event, borrowed from wherever the event is held.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    pub kind: Kind,
    pub class: Class,
    pub occurred_at_us: i64,
    pub campaign_id: &'a str,
    pub currency: Option<&'a str>,
    pub ad_id: &'a str,
    pub variant: Option<&'a str>,
    pub country: Option<&'a str>,
    pub region: &'a str,
    pub age_group: Option<&'a str>,
    pub gender: Option<&'a str>,
    pub device: &'a str,
    pub os: &'a str,
    pub browser: &'a str,
    pub user_hash: Option<u64>,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

impl<'a> Fact<'a> {
    /// The values of a view's own dimensions, in their order; unused places are `None`.
    pub fn values(&self, view: View) -> [Option<&'a str>; 3] {
        match view {
            View::Campaign => [Some(self.ad_id), self.variant, None],
            View::Geo => [self.country, Some(self.region), None],
            View::Audience => [self.age_group, self.gender, None],
            View::Device => [Some(self.device), Some(self.os), Some(self.browser)],
        }
    }
}

/// Which cell: one window of one grain of one view, for one combination of values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellKey {
    pub grain: Grain,
    pub view: View,
    pub campaign_id: Arc<str>,
    pub bucket_us: i64,
    pub currency: Option<Arc<str>>,
    /// The values of `View::own_dimensions`, in their order.
    pub values: [Option<Arc<str>>; 3],
}

/// A cell, or a part of one: what one batch of events adds to it.
#[derive(Debug, Clone)]
pub struct Cell {
    pub key: CellKey,
    pub counts: Counts,
    /// Distinct users; kept from the hour upwards, since minute cells would mostly store the users themselves.
    pub users: Option<Users>,
}

/// The mergeable counters of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events by kind and class; see [`Counts::of`].
    pub events: [[u64; Class::ALL.len()]; Kind::ALL.len()],
    /// Over counted events only: nobody pays for a duplicate.
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

impl Counts {
    pub fn of(&self, kind: Kind, class: Class) -> u64 {
        self.events[kind as usize][class as usize]
    }

    pub fn add_fact(&mut self, fact: &Fact<'_>) {
        self.events[fact.kind as usize][fact.class as usize] += 1;
        if fact.class == Class::Counted {
            self.cost_micros = self.cost_micros.saturating_add(fact.cost_micros);
            self.revenue_micros = self.revenue_micros.saturating_add(fact.revenue_micros);
        }
    }

    pub fn merge(&mut self, other: &Counts) {
        for (mine, theirs) in self.events.iter_mut().flatten().zip(other.events.iter().flatten()) {
            *mine += theirs;
        }
        self.cost_micros = self.cost_micros.saturating_add(other.cost_micros);
        self.revenue_micros = self.revenue_micros.saturating_add(other.revenue_micros);
    }

    /// All that came in, whatever its verdict.
    pub fn received(&self) -> u64 {
        self.events.iter().flatten().sum()
    }
}
