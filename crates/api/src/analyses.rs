//! `POST /v1/analyses/..`: questions that take more than sums by group.

mod history;
pub(crate) mod percentiles;
pub(crate) mod sample;
pub(crate) mod series;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tally_model::analysis::{self as statistics, AbTest, About, Funnel, HeatMap};
use tally_model::report::{Answer, Direction, FilterRequest, Metric, OrderBy, Report, ReportError, TimeUnit};
use tally_model::{Dimension, Kind};
use utoipa::ToSchema;

use crate::extract::Question;
use crate::openapi::{AbTestShown, CompareShown, ForecastShown, FunnelShown, HeatMapShown, Problems, TopShown};
use crate::report::watermark;
use crate::turns::Work;
use crate::{Api, ApiError, Freshness};
use history::History;

const CONFIDENCE_DEFAULT: f64 = 0.95;
/// Groups that are compared, and values of a split or of a top list: more is for a report.
const GROUPS_MAX: usize = 10_000;
const VARIANTS_MAX: usize = 100;
const BINS_DEFAULT: u32 = 20;
const BINS_MAX: u32 = 200;
const HORIZON_MAX: usize = 1_000;
const STEPS_MAX: usize = 10;
const WINDOW_DEFAULT_S: u64 = 7 * 24 * 3_600;
const WINDOW_MAX_S: u64 = 366 * 24 * 3_600;
const MICROS_PER_S: i64 = 1_000_000;

pub(crate) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/analyses/ab-test", post(ab_test))
        .route("/v1/analyses/compare", post(compare))
        .route("/v1/analyses/top", post(top))
        .route("/v1/analyses/forecast", post(forecast))
        .route("/v1/analyses/funnel", post(funnel))
        .route("/v1/analyses/heatmap", post(heat_map))
        .route("/v1/analyses/percentiles", post(percentiles::percentiles))
        .route("/v1/analyses/sample", post(sample::sample))
        .route("/v1/analyses/series", post(series::series))
}

/// Declares a request with the fields that all of them share, and what it is about.
macro_rules! asked {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// RFC 3339, inclusive.
            #[schema(format = DateTime)]
            from: String,
            /// RFC 3339, exclusive.
            #[schema(format = DateTime)]
            to: String,
            #[serde(default)]
            filters: Vec<FilterRequest>,
            /// IANA name; default UTC.
            #[serde(default)]
            time_zone: Option<String>,
            $($(#[$meta])* $field: $type,)*
        }

        impl $name {
            fn about(&self) -> About<'_> {
                About { from: &self.from, to: &self.to, filters: &self.filters, time_zone: self.time_zone.as_deref() }
            }
        }
    };
}

use asked;

asked!(AbTestRequest {
    /// `ctr`: clicks of impressions; `cvr`: conversions of clicks.
    #[schema(pattern = "^(ctr|cvr)$")]
    metric: String,
    #[schema(value_type = Dimension)]
    split: String,
    /// The value of the split that the others are compared with.
    control: String,
    #[serde(default)]
    #[schema(minimum = 0.5, exclusive_maximum = 1.0, default = 0.95)]
    confidence: Option<f64>,
});

asked!(CompareRequest {
    #[schema(value_type = Vec<Metric>, min_items = 1)]
    metrics: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Vec<Dimension>)]
    group_by: Vec<String>,
    /// The period to compare with; by default one as long, just before.
    #[serde(default)]
    before: Option<Before>,
});

asked!(TopRequest {
    #[schema(value_type = Dimension)]
    dimension: String,
    #[schema(value_type = Metric)]
    metric: String,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000, default = 10)]
    k: Option<usize>,
});

asked!(ForecastRequest {
    /// A number of events or an amount.
    #[schema(value_type = Metric)]
    metric: String,
    #[schema(pattern = "^(hour|day|week)$")]
    unit: String,
    /// Units to foretell.
    #[schema(minimum = 1, maximum = 1_000)]
    horizon: usize,
    #[serde(default)]
    #[schema(minimum = 0.5, exclusive_maximum = 1.0, default = 0.95)]
    confidence: Option<f64>,
});

