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
use serde::Deserialize;
use serde_json::{Value, json};
use tally_model::report::{Report, ReportError, ReportRequest};
use tally_model::{Clock, Entropy, Format};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tracing::info;

use crate::extract::Question;
use crate::{ApiError, Query, QueryError, SqlQuestion};
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
                let bytes = self.query.encode(&answer, format)?;
                Ok(stream::once(async { Ok(bytes) }).boxed())
            }
        }
    }
}

enum Asked {
    Sql(String),
    Report(Box<Report>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportRequest {
    sql: Option<String>,
    query: Option<ReportRequest>,
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
        let format = format.ok_or_else(|| error("format", "it is not known", "use csv, ndjson, parquet or arrow"))?;
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

async fn create(
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

async fn list(Shared(exports): Shared<Arc<Exports>>) -> Json<Value> {
    exports.store.remove_expired();
    Json(json!({"exports": exports.store.list().iter().map(shown).collect::<Vec<_>>()}))
}

async fn show(Shared(exports): Shared<Arc<Exports>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let export = exports.store.get(&id).ok_or(ApiError::UnknownExport(id))?;
    Ok(Json(shown(&export)))
}

async fn remove(Shared(exports): Shared<Arc<Exports>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    if exports.store.remove(&id) { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::UnknownExport(id)) }
}

fn shown(export: &Export) -> Value {
    let time = |at_s| Timestamp::from_second(at_s).map(|at| at.to_string()).ok();
    let mut shown = json!({
        "id": export.id,
        "state": export.state,
        "format": export.format,
        "bytes": export.bytes,
        "created_at": time(export.created_at_s),
        "expires_at": time(export.expires_at_s),
    });
    match (&export.error, export.state) {
        (Some(error), _) => shown["error"] = json!(error),
        (None, State::Done) => shown["file"] = json!(format!("/v1/exports/{}/file", export.id)),
        (None, _) => {}
    }
    shown
}

async fn file(
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
