//! `POST /v1/analyses/percentiles`: how a number is distributed, with its count, sum and average.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tally_model::Dimension;
use tally_model::analysis::{About, Distribution, Percentiles, Property};
use tally_model::report::{Booking, FilterRequest, GroupBy, ReportError};

use super::{asked, meta_of, within, wrong};
use crate::extract::Question;
use crate::openapi::{PercentilesShown, Problems};
use crate::turns::Work;
use crate::{Api, ApiError};
use utoipa::ToSchema;

const PERCENTILES_DEFAULT: [f64; 4] = [50.0, 90.0, 95.0, 99.0];
const PERCENTILES_MAX: usize = 20;
const GROUP_BY_MAX: usize = 3;
/// Of the name of a number in `props`.
const NAME_BYTES_MAX: usize = 256;

asked!(PercentilesRequest {
    /// `time_to_convert_s`, `cost_micros`, `revenue_micros`, or `props.NAME`.
    property: String,
    /// Each from 0 to 100; by default 50, 90, 95 and 99.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 20)]
    percentiles: Option<Vec<f64>>,
    #[serde(default)]
    #[schema(value_type = Vec<Dimension>, max_items = 3)]
    group_by: Vec<String>,
});

/// Percentiles
///
/// How a number is distributed, exactly (nearest rank), with its count, sum and average, by up to three dimensions.
#[utoipa::path(
    post, path = "/v1/analyses/percentiles", operation_id = "percentiles", tag = "analyses",
    request_body(content = PercentilesRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "property": "cost_micros", "percentiles": [50, 95]})),
    responses((status = 200, description = "The answer.", body = PercentilesShown), Problems),
)]
pub(crate) async fn percentiles(
    State(api): State<Arc<Api>>,
    Question(asked): Question<PercentilesRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    let unknown = || ReportError::unknown("property", &asked.property, Property::NAMES.to_vec());
    let property = Property::parse(&asked.property).ok_or_else(unknown)?;
    if asked.property.len() > NAME_BYTES_MAX {
        return Err(wrong("property", "the name is too long", format!("give up to {NAME_BYTES_MAX} bytes")));
    }
    let percentiles = asked.percentiles.clone().unwrap_or_else(|| PERCENTILES_DEFAULT.to_vec());
    within("percentiles", percentiles.len(), 1, PERCENTILES_MAX)?;
    for (at, percentile) in percentiles.iter().enumerate() {
        within(&format!("percentiles[{at}]"), *percentile, 0.0, 100.0)?;
    }
    let is_conversions = property == Property::TimeToConvert;
    let question = Percentiles { about: about(&asked, is_conversions)?, property, percentiles };
    let answer = api.run(Work::Heavy, api.query.percentiles(&question)).await?;
    let rows: Vec<Value> = answer.groups.iter().map(|group| row(&question, group)).collect();
    let mut meta = meta_of(answer.source, answer.table_version, freshness, started);
    if !answer.warnings.is_empty() {
        meta["warnings"] = json!(answer.warnings);
    }
    Ok(Json(json!({"rows": rows, "exact": true, "method": "nearest_rank", "meta": meta})))
}

/// The events, or conversions, that it is about.
fn about(asked: &PercentilesRequest, is_conversions: bool) -> Result<tally_model::report::Report, ApiError> {
    if asked.group_by.len() > GROUP_BY_MAX {
        return Err(wrong(
            "group_by",
            format!("{} groups", asked.group_by.len()),
            format!("give up to {GROUP_BY_MAX}"),
        ));
    }
    // Any metric will do: what is summed is the property.
    let mut report = asked.about().report(&["conversions".to_owned()], &asked.group_by)?;
    for (at, group) in report.group_by.iter().enumerate() {
        let GroupBy::Dimension(dimension) = group else {
            let what = format!("{:?} is a unit of time", group.as_str());
            return Err(wrong(&format!("group_by[{at}]"), what, "group by dimensions, and ask for each period"));
        };
        known(*dimension, &format!("group_by[{at}]"), is_conversions)?;
    }
    for (at, filter) in report.filters.iter().enumerate() {
        known(filter.dimension, &format!("filters[{at}].field"), is_conversions)?;
    }
    report.attribution = is_conversions.then_some(Booking::ConversionDate);
    Ok(report)
}

fn known(dimension: Dimension, field: &str, is_conversions: bool) -> Result<(), ApiError> {
    if !is_conversions || dimension.can_be_attributed() {
        return Ok(());
    }
    let what = format!("{:?} is not known of what a conversion is owed to", dimension.as_str());
    Err(wrong(field, what, "leave it out"))
}

fn row(asked: &Percentiles, group: &Distribution) -> Value {
    let mut row = Map::new();
    let names = asked.about.group_by.iter().map(|group| group.as_str().to_owned());
    row.extend(names.zip(group.group.iter().map(|value| json!(value))));
    let average = group.sum.as_f64().filter(|_| group.count > 0).map(|sum| sum / group.count as f64);
    let figures = [
        ("count", json!(group.count)),
        ("sum", group.sum.clone()),
        ("average", json!(average)),
        ("least", group.least.clone()),
        ("greatest", group.greatest.clone()),
    ];
    row.extend(figures.map(|(name, value)| (name.to_owned(), value)));
    let named = asked.percentiles.iter().map(|percentile| format!("p{percentile}"));
    row.extend(named.zip(group.percentiles.iter().cloned()));
    Value::Object(row)
}
