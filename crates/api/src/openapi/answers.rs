//! Answers that are put together as JSON where they are made, as types: nothing but their description is made of these.
//! Whether the two agree, schemathesis asks the real binary (`crates/tally/tests/it/openapi.rs`).
#![allow(dead_code, reason = "described, never constructed")]

use tally_model::analysis::{AbTestAnswer, Backtest, FunnelAnswer, HeatMapAnswer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Values by column.
pub(crate) struct Row;

impl PartialSchema for Row {
    fn schema() -> RefOr<Schema> {
        let what =
            "Values by the names of the columns, in their order. A figure is a number, or null for a division by zero.";
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .description(Some(what))
            .into()
    }
}

impl ToSchema for Row {}

#[derive(ToSchema)]
pub(crate) struct ReportAnswer {
    rows: Vec<Row>,
    meta: Meta,
}

/// Where an answer comes from, and how far it is.
#[derive(ToSchema)]
pub(crate) struct Meta {
    /// The rollup that answered, such as `campaign_day`, or `events`.
    source: String,
    /// Every event acknowledged before this instant is in; null until the server has caught up once.
    #[schema(required, format = DateTime)]
    watermark: Option<String>,
    /// Of a report: whether all of the time asked for lies before the watermark.
    #[schema(value_type = bool, required = false)]
    closed: Option<bool>,
    /// The version of `events` that all figures are as of.
    #[schema(value_type = i64, required = false)]
    table_version: Option<i64>,
    elapsed_ms: f64,
    #[schema(value_type = UsersMeta, required = false)]
    users: Option<UsersMeta>,
    #[schema(value_type = Vec<String>, required = false)]
    warnings: Option<Vec<String>>,
    /// How it was answered, where that was asked for.
    #[schema(value_type = Object, required = false)]
    explain: Option<serde_json::Value>,
}

/// Only where `users` was estimated.
#[derive(ToSchema)]
pub(crate) struct UsersMeta {
    estimated: bool,
    relative_standard_error: f64,
}

#[derive(ToSchema)]
pub(crate) struct SqlAnswer {
    columns: Vec<SqlColumn>,
    rows: Vec<Row>,
    meta: SqlMeta,
}

#[derive(ToSchema)]
pub(crate) struct SqlColumn {
    name: String,
    /// As SQL calls it.
    r#type: String,
}

#[derive(ToSchema)]
pub(crate) struct SqlMeta {
    row_count: u64,
    #[schema(required, format = DateTime)]
    watermark: Option<String>,
    table_version: i64,
    elapsed_ms: f64,
}

#[derive(ToSchema)]
pub(crate) struct AbTestShown {
    #[serde(flatten)]
    answer: AbTestAnswer,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct CompareShown {
    /// The group's values, and for each metric `now`, `before`, `change` and `change_ratio`.
    rows: Vec<Row>,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct TopShown {
    /// `value`, and the metric by its name.
    rows: Vec<Row>,
    /// Whether the figures are exact, which `users` from a rollup are not.
    exact: bool,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct ForecastShown {
    history: Vec<History>,
    forecast: Vec<Foretold>,
    /// By unit, at the end of the history.
    #[schema(required)]
    trend: Option<f64>,
    /// Units until it repeats; null where there is too little history.
    #[schema(required)]
    season_length: Option<u64>,
    #[schema(required)]
    backtest: Option<Backtest>,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct History {
    at: String,
    value: f64,
}

#[derive(ToSchema)]
pub(crate) struct Foretold {
    at: String,
    value: f64,
    low: f64,
    high: f64,
}

#[derive(ToSchema)]
pub(crate) struct PercentilesShown {
    /// The group's values, `count`, `sum`, `average`, `least`, `greatest`, and each percentile as `p50`.
    rows: Vec<Row>,
    exact: bool,
    method: String,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct SampleShown {
    rows: Vec<Row>,
    /// How many events it is drawn from.
    matching: u64,
    seed: u64,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct SeriesShown {
    /// `at`, `value` and `moving_average` of each window.
    series: Vec<Row>,
    windows: u64,
    /// `slope`, by window, with its standard error; null for less than three windows.
    trend: serde_json::Value,
    hours: Vec<Row>,
    weekdays: Vec<Row>,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct FunnelShown {
    #[serde(flatten)]
    answer: FunnelAnswer,
    meta: Meta,
}

#[derive(ToSchema)]
pub(crate) struct HeatMapShown {
    #[serde(flatten)]
    answer: HeatMapAnswer,
    meta: Meta,
}
