//! A report's request as JSON.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    pub metrics: Vec<String>,
    #[serde(default)]
    pub group_by: Vec<String>,
    #[serde(default)]
    pub filters: Vec<FilterRequest>,
    /// RFC 3339, inclusive.
    pub from: String,
    /// RFC 3339, exclusive.
    pub to: String,
    /// IANA name; default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default)]
    pub order_by: Vec<OrderRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// `click_date` or `conversion_date`: conversions by what they are owed to, instead of by their own fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// `zero` or `null`: one row also for a window without events, for each combination of the other groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
    /// `exact`: refused unless all of the time asked for lies before the watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// `net` (default) or `gross`: the events that rates are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AsOfRequest {
    Version(u64),
    /// RFC 3339.
    Time(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterRequest {
    pub field: String,
    /// `in` (default) or `not_in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// Null stands for events without this field.
    pub values: Vec<Option<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    pub field: String,
    #[serde(default)]
    pub desc: bool,
}