asked!(FunnelRequest {
    #[schema(min_items = 2, max_items = 10)]
    steps: Vec<StepRequest>,
    /// Seconds from the first step to the last.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31_622_400, default = 604_800)]
    window_s: Option<u64>,
    /// The funnel also by value of this dimension.
    #[serde(default)]
    #[schema(value_type = Option<Dimension>)]
    segment: Option<String>,
});

asked!(HeatMapRequest {
    #[serde(default)]
    #[schema(minimum = 1, maximum = 200, default = 20)]
    columns: Option<u32>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 200, default = 20)]
    rows: Option<u32>,
});

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    #[schema(format = DateTime)]
    from: String,
    #[schema(format = DateTime)]
    to: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepRequest {
    #[schema(value_type = Kind)]
    kind: String,
}

fn wrong(field: &str, what: impl Into<String>, cure: impl Into<String>) -> ApiError {
    ApiError::Asked(ReportError { field: field.to_owned(), what: what.into(), cure: cure.into() })
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(field: &str, value: T, least: T, most: T) -> Result<T, ApiError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(wrong(field, format!("{value} is out of range"), format!("give {least} to {most}")))
}

fn confidence(asked: Option<f64>) -> Result<f64, ApiError> {
    let confidence = asked.unwrap_or(CONFIDENCE_DEFAULT);
    if (0.5..1.0).contains(&confidence) {
        return Ok(confidence);
    }
    Err(wrong("confidence", format!("{confidence} is out of range"), "give 0.5 up to, but not, 1"))
}

/// The report of one metric or a few by one group, with errors that name the field of the analysis.
fn by_one(about: About<'_>, metrics: &[String], (field, name): (&str, &str)) -> Result<Report, ReportError> {
    about.report(metrics, &[name.to_owned()]).map_err(|error| match error.field.split('[').next() {
        Some("group_by") => ReportError { field: field.to_owned(), ..error },
        Some("metrics") => ReportError { field: "metric".to_owned(), ..error },
        _ => error,
    })
}

/// What is said with every answer of sums.
fn meta(answer: &Answer, freshness: Freshness, started: Instant) -> Value {
    let mut meta = meta_of(&answer.meta.source, answer.meta.table_version, freshness, started);
    if !answer.meta.warnings.is_empty() {
        meta["warnings"] = json!(answer.meta.warnings);
    }
    if let Some(error) = answer.meta.users_error {
        meta["users"] = json!({"estimated": true, "relative_standard_error": error});
    }
    meta
}

/// What is said with every answer.
fn meta_of(source: &str, table_version: i64, freshness: Freshness, started: Instant) -> Value {
    json!({
        "source": source,
        "watermark": watermark(freshness),
        "table_version": table_version,
        "elapsed_ms": (started.elapsed().as_micros() as f64) / 1_000.0,
    })
}

fn with_meta(body: impl serde::Serialize, meta: Value) -> Result<Json<Value>, ApiError> {
    let mut body =
        serde_json::to_value(body).map_err(|error| ApiError::Failed(format!("cannot write JSON: {error}")))?;
    body["meta"] = meta;
    Ok(Json(body))
}

