//! `/v1/exports`: answers too large to wait for. Made in the background, one at a time, kept as files for a day, and downloaded
//! in as many pieces as the line allows.

mod range;
mod store;

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tally_model::report::{Report, ReportError, ReportRequest};
use tally_model::{Clock, Entropy, Format};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tracing::info;
use utoipa::ToSchema;

use crate::extract::Question;
use crate::openapi::Problems;
use crate::{ApiError, Problem, Query, QueryError, SqlQuestion};
use range::{Span, Wanted, wanted};
use store::{Export, State, Store};

/// How long one may take. It shares the engine with everybody.
const TIME_LIMIT: Duration = Duration::from_secs(3_600);
/// The largest file that is made.
const BYTES_MAX: u64 = 8 << 30;
/// How often what has expired is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 256 * 1024;

pub struct Exports {
    query: Arc<dyn Query>,
    store: Store,
    /// One at a time: they are for those who do not wait.
    turn: Semaphore,
}

impl Exports {
    pub fn open(
        folder: PathBuf,
        query: Arc<dyn Query>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        registry: &mut Registry,
    ) -> std::io::Result<Arc<Self>> {
        let store = Store::open(folder, clock, entropy, registry)?;
        Ok(Arc::new(Self { query, store, turn: Semaphore::new(1) }))
    }

    /// Removes what has expired, for ever.
    pub async fn keep_up(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.store.remove_expired();
        }
    }

    async fn make(self: Arc<Self>, export: Export, asked: Asked, format: Format) {
        let Ok(_turn) = self.turn.acquire().await else { return };
        self.store.progress(&export.id, State::Running, 0);
        match tokio::time::timeout(TIME_LIMIT, self.write(&export, asked, format)).await {
            Ok(Ok(bytes)) => {
                self.store.progress(&export.id, State::Done, bytes);
                info!(id = export.id, bytes, "an export is done");
            }
            Ok(Err(why)) => self.store.fail(&export.id, &why),
            Err(_) => self.store.fail(&export.id, "it took more than an hour; ask for a shorter time"),
        }
    }

    async fn write(&self, export: &Export, asked: Asked, format: Format) -> Result<u64, String> {
        let mut rows = self.rows(asked, format).await.map_err(|error| error.to_string())?;
        let cannot =
            |error: std::io::Error| format!("cannot write the file: {error}; check the data folder's free space");
        let mut file = File::create(self.store.file(export)).await.map_err(cannot)?;
        let mut bytes = 0;
        while let Some(chunk) = rows.next().await {
            let chunk = chunk.map_err(|error| error.to_string())?;
            bytes += chunk.len() as u64;
            if bytes > BYTES_MAX {
                return Err(format!(
                    "it is over {} GiB, the most that is kept; ask for a shorter time",
                    BYTES_MAX >> 30
                ));
            }
            file.write_all(&chunk).await.map_err(cannot)?;
            self.store.progress(&export.id, State::Running, bytes);
        }
        file.flush().await.map_err(cannot)?;
        // Before it is called done: a restart that finds it done finds it whole.
        file.sync_all().await.map_err(cannot)?;
        Ok(bytes)
    }

    async fn rows(
        &self,
        asked: Asked,
        format: Format,
    ) -> Result<BoxStream<'static, Result<Bytes, QueryError>>, QueryError> {
        match asked {
            Asked::Sql(statement) => {
                let question = SqlQuestion { statement, format, time_limit: TIME_LIMIT, rows_max: None };
                Ok(self.query.sql(question).await?.body)
            }
            Asked::Report(report) => {
                let answer = self.query.report(&report).await?;
                Ok(stream::iter(self.query.encode(Arc::new(answer), format)?).boxed())
            }
        }
    }
}

enum Asked {
    Sql(String),
    Report(Box<Report>),
}

/// One question: `sql` or `query`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportRequest {
    /// A statement, as for `/v1/sql`.
    sql: Option<String>,
    /// A report, as for `/v1/query`.
    query: Option<ReportRequest>,
    /// `csv`, `ndjson`, `parquet` (the default) or `arrow`.
    #[schema(pattern = "^(csv|ndjson|parquet|arrow)$")]
    format: Option<String>,
}

