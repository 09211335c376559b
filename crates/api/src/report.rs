//! `POST /v1/query`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tally_model::Format;
use tally_model::report::{Answer, Catalog, Report, ReportRequest};

use crate::extract::Question;
use crate::openapi::{Problems, ReportAnswer};
use crate::{Api, ApiError, Freshness, Problem};

/// A report
///
/// Figures by groups, from the smallest table that can tell. An unknown field or name is an error that says the nearest one.
/// At most `limit` rows; what is longer is an [export](#post-v1-exports), which takes the same question.
#[utoipa::path(
    post, path = "/v1/query", operation_id = "query", tag = "reports",
    request_body(content = ReportRequest, example = json!({"metrics": ["clicks", "ctr"], "group_by": ["campaign_id", "day"], "from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "filters": [{"field": "country", "values": ["DE", "US"]}], "limit": 100})),
    responses(
        (status = 200, description = "The rows. In other formats than JSON, `x-tally-source`, `x-tally-table-version` and `x-tally-watermark` say where they come from.", content((ReportAnswer = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 409, description = "`consistency` is `exact`, and not all of the time is closed yet: `not-closed`.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(crate) async fn query(
    State(api): State<Arc<Api>>,
    Question(request): Question<ReportRequest>,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let answered = answer(&api, &request, started).await;
    match &answered {
        Ok(_) => api.metrics.report_seconds.observe(started.elapsed().as_secs_f64()),
        Err(_) => {
            api.metrics.failures.inc();
        }
    }
    answered
}

/// What can be asked
///
/// All metrics with formula, unit and the source of the definition, all dimensions, all units of time.
#[utoipa::path(
    get, path = "/v1/catalog", operation_id = "catalog", tag = "reports",
    responses((status = 200, description = "The catalog.", body = Catalog)),
)]
pub(crate) async fn catalog() -> Json<Catalog> {
    Json(Catalog::whole())
}

async fn answer(api: &Api, request: &ReportRequest, started: Instant) -> Result<Response, ApiError> {
    let report = Report::try_from(request)?;
    let freshness = api.query.freshness();
    if report.is_exact && report.to_us > freshness.watermark_us {
        return Err(ApiError::NotClosed { closed_until: watermark(freshness) });
    }
    let answer = api.run(api.query.report(&report)).await?;
    Ok(match report.format {
        Format::Json => as_json(&answer, freshness, report.to_us <= freshness.watermark_us, started).into_response(),
        Format::Csv => as_csv(&answer, freshness)?,
        Format::Ndjson | Format::Parquet | Format::Arrow => {
            let body = api.query.encode(&answer, report.format)?;
            (headers(&answer, freshness, report.format), body).into_response()
        }
    })
}

fn as_json(answer: &Answer, freshness: Freshness, is_closed: bool, started: Instant) -> Json<Value> {
    let row = |values: &Vec<Value>| -> Value {
        let named = answer.columns.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.clone()));
        Value::Object(named.collect::<Map<_, _>>())
    };
    let mut meta = json!({
        "source": answer.meta.source,
        "watermark": watermark(freshness),
        "closed": is_closed,
        "table_version": answer.meta.table_version,
        "elapsed_ms": (started.elapsed().as_micros() as f64) / 1_000.0,
    });
    if let Some(error) = answer.meta.users_error {
        meta["users"] = json!({"estimated": true, "relative_standard_error": error});
    }
    if !answer.meta.warnings.is_empty() {
        meta["warnings"] = json!(answer.meta.warnings);
    }
    Json(json!({"rows": answer.rows.iter().map(row).collect::<Vec<_>>(), "meta": meta}))
}

/// The rows as CSV (RFC 4180), null as nothing; where they come from, and warnings, are in headers.
fn as_csv(answer: &Answer, freshness: Freshness) -> Result<Response, ApiError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| ApiError::Failed(format!("cannot write CSV: {error}"));
    writer.write_record(&answer.columns).map_err(failed)?;
    for row in &answer.rows {
        let fields = row.iter().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        writer.write_record(fields).map_err(failed)?;
    }
    let body = writer.into_inner().map_err(|error| ApiError::Failed(format!("cannot write CSV: {error}")))?;
    Ok((headers(answer, freshness, Format::Csv), body).into_response())
}

/// What a format without a place for it says of the answer.
fn headers(answer: &Answer, freshness: Freshness, format: Format) -> [(&'static str, String); 5] {
    [
        (header::CONTENT_TYPE.as_str(), format.content_type().to_owned()),
        ("x-tally-source", answer.meta.source.clone()),
        ("x-tally-table-version", answer.meta.table_version.to_string()),
        ("x-tally-watermark", watermark(freshness).unwrap_or_default()),
        ("x-tally-warnings", answer.meta.warnings.join("; ")),
    ]
}

/// Null until this process has caught up with the journal once.
pub(crate) fn watermark(freshness: Freshness) -> Option<String> {
    let at = Timestamp::from_microsecond(freshness.watermark_us).ok()?;
    (freshness.watermark_us > 0).then(|| format!("{at:.3}"))
}