/// A/B test
///
/// Two-proportion z-test of each variant against the control, and whether the split came out even.
#[utoipa::path(
    post, path = "/v1/analyses/ab-test", operation_id = "abTest", tag = "analyses",
    request_body(content = AbTestRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "metric": "ctr", "split": "variant", "control": "a"})),
    responses((status = 200, description = "The answer.", body = AbTestShown), Problems),
)]
pub(crate) async fn ab_test(
    State(api): State<Arc<Api>>,
    Question(asked): Question<AbTestRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    let [successes, trials] = match asked.metric.as_str() {
        "ctr" => ["clicks", "impressions"],
        "cvr" => ["conversions", "clicks"],
        other => return Err(wrong("metric", format!("{other:?} is no proportion"), "use ctr or cvr")),
    };
    let confidence = confidence(asked.confidence)?;
    let metrics = [successes.to_owned(), trials.to_owned()];
    let report = by_one(asked.about(), &metrics, ("split", &asked.split))?;
    let answer = api.report(&report).await?;
    if answer.rows.len() > VARIANTS_MAX {
        let what = format!("{:?} has more than {VARIANTS_MAX} values", asked.split);
        return Err(wrong("split", what, "split by a dimension with fewer, or filter"));
    }
    // Events without a value took part in no test.
    let variants = answer.rows.iter().filter_map(|row| {
        let whole = |value: &Value| value.as_u64().unwrap_or_default();
        Some((row[0].as_str()?.to_owned(), whole(&row[2]), whole(&row[1])))
    });
    let test = AbTest { variants: variants.collect(), control: asked.control.clone(), confidence };
    if !test.variants.iter().any(|(value, ..)| *value == test.control) {
        let names: Vec<_> = test.variants.iter().map(|(value, ..)| value.as_str()).collect();
        let cure = format!("use one of those that have events: {}", names.join(", "));
        return Err(wrong("control", format!("no event has {:?} as its {}", test.control, asked.split), cure));
    }
    let mut told = test.answer();
    if successes == "conversions" {
        // Trials are clicks then, which a variant itself brings more or fewer of: no sign of how people were split.
        told.sample_ratio = None;
    }
    with_meta(told, meta(&answer, freshness, started))
}

/// Two periods beside each other
///
/// For each group and metric: now, before, the change and its ratio.
#[utoipa::path(
    post, path = "/v1/analyses/compare", operation_id = "compare", tag = "analyses",
    request_body(content = CompareRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "metrics": ["clicks", "ctr"], "group_by": ["campaign_id"]})),
    responses((status = 200, description = "The answer.", body = CompareShown), Problems),
)]
pub(crate) async fn compare(
    State(api): State<Arc<Api>>,
    Question(asked): Question<CompareRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    let mut now = asked.about().report(&asked.metrics, &asked.group_by)?;
    // One more than is told, so that no group is taken for one that the other period does not have.
    now.limit = GROUPS_MAX + 1;
    if let Some(unit) = now.group_by.iter().find(|group| Dimension::parse(group.as_str()).is_none()) {
        let what = format!("{:?} is a unit of time", unit.as_str());
        return Err(wrong("group_by", what, "group by dimensions: periods have no window in common"));
    }
    let mut before = match &asked.before {
        Some(Before { from, to }) => About { from, to, ..asked.about() }.report(&asked.metrics, &asked.group_by)?,
        None => Report { from_us: now.from_us - (now.to_us - now.from_us), to_us: now.from_us, ..now.clone() },
    };
    before.limit = now.limit;
    // Both as of one moment.
    let moment = api.query.moment(&now).await?;
    let answer = api.answer(moment.as_ref(), &now).await?;
    let earlier = api.answer(moment.as_ref(), &before).await?;
    if answer.rows.len().max(earlier.rows.len()) > GROUPS_MAX {
        let what = format!("it makes more than {GROUPS_MAX} groups");
        return Err(wrong("group_by", what, "group by less, or filter"));
    }
    let groups = now.group_by.len();
    /// A group's values, and its figures in either period.
    type Compared<'a> = (Vec<Value>, [Option<&'a [Value]>; 2]);
    let mut rows: Vec<Compared<'_>> = Vec::new();
    let mut place = std::collections::HashMap::new();
    for (period, answer) in [&answer, &earlier].into_iter().enumerate() {
        for row in &answer.rows {
            let (keys, figures) = row.split_at(groups);
            let name = serde_json::to_string(keys).unwrap_or_default();
            let at = *place.entry(name).or_insert_with(|| {
                rows.push((keys.to_vec(), [None, None]));
                rows.len() - 1
            });
            rows[at].1[period] = Some(figures);
        }
    }
    let told = rows.into_iter().map(|(keys, periods)| {
        let mut told = Map::new();
        told.extend(now.group_by.iter().map(|group| group.as_str().to_owned()).zip(keys));
        for (at, metric) in now.metrics.iter().enumerate() {
            let nothing =
                if matches!(metric.value(|_| 0), tally_model::report::Value::Null) { Value::Null } else { json!(0) };
            let [now, before] = periods.map(|figures| figures.map_or(nothing.clone(), |figures| figures[at].clone()));
            told.insert(metric.as_str().to_owned(), change(now, before));
        }
        Value::Object(told)
    });
    let mut meta = meta(&answer, freshness, started);
    meta["before"] = json!({"source": earlier.meta.source, "table_version": earlier.meta.table_version});
    Ok(Json(json!({"rows": told.collect::<Vec<_>>(), "meta": meta})))
}

