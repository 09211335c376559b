//! `POST /v1/sql`: a statement in, rows out as they come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tally_model::Format;
use tally_model::report::ReportError;
use utoipa::ToSchema;

use crate::extract::Question;
use crate::openapi::{Problems, SqlAnswer};
use crate::report::watermark;
use crate::{Api, ApiError, Problem, QueryError};

/// Rows of one answer. More of them are an export: an answer that takes minutes breaks off with the connection.
const ROWS_MAX: usize = 1_000_000;
/// How long a statement may run, unless it asks for less.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A statement, and what it may use up.
#[derive(Debug, Clone)]
pub struct SqlQuestion {
    pub statement: String,
    pub format: Format,
    pub time_limit: Duration,
    pub rows_max: Option<usize>,
}

/// Rows on their way. Dropped, whoever makes them stops.
pub struct Table {
    /// Names, and what their types are called in SQL.
    pub columns: Vec<(String, &'static str)>,
    pub table_version: i64,
    /// In the format that was asked for; as JSON, an object on each line. An error ends it.
    pub body: BoxStream<'static, Result<Bytes, QueryError>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlRequest {
    /// One statement: `SELECT`, `WITH` or `EXPLAIN`.
    #[schema(max_length = 65_536)]
    sql: String,
    #[schema(value_type = Option<Format>)]
    format: Option<String>,
    /// Milliseconds that it may run.
    #[schema(minimum = 1, maximum = 120_000, default = 120_000)]
    time_limit_ms: Option<u64>,
}

impl TryFrom<SqlRequest> for SqlQuestion {
    type Error = ReportError;

    fn try_from(request: SqlRequest) -> Result<Self, ReportError> {
        let error = |field: &str, what: String, cure: String| ReportError { field: field.to_owned(), what, cure };
        let format = request.format.as_deref().map_or(Ok(Format::default()), |name| {
            let names = Format::ALL.map(Format::as_str);
            Format::parse(name).ok_or_else(|| ReportError::unknown("format", name, names.to_vec()))
        })?;
        let limit_ms = u64::try_from(TIME_LIMIT.as_millis()).unwrap_or(u64::MAX);
        let time_ms = request.time_limit_ms.unwrap_or(limit_ms);
        if !(1..=limit_ms).contains(&time_ms) {
            return Err(error("time_limit_ms", format!("{time_ms} ms"), format!("use 1 to {limit_ms}")));
        }
        let time_limit = Duration::from_millis(time_ms);
        Ok(Self { statement: request.sql, format, time_limit, rows_max: Some(ROWS_MAX) })
    }
}

/// The answer to a statement in SQL
///
/// Read only, over `events` and the views of the rollups, such as `campaign_day`. Rows come as they are found; an answer that
/// breaks off was no whole one.
#[utoipa::path(
    post, path = "/v1/sql", operation_id = "sql", tag = "reports",
    request_body(content = SqlRequest, example = json!({"sql": "SELECT campaign_id, sum(clicks) AS clicks FROM campaign_day GROUP BY 1 ORDER BY 2 DESC LIMIT 10"})),
    responses(
        (status = 200, description = "The rows, at most 1,000,000.", content((SqlAnswer = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 422, description = "The statement asks for too much: `over-limit`.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(crate) async fn sql(
    State(api): State<Arc<Api>>,
    Question(request): Question<SqlRequest>,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let answered = answer(&api, request, started).await;
    match &answered {
        Ok(_) => api.metrics.sql_seconds.observe(started.elapsed().as_secs_f64()),
        Err(_) => {
            api.metrics.sql_failures.inc();
        }
    }
    answered
}

async fn answer(api: &Arc<Api>, request: SqlRequest, started: Instant) -> Result<Response, ApiError> {
    let question = SqlQuestion::try_from(request)?;
    let format = question.format;
    let freshness = api.query.freshness();
    let table = api.query.sql(question).await?;
    let watermark = watermark(freshness);
    let headers = [
        (header::CONTENT_TYPE.as_str(), format.content_type().to_owned()),
        ("x-tally-table-version", table.table_version.to_string()),
        ("x-tally-watermark", watermark.clone().unwrap_or_default()),
    ];
    let body = match format {
        Format::Json => document(table, watermark, started),
        Format::Csv | Format::Ndjson | Format::Parquet | Format::Arrow => table.body,
    };
    let failures = api.metrics.sql_failures.clone();
    // The status has left by then: all that an error can still do is to break the answer off, so that nobody takes it for whole.
    let body = body.inspect(move |chunk| {
        if let Err(error) = chunk {
            failures.inc();
            tracing::warn!(%error, "an answer to SQL broke off");
        }
    });
    Ok((headers, Body::from_stream(body)).into_response())
}

/// One JSON document around objects that come as lines.
fn document(
    table: Table,
    watermark: Option<String>,
    started: Instant,
) -> BoxStream<'static, Result<Bytes, QueryError>> {
    let columns: Vec<_> = table.columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    let head = format!("{{\"columns\":{},\"rows\":[", json!(columns));
    let table_version = table.table_version;
    let mut rows = 0_usize;
    let objects = table.body.map(move |chunk| {
        let chunk = chunk?;
        let mut text = Vec::with_capacity(chunk.len());
        // A line break inside a text is escaped, so each one ends an object.
        for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if rows > 0 {
                text.push(b',');
            }
            text.extend_from_slice(line);
            rows += 1;
        }
        Ok(Part::Rows { text: text.into(), rows })
    });
    let parts = stream::once(async { Ok(Part::Rows { text: head.into(), rows: 0 }) }).chain(objects);
    let parts = parts.chain(stream::once(async { Ok(Part::End) }));
    let mut row_count = 0;
    parts
        .map(move |part: Result<Part, QueryError>| match part? {
            Part::Rows { text, rows } => {
                row_count = rows;
                Ok(text)
            }
            Part::End => {
                let meta = json!({
                    "row_count": row_count,
                    "watermark": watermark,
                    "table_version": table_version,
                    "elapsed_ms": (started.elapsed().as_micros() as f64) / 1_000.0,
                });
                Ok(format!("],\"meta\":{meta}}}").into())
            }
        })
        .boxed()
}

enum Part {
    /// A piece of the document, and how many rows there are up to its end.
    Rows {
        text: Bytes,
        rows: usize,
    },
    End,
}
