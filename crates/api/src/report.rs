//! `POST /v1/query`, and the same by GET for caches on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_model::Format;
use tally_model::report::{Answer, Catalog, Consistency, Report, ReportRequest};

use crate::cache::AnswerKey;
use crate::extract::{Parameters, Question, from_json};
use crate::metrics::Counted;
use crate::openapi::{Problems, ReportAnswer};
use crate::{Api, ApiError, Freshness, Moment, Problem, told_rows};

/// A client sends back what it got last, and sees nothing older.
const SESSION: &str = "x-tally-session";
/// How long a question waits until this server knows what its client has seen elsewhere.
const SESSION_WAIT: Duration = Duration::from_secs(2);
/// How long one waits until all that was acknowledged before it is in.
const CATCH_UP_WAIT: Duration = Duration::from_secs(10);
/// How long a cache may answer of closed time by itself. Late events may still come, and cells be mended.
const CLOSED_MAX_AGE_S: u32 = 60;
/// And of the past, which stays as it was.
const PAST_MAX_AGE_S: u32 = 86_400;

/// A report
///
/// Figures by groups, from the smallest table that can tell. An unknown field or name is an error that says the nearest one.
/// At most `limit` rows; what is longer is an [export](#post-v1-exports), which takes the same question.
#[utoipa::path(
    post, path = "/v1/query", operation_id = "query", tag = "reports",
    request_body(content = ReportRequest, example = json!({"metrics": ["clicks", "ctr"], "group_by": ["campaign_id", "day"], "from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "filters": [{"field": "country", "values": ["DE", "US"]}], "limit": 100})),
    responses(
        (status = 200, description = "The rows. In other formats than JSON, `x-tally-source`, `x-tally-table-version` and `x-tally-watermark` say where they come from.", content((ReportAnswer = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 304, description = "The client has this very answer, by its `If-None-Match`."),
        (status = 409, description = "`consistency` is `exact`, and not all of the time is closed yet: `not-closed`.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(crate) async fn query(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Question(request): Question<ReportRequest>,
) -> Result<Response, ApiError> {
    observed(&api, &headers, &request).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryParameters {
    /// The request as JSON, percent-encoded.
    #[param(example = r#"{"metrics":["clicks"],"from":"2026-03-01T00:00:00Z","to":"2026-03-08T00:00:00Z"}"#)]
    q: String,
}

/// A report by its address
///
/// For caches on the way: the same as by POST, with the request in the address.
#[utoipa::path(
    get, path = "/v1/query", operation_id = "query_by_url", tag = "reports",
    params(QueryParameters),
    responses(
        (status = 200, description = "The rows, as by POST.", content((ReportAnswer = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 304, description = "The client has this very answer, by its `If-None-Match`."),
        (status = 409, description = "`consistency` is `exact`, and not all of the time is closed yet: `not-closed`.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(crate) async fn query_by_url(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Parameters(QueryParameters { q }): Parameters<QueryParameters>,
) -> Result<Response, ApiError> {
    observed(&api, &headers, &from_json(q.as_bytes(), "`q`")?).await
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

async fn observed(api: &Api, headers: &HeaderMap, request: &ReportRequest) -> Result<Response, ApiError> {
    let started = Instant::now();
    let answered = answer(api, headers, request, started).await;
    match &answered {
        Ok(_) => api.metrics.report_seconds.observe(started.elapsed().as_secs_f64()),
        Err(_) => {
            api.metrics.failures.inc();
        }
    }
    answered
}

async fn answer(
    api: &Api,
    headers: &HeaderMap,
    request: &ReportRequest,
    started: Instant,
) -> Result<Response, ApiError> {
    let report = Report::try_from(request)?;
    if report.consistency == Consistency::Acknowledged {
        let _waiting = Counted::new(&api.metrics.catching_up);
        let caught_up = tokio::time::timeout(CATCH_UP_WAIT, api.query.catch_up()).await;
        caught_up.map_err(|_| ApiError::CatchingUp { waited: CATCH_UP_WAIT })??;
    }
    let freshness = api.query.freshness();
    let is_closed = report.to_us <= freshness.watermark_us;
    if report.consistency == Consistency::Exact && !is_closed {
        return Err(ApiError::NotClosed { closed_until: watermark(freshness) });
    }
    api.answers.note(&report);
    let moment = moment(api, headers, &report).await?;
    let etag = AnswerKey::of(&report, moment.as_ref()).etag(&report);
    let mut response = if asks_for_another(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let answer = api.answer(moment.as_ref(), &report).await?;
        let explained = match report.explains {
            true => Some(moment.explain(&report).await?),
            false => None,
        };
        Told { moment: moment.as_ref(), freshness, is_closed, started, explained }.written(api, &report, &answer)?
    };
    let told = response.headers_mut();
    let mut tell = |name, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            told.insert(name, value);
        }
    };
    tell(header::ETAG, etag);
    tell(header::CACHE_CONTROL, cache_control(headers, Lasting::of(&report, is_closed)));
    tell(header::HeaderName::from_static(SESSION), moment.version().to_string());
    told.insert(header::VARY, HeaderValue::from_static("authorization, cookie"));
    Ok(response)
}

/// The tables, at least as far as the client has seen them.
async fn moment(api: &Api, headers: &HeaderMap, report: &Report) -> Result<Arc<dyn Moment>, ApiError> {
    let seen = match headers.get(SESSION).map(|value| value.to_str().unwrap_or_default().parse::<i64>()) {
        None => i64::MIN,
        Some(Ok(version)) if report.as_of.is_none() => version,
        Some(Ok(_)) => i64::MIN,
        Some(Err(_)) => {
            return Err(ApiError::Malformed(format!("`{SESSION}` is no number; send back the one of an answer")));
        }
    };
    let asked = Instant::now();
    loop {
        let moment = api.query.moment(report).await?;
        if moment.version() >= seen {
            return Ok(moment);
        }
        if asked.elapsed() > SESSION_WAIT {
            return Err(ApiError::Behind { seen, found: moment.version() });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the client has this very answer already (RFC 9110, section 13.1.2).
fn asks_for_another(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|list| list.split(',')).any(|known| known.trim() == etag)
}

/// For how long an answer may be given again without asking.
enum Lasting {
    No,
    Closed,
    Past,
}

impl Lasting {
    fn of(report: &Report, is_closed: bool) -> Self {
        match (report.as_of, report.consistency) {
            // What is compared with now changes with now.
            (Some(_), _) if !report.is_restated => Self::Past,
            // Another's answer may lack what was acknowledged since.
            (_, Consistency::Acknowledged) => Self::No,
            _ if is_closed => Self::Closed,
            _ => Self::No,
        }
    }
}

/// What a cache on the way may do with the answer: ask again with its ETag, and for a while not even that.
fn cache_control(headers: &HeaderMap, lasting: Lasting) -> String {
    let is_personal = headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::COOKIE);
    let who = if is_personal { "private" } else { "public" };
    match lasting {
        Lasting::Past => format!("{who}, max-age={PAST_MAX_AGE_S}"),
        Lasting::Closed => format!("{who}, max-age={CLOSED_MAX_AGE_S}"),
        Lasting::No => format!("{who}, no-cache"),
    }
}

/// What is said of an answer beside its rows.
struct Told<'a> {
    moment: &'a dyn Moment,
    freshness: Freshness,
    is_closed: bool,
    started: Instant,
    explained: Option<Value>,
}

impl Told<'_> {
    fn written(&self, api: &Api, report: &Report, answer: &Arc<Answer>) -> Result<Response, ApiError> {
        let body = match report.format {
            Format::Json => {
                let rows = told_rows::Json::new(&answer.columns, self.meta(answer));
                let body = told_rows::body(told_rows::pieces(answer.clone(), rows)).map_err(unwritten)?;
                return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
            }
            Format::Csv => {
                let rows = told_rows::Csv { columns: answer.columns.clone() };
                told_rows::body(told_rows::pieces(answer.clone(), rows)).map_err(unwritten)?
            }
            Format::Ndjson | Format::Parquet | Format::Arrow => {
                told_rows::body(api.query.encode(answer.clone(), report.format)?)?
            }
        };
        Ok((self.headers(answer, report.format), body).into_response())
    }

    /// What JSON says of the answer behind its rows.
    fn meta(&self, answer: &Answer) -> Value {
        let mut meta = json!({
            "source": answer.meta.source,
            "watermark": watermark(self.freshness),
            "closed": self.is_closed,
            "table_version": self.moment.version(),
            "elapsed_ms": (self.started.elapsed().as_micros() as f64) / 1_000.0,
        });
        if let Some(error) = answer.meta.users_error {
            meta["users"] = json!({"estimated": true, "relative_standard_error": error});
        }
        if let Some(explained) = &self.explained {
            meta["explain"] = explained.clone();
        }
        if !answer.meta.warnings.is_empty() {
            meta["warnings"] = json!(answer.meta.warnings);
        }
        meta
    }

    /// What a format without a place for it says of the answer.
    fn headers(&self, answer: &Answer, format: Format) -> [(&'static str, String); 5] {
        [
            (header::CONTENT_TYPE.as_str(), format.content_type().to_owned()),
            ("x-tally-source", answer.meta.source.clone()),
            ("x-tally-table-version", self.moment.version().to_string()),
            ("x-tally-watermark", watermark(self.freshness).unwrap_or_default()),
            ("x-tally-warnings", answer.meta.warnings.join("; ")),
        ]
    }
}

fn unwritten(error: std::io::Error) -> ApiError {
    ApiError::Failed(format!("cannot write the rows: {error}"))
}

/// Null until this process has caught up with the journal once.
pub(crate) fn watermark(freshness: Freshness) -> Option<String> {
    let at = Timestamp::from_microsecond(freshness.watermark_us).ok()?;
    (freshness.watermark_us > 0).then(|| format!("{at:.3}"))
}