fn change(now: Value, before: Value) -> Value {
    let change = match (now.as_i64(), before.as_i64()) {
        (Some(now), Some(before)) => json!(now - before),
        _ => now.as_f64().zip(before.as_f64()).map_or(Value::Null, |(now, before)| json!(now - before)),
    };
    let ratio = change.as_f64().zip(before.as_f64()).filter(|(_, before)| *before != 0.0);
    let ratio = ratio.map(|(change, before)| change / before);
    json!({"now": now, "before": before, "change": change, "change_ratio": ratio})
}

/// The first values of a dimension
///
/// By one metric, largest first.
#[utoipa::path(
    post, path = "/v1/analyses/top", operation_id = "top", tag = "analyses",
    request_body(content = TopRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "dimension": "country", "metric": "clicks", "k": 10})),
    responses((status = 200, description = "The answer.", body = TopShown), Problems),
)]
pub(crate) async fn top(
    State(api): State<Arc<Api>>,
    Question(asked): Question<TopRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    let metrics = std::slice::from_ref(&asked.metric);
    let mut report = by_one(asked.about(), metrics, ("dimension", &asked.dimension))?;
    report.order_by = vec![OrderBy { column: 1, direction: Direction::Descending }];
    report.limit = within("k", asked.k.unwrap_or(10), 1, GROUPS_MAX)?;
    let answer = api.report(&report).await?;
    let row = |row: &Vec<Value>| json!({"value": row[0], asked.metric.as_str(): row[1]});
    let exact = report.metrics != [Metric::Users] || answer.meta.users_error.is_none();
    let rows: Vec<_> = answer.rows.iter().map(row).collect();
    Ok(Json(json!({"rows": rows, "exact": exact, "meta": meta(&answer, freshness, started)})))
}

/// Forecast
///
/// Exponential smoothing with a damped trend and a season, and how far off it would have been lately.
#[utoipa::path(
    post, path = "/v1/analyses/forecast", operation_id = "forecast", tag = "analyses",
    request_body(content = ForecastRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "metric": "clicks", "unit": "day", "horizon": 7})),
    responses((status = 200, description = "The answer.", body = ForecastShown), Problems),
)]
pub(crate) async fn forecast(
    State(api): State<Arc<Api>>,
    Question(asked): Question<ForecastRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    let (unit, season) = match asked.unit.as_str() {
        "hour" => (TimeUnit::Hour, Some(24)),
        "day" => (TimeUnit::Day, Some(7)),
        // A year of weeks repeats too, and hardly anybody has two of them.
        "week" => (TimeUnit::Week, None),
        other => return Err(ReportError::unknown("unit", other, vec!["hour", "day", "week"]).into()),
    };
    within("horizon", asked.horizon, 1, HORIZON_MAX)?;
    let confidence = confidence(asked.confidence)?;
    let History { answer, zone, values } = history::of(&api, asked.about(), &asked.metric, unit, freshness).await?;
    let told = statistics::forecast(&values, season, asked.horizon, confidence);
    let last = answer.rows.last().and_then(|row| row[0].as_str()).unwrap_or_default();
    let windows = history::windows_after(last, unit, &zone, asked.horizon);
    let expected = told.iter().flat_map(|told| &told.expected).zip(windows);
    let expected: Vec<_> = expected
        .map(|(expected, at)| json!({"at": at, "value": expected.value, "low": expected.low, "high": expected.high}))
        .collect();
    let history: Vec<_> = answer.rows.iter().map(|row| json!({"at": row[0], "value": row[1]})).collect();
    let mut body = json!({"trend": null, "season_length": null, "backtest": null});
    if let Some(told) = &told {
        body = serde_json::to_value(told).map_err(|error| ApiError::Failed(format!("cannot write JSON: {error}")))?;
    }
    (body["history"], body["forecast"]) = (json!(history), json!(expected));
    with_meta(body, meta(&answer, freshness, started))
}

