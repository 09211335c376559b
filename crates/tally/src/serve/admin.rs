//! What changes the figures on demand. Who may do so, `access.rs` decides.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tally_api::{ApiError, Problem, Question};
use tally_journal::{Journal, Record};
use tally_lake::{Lake, LakeError};
use tally_model::report::ReportError;
use tally_model::{Clock, Days, Event, EventId, RebuildReport, encode_record, partition_of};
use utoipa::ToSchema;

use crate::rebuild::rebuild;
use crate::resubmit::{mended, resubmitted_id};

/// Events that one request may resubmit.
const EVENTS_MAX: usize = 1_000;

pub(crate) struct Admin {
    pub lake: Lake,
    pub journal: Arc<dyn Journal>,
    pub clock: Arc<dyn Clock>,
}

pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/admin/rebuild", post(rebuild_days))
        .route("/v1/admin/quarantine/resubmit", post(resubmit))
        .with_state(admin)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RebuildRequest {
    /// The first of the UTC days.
    #[schema(format = Date)]
    from: String,
    /// The day after the last.
    #[schema(format = Date)]
    to: String,
}

/// Counts days again and replaces their cells
#[utoipa::path(
    post, path = "/v1/admin/rebuild", operation_id = "rebuild", tag = "admin",
    request_body(content = RebuildRequest, example = json!({"from": "2026-03-01", "to": "2026-03-02"})),
    responses(
        (status = 200, description = "What was counted, and whether anything differed and is mended.", body = RebuildReport),
        (status = 400, description = "`malformed`, `question`.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly: `slow`.", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "It failed: `failed`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rebuild_days(
    State(admin): State<Arc<Admin>>,
    Question(RebuildRequest { from, to }): Question<RebuildRequest>,
) -> Result<Json<RebuildReport>, ApiError> {
    let days = Days::parse(&from, &to).map_err(|error| ReportError {
        field: "from, to".to_owned(),
        what: error.to_string(),
        cure: "give whole UTC days, such as 2026-03-01 to 2026-03-02".to_owned(),
    })?;
    let lake = admin.lake.clone();
    let report = to_the_end(async move { rebuild(&lake, days).await }).await?;
    Ok(Json(report.map_err(|error| ApiError::Failed(error.to_string()))?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResubmitRequest {
    #[schema(max_items = 1_000)]
    events: Vec<ResubmitEvent>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResubmitEvent {
    #[schema(value_type = uuid::Uuid)]
    event_id: EventId,
    /// Fields to set anew.
    #[serde(default)]
    #[schema(value_type = Object)]
    set: Map<String, Value>,
}

/// What became of one event of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resubmitted {
    #[schema(value_type = uuid::Uuid)]
    event_id: EventId,
    /// The event that stands for it; none where it cannot be sent.
    #[schema(value_type = Option<uuid::Uuid>)]
    new_event_id: Option<EventId>,
    outcome: String,
}

/// Sends events in quarantine again, mended
///
/// A bad one never costs the good ones. What is in the lake already is not sent again, so that repeating a request is safe
/// for longer than ids are remembered.
#[utoipa::path(
    post, path = "/v1/admin/quarantine/resubmit", operation_id = "resubmit", tag = "admin",
    request_body(content = ResubmitRequest, example = json!({"events": [{"event_id": "0199aa00-0000-7000-8000-000000000001", "set": {"campaign_id": "spring", "ad_id": "a1"}}]})),
    responses(
        (status = 200, description = "What became of each.", body = ResubmitAnswer),
        (status = 400, description = "`malformed`, `question`.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly: `slow`.", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "Not all of it was kept; repeat it: `failed`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resubmit(
    State(admin): State<Arc<Admin>>,
    Question(ResubmitRequest { events }): Question<ResubmitRequest>,
) -> Result<Json<ResubmitAnswer>, ApiError> {
    if events.len() > EVENTS_MAX {
        return Err(ApiError::Malformed(format!("{} events are too many; send {EVENTS_MAX} at once", events.len())));
    }
    let mut results = Vec::with_capacity(events.len());
    let mut receipts = Vec::new();
    let unkept = |error| ApiError::Failed(format!("cannot keep all of these events: {error}; repeat the request"));
    for ResubmitEvent { event_id, set } in events {
        let (new_event_id, outcome) = match admin.mended(event_id, &set).await? {
            Ok(Some(event)) => {
                let partition = partition_of(event.id, admin.journal.partitions());
                // One by one, since together they may be too large for an append; they share a sync all the same.
                let record = Record { partition, bytes: encode_record(&event).into() };
                receipts.push(admin.journal.append(vec![record]).map_err(unkept)?);
                (Some(event.id), "resubmitted".to_owned())
            }
            Ok(None) => (Some(resubmitted_id(event_id)), "was resubmitted before".to_owned()),
            Err(why) => (None, why),
        };
        results.push(Resubmitted { event_id, new_event_id, outcome });
    }
    for receipt in receipts {
        receipt.await.map_err(unkept)?;
    }
    Ok(Json(ResubmitAnswer { results }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResubmitAnswer {
    results: Vec<Resubmitted>,
}

impl Admin {
    /// The event to send for a quarantined one; none where it was sent before, and a sentence where it cannot be.
    async fn mended(&self, id: EventId, set: &Map<String, Value>) -> Result<Result<Option<Event>, String>, ApiError> {
        let failed = |error: LakeError| ApiError::Failed(error.to_string());
        let queries = self.lake.queries();
        let Some((old, reason)) = queries.quarantined_event(id).await.map_err(failed)? else {
            return Ok(Err("there is no such event in quarantine".to_owned()));
        };
        let before = queries.life(resubmitted_id(id)).await.map_err(failed)?;
        if !before.sightings.is_empty() {
            return Ok(Ok(None));
        }
        Ok(mended(&old, reason, set, self.clock.now_us()).map(Some))
    }
}

/// On a thread of its own, since it computes for long; and to its end, also when whoever asked hangs up.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    done.map_err(|error| ApiError::Failed(format!("the work ended unexpectedly: {error}")))
}