impl ExportRequest {
    fn checked(self) -> Result<(Asked, Format), ReportError> {
        let error = |field: &str, what: &str, cure: &str| ReportError {
            field: field.to_owned(),
            what: what.to_owned(),
            cure: cure.to_owned(),
        };
        let format = self.format.as_deref().map_or(Some(Format::Parquet), Format::parse);
        let format = format.filter(|format| *format != Format::Json);
        let format = format.ok_or_else(|| {
            let names = Format::ALL.into_iter().filter(|format| *format != Format::Json).map(Format::as_str);
            ReportError::unknown("format", self.format.as_deref().unwrap_or_default(), names.collect())
        })?;
        let asked = match (self.sql, self.query) {
            (Some(statement), None) => Asked::Sql(statement),
            (None, Some(request)) => Asked::Report(Box::new(Report::try_from(&request)?)),
            _ => return Err(error("sql", "there is no question", "give `sql`, or `query` as for /v1/query; not both")),
        };
        Ok((asked, format))
    }
}

pub fn router(exports: Arc<Exports>) -> Router {
    Router::new()
        .route("/v1/exports", post(create).get(list))
        .route("/v1/exports/{id}", get(show).delete(remove))
        .route("/v1/exports/{id}/file", get(file))
        .with_state(exports)
}

/// Makes an answer in the background
///
/// For what is too large to wait for. One is made at a time; they are kept for 24 hours, 100 at most.
#[utoipa::path(
    post, path = "/v1/exports", operation_id = "createExport", tag = "exports",
    request_body(content = ExportRequest, example = json!({"sql": "SELECT * FROM events", "format": "parquet"})),
    responses(
        (status = 202, description = "It is made from now on; `Location` is where to look how far it is.", body = ExportShown, headers(("Location" = String, description = "`/v1/exports/{id}`"))),
        Problems,
    ),
)]
pub(crate) async fn create(
    Shared(exports): Shared<Arc<Exports>>,
    Question(request): Question<ExportRequest>,
) -> Result<Response, ApiError> {
    let (asked, format) = request.checked()?;
    let export = exports.store.create(format)?;
    let making = tokio::spawn(exports.clone().make(export.clone(), asked, format));
    exports.store.is_made_by(&export.id, making.abort_handle());
    let location = [(header::LOCATION, format!("/v1/exports/{}", export.id))];
    Ok((StatusCode::ACCEPTED, location, Json(shown(&export))).into_response())
}

/// All exports that are kept
///
/// In one page, since there are 100 at most.
#[utoipa::path(
    get, path = "/v1/exports", operation_id = "listExports", tag = "exports",
    responses((status = 200, description = "All of them, running ones included.", body = ExportList)),
)]
pub(crate) async fn list(Shared(exports): Shared<Arc<Exports>>) -> Json<ExportList> {
    exports.store.remove_expired();
    Json(ExportList { exports: exports.store.list().iter().map(shown).collect() })
}

/// How far an export is
#[utoipa::path(
    get, path = "/v1/exports/{id}", operation_id = "showExport", tag = "exports",
    params(("id" = String, Path, description = "As `POST /v1/exports` told it.", example = "0199aa00000070008000000000000001")),
    responses(
        (status = 200, description = "Its state, and where its file is once it is done.", body = ExportShown),
        (status = 404, description = "There is no such export: `unknown-export`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    Shared(exports): Shared<Arc<Exports>>,
    Path(id): Path<String>,
) -> Result<Json<ExportShown>, ApiError> {
    let export = exports.store.get(&id).ok_or(ApiError::UnknownExport(id))?;
    Ok(Json(shown(&export)))
}

/// Stops an export and removes its file
#[utoipa::path(
    delete, path = "/v1/exports/{id}", operation_id = "removeExport", tag = "exports",
    params(("id" = String, Path, description = "As `POST /v1/exports` told it.", example = "0199aa00000070008000000000000001")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "There is no such export: `unknown-export`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn remove(
    Shared(exports): Shared<Arc<Exports>>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if exports.store.remove(&id) { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::UnknownExport(id)) }
}