/// Funnel
///
/// How many people went from step to step in order, exactly, over events with a `user_id`.
#[utoipa::path(
    post, path = "/v1/analyses/funnel", operation_id = "funnel", tag = "analyses",
    request_body(content = FunnelRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "steps": [{"kind": "impression"}, {"kind": "click"}, {"kind": "conversion"}]})),
    responses((status = 200, description = "The answer.", body = FunnelShown), Problems),
)]
pub(crate) async fn funnel(
    State(api): State<Arc<Api>>,
    Question(asked): Question<FunnelRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    within("steps", asked.steps.len(), 2, STEPS_MAX)?;
    let step = |(at, step): (usize, &StepRequest)| {
        let unknown = || {
            wrong(
                &format!("steps[{at}].kind"),
                format!("{:?} is no kind of event", step.kind),
                "use impression, click or conversion",
            )
        };
        Kind::parse(&step.kind).ok_or_else(unknown)
    };
    let window_s = within("window_s", asked.window_s.unwrap_or(WINDOW_DEFAULT_S), 1, WINDOW_MAX_S)?;
    let segment = match asked.segment.as_deref() {
        None => None,
        Some("segment") => {
            return Err(wrong(
                "segment",
                "a person has many of them",
                "filter on `segment`, or take another dimension",
            ));
        }
        Some(name) => {
            // The report knows the names, and the nearest to a wrong one.
            by_one(asked.about(), &["clicks".to_owned()], ("segment", name))?;
            Some(
                Dimension::parse(name)
                    .ok_or_else(|| wrong("segment", format!("{name:?} is a unit of time"), "take a dimension"))?,
            )
        }
    };
    let funnel = Funnel {
        about: asked.about().report(&["clicks".to_owned()], &[])?,
        steps: asked.steps.iter().enumerate().map(step).collect::<Result<_, _>>()?,
        window_us: i64::try_from(window_s).unwrap_or(i64::MAX / MICROS_PER_S) * MICROS_PER_S,
        segment,
    };
    let answer = api.run(Work::Heavy, api.query.funnel(&funnel)).await?;
    let meta = meta_of("events", answer.table_version, freshness, started);
    with_meta(answer, meta)
}

/// Heat map
///
/// Where on the ad people clicked, in a grid.
#[utoipa::path(
    post, path = "/v1/analyses/heatmap", operation_id = "heatMap", tag = "analyses",
    request_body(content = HeatMapRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "columns": 20, "rows": 20})),
    responses((status = 200, description = "The answer.", body = HeatMapShown), Problems),
)]
pub(crate) async fn heat_map(
    State(api): State<Arc<Api>>,
    Question(asked): Question<HeatMapRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    let heat_map = HeatMap {
        about: asked.about().report(&["clicks".to_owned()], &[])?,
        columns: within("columns", asked.columns.unwrap_or(BINS_DEFAULT), 1, BINS_MAX)?,
        rows: within("rows", asked.rows.unwrap_or(BINS_DEFAULT), 1, BINS_MAX)?,
    };
    let answer = api.run(Work::Heavy, api.query.heat_map(&heat_map)).await?;
    let meta = meta_of("events", answer.table_version, freshness, started);
    with_meta(answer, meta)
}
