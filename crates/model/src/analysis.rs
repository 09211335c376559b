//! Analyses: questions that take more than sums by group. What they ask, what they answer, and the statistics in between.

mod ab_test;
mod forecast;
mod funnel;
mod percentiles;
mod sample;
mod series;

use serde::{Deserialize, Serialize};

use crate::report::{FilterRequest, Report, ReportError, ReportRequest};

pub use ab_test::{AbTest, AbTestAnswer, Comparison, SampleRatio, Variant};
pub use forecast::{Backtest, Expected, Forecast, forecast};
pub use funnel::{Furthest, Step};
pub use percentiles::{Distribution, Percentiles, PercentilesAnswer, Property, rank_of};
pub use sample::{Sample, SampleAnswer, draw};
pub use series::{Position, Trend, moving_average, seasonal, trend};

/// Which events an analysis is about: part of every analysis's request.
#[derive(Debug, Clone)]
pub struct About<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub filters: &'a [FilterRequest],
    pub time_zone: Option<&'a str>,
}

impl About<'_> {
    /// The report of these metrics by these groups, checked.
    pub fn report(&self, metrics: &[String], group_by: &[String]) -> Result<Report, ReportError> {
        Report::try_from(&ReportRequest {
            metrics: metrics.to_vec(),
            group_by: group_by.to_vec(),
            filters: self.filters.to_vec(),
            from: self.from.to_owned(),
            to: self.to.to_owned(),
            time_zone: self.time_zone.map(str::to_owned),
            ..ReportRequest::default()
        })
    }
}

/// Where on an ad people clicked, in a grid.
#[derive(Debug, Clone)]
pub struct HeatMap {
    pub about: Report,
    pub columns: u32,
    pub rows: u32,
}

/// Bins that hold clicks.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct HeatMapAnswer {
    pub columns: u32,
    pub rows: u32,
    /// Counted clicks with a position on the ad.
    pub clicks: u64,
    /// Counted clicks without one, or with one that is no fraction of the ad.
    pub without_position: u64,
    pub bins: Vec<Bin>,
    /// The version of `events` that all of it is as of.
    #[serde(skip)]
    pub table_version: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Bin {
    /// From the left, from 0.
    pub column: u32,
    /// From the top, from 0.
    pub row: u32,
    pub clicks: u64,
    /// Of all clicks with a position.
    pub share: f64,
}

/// How many people went from step to step.
#[derive(Debug, Clone)]
pub struct Funnel {
    pub about: Report,
    pub steps: Vec<crate::Kind>,
    pub window_us: i64,
    pub segment: Option<crate::Dimension>,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FunnelAnswer {
    pub steps: Vec<Step>,
    pub segments: Vec<Segment>,
    /// The version of `events` that all of it is as of.
    #[serde(skip)]
    pub table_version: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Segment {
    pub value: Option<String>,
    pub steps: Vec<Step>,
}