/// An export as it is told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportShown {
    id: String,
    state: State,
    format: String,
    /// Written so far.
    bytes: u64,
    created_at: Option<String>,
    expires_at: Option<String>,
    /// Why there is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Where the file is, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportList {
    exports: Vec<ExportShown>,
}

fn shown(export: &Export) -> ExportShown {
    let time = |at_s| Timestamp::from_second(at_s).map(|at| at.to_string()).ok();
    let is_there = export.error.is_none() && export.state == State::Done;
    ExportShown {
        id: export.id.clone(),
        state: export.state,
        format: export.format.clone(),
        bytes: export.bytes,
        created_at: time(export.created_at_s),
        expires_at: time(export.expires_at_s),
        error: export.error.clone(),
        file: is_there.then(|| format!("/v1/exports/{}/file", export.id)),
    }
}

/// The file of an export
///
/// In as many pieces as the line allows: `Range` and `If-Range` are honoured.
#[utoipa::path(
    get, path = "/v1/exports/{id}/file", operation_id = "exportFile", tag = "exports",
    params(
        ("id" = String, Path, description = "As `POST /v1/exports` told it.", example = "0199aa00000070008000000000000001"),
        ("Range" = Option<String>, Header, description = "`bytes=0-1048575`, for a part."),
    ),
    responses(
        (status = 200, description = "The whole file, in its format.", content((String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 206, description = "A part of it.", content((String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 409, description = "It is not done yet: `not-ready`.", body = Problem, content_type = "application/problem+json"),
        (status = 416, description = "The file has no such part."),
        (status = 404, description = "There is no such export: `unknown-export`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn file(
    Shared(exports): Shared<Arc<Exports>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let export = exports.store.get(&id).ok_or_else(|| ApiError::UnknownExport(id.clone()))?;
    match export.state {
        State::Done => {}
        State::Waiting | State::Running => return Err(ApiError::NotReady(id)),
        State::Failed => return Err(ApiError::Failed(export.error.unwrap_or_default())),
    }
    let failed = |error: std::io::Error| ApiError::Failed(format!("cannot read the file of the export: {error}"));
    let mut file = File::open(exports.store.file(&export)).await.map_err(failed)?;
    let tag = format!("\"{id}\"");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // A part is only of use to who has the rest of the same file.
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|known| known == tag));
    let name = format!("attachment; filename=\"tally-{id}.{}\"", export.format);
    let kind = Format::parse(&export.format).unwrap_or_default().content_type().to_owned();
    let bytes = export.bytes;
    let fixed = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, name),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, tag),
    ];
    let (status, span, content_range) = match wanted(range, bytes) {
        Wanted::Whole => (StatusCode::OK, Span { from: 0, to: bytes }, None),
        Wanted::Part(span) => {
            let content_range = format!("bytes {}-{}/{bytes}", span.from, span.to - 1);
            (StatusCode::PARTIAL_CONTENT, span, Some(content_range))
        }
        Wanted::Nothing => {
            let content_range = [(header::CONTENT_RANGE, format!("bytes */{bytes}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, content_range).into_response());
        }
    };
    file.seek(SeekFrom::Start(span.from)).await.map_err(failed)?;
    let length = [(header::CONTENT_LENGTH, (span.to - span.from).to_string())];
    let mut response = (status, fixed, length, Body::from_stream(pieces(file, span.to - span.from))).into_response();
    if let Some(value) = content_range.and_then(|text| text.try_into().ok()) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn pieces(file: File, left: u64) -> BoxStream<'static, std::io::Result<Bytes>> {
    let pieces = stream::try_unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES)];
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        Ok(Some((Bytes::from(piece), (file, left - read as u64))))
    });
    pieces.boxed()
}
