//! A report's request as JSON.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    #[schema(value_type = Vec<super::Metric>, min_items = 1)]
    pub metrics: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Vec<super::GroupBy>)]
    pub group_by: Vec<String>,
    #[serde(default)]
    pub filters: Vec<FilterRequest>,
    /// RFC 3339, inclusive.
    #[schema(format = DateTime)]
    pub from: String,
    /// RFC 3339, exclusive.
    #[schema(format = DateTime)]
    pub to: String,
    /// IANA name; default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default)]
    pub order_by: Vec<OrderRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::Format>)]
    pub format: Option<String>,
    /// `click_date` or `conversion_date`: conversions by what they are owed to, instead of by their own fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::Booking>)]
    pub attribution: Option<String>,
    /// `zero` or `null`: one row also for a window without events, for each combination of the other groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(zero|null)$")]
    pub fill: Option<String>,
    /// `exact`: refused unless all of the time asked for lies before the watermark. `acknowledged`: waits until all that was
    /// acknowledged before the question is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(acknowledged|exact|freshest)$")]
    pub consistency: Option<String>,
    /// `net` (default) or `gross`: the events that rates are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(net|gross)$")]
    pub basis: Option<String>,
    /// Says in `meta.explain` which tables can answer, and why others cannot.
    #[serde(default)]
    pub explain: bool,
    /// The report as it would have been answered then: at a version of `events` (`meta.table_version`), or at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOfRequest>,
    /// Only groups that were restated since `as_of`: each figure as it was (`clicks_as_of`), and as it is now.
    #[serde(default)]
    pub restated: bool,
}

/// A moment of the past.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum AsOfRequest {
    Version(u64),
    /// RFC 3339.
    Time(String),
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterRequest {
    #[schema(value_type = super::Dimension)]
    pub field: String,
    /// `in` (default) or `not_in`; `eq` and `ne` are the same two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(in|not_in|eq|ne)$")]
    pub op: Option<String>,
    /// Null stands for events without this field.
    #[schema(min_items = 1)]
    pub values: Vec<Option<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// A column of the answer.
    pub field: String,
    #[serde(default)]
    pub desc: bool,
}
