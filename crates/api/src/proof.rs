//! `GET /v1/verify` and `GET /v1/events/{event_id}`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tally_model::report::ReportError;
use tally_model::{CheckReport, Days, EventId, Life};
use utoipa::ToSchema;

use crate::extract::Parameters;
use crate::openapi::Problems;
use crate::turns::Work;
use crate::{Api, ApiError, Problem};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerifyParameters {
    /// Also counts the raw events again and compares every cell of every rollup. It reads everything.
    #[serde(default)]
    #[param(default = false)]
    recount: bool,
    /// With `recount`: the first of the whole UTC days that are counted again.
    #[param(format = Date, example = "2026-03-01")]
    from: Option<String>,
    /// The day after the last.
    #[param(format = Date, example = "2026-03-02")]
    to: Option<String>,
    /// An earlier answer will do, at most twenty times as old as it took to find out: for pages that ask again and again. Not with
    /// `recount`.
    #[serde(default)]
    #[param(default = false)]
    recent: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Proof {
    /// Whether there are no differences.
    holds: bool,
    /// How old the answer is: 0 unless `recent` was asked for.
    age_ms: u64,
    report: CheckReport,
}

/// The last answer to those whom a recent one will do.
pub(crate) struct Recent {
    report: CheckReport,
    since: Instant,
    took: Duration,
}

/// So that proving, which reads everything, takes a twentieth of the time at most, however many look.
const RECENT_FACTOR: u32 = 20;

impl Api {
    /// Whoever asks while it is found out waits for that one answer.
    async fn recent_check(&self) -> Result<(CheckReport, Duration), ApiError> {
        let mut recent = self.recent_check.lock().await;
        if let Some(Recent { report, since, took }) = recent.as_ref()
            && since.elapsed() < *took * RECENT_FACTOR
        {
            return Ok((report.clone(), since.elapsed()));
        }
        let since = Instant::now();
        let report = self.run(Work::Light, self.query.check(false)).await?;
        *recent = Some(Recent { report: report.clone(), since, took: since.elapsed() });
        Ok((report, Duration::ZERO))
    }
}

impl VerifyParameters {
    fn days(&self) -> Result<Option<Days>, ReportError> {
        let asked = |what: String| ReportError {
            field: "from, to".to_owned(),
            what,
            cure: "write recount=true&from=2026-03-01&to=2026-03-02 for whole UTC days, or leave both out".to_owned(),
        };
        if self.recount && self.recent {
            return Err(ReportError {
                field: "recent".to_owned(),
                what: "a recount is never an earlier one".to_owned(),
                cure: "leave out `recent`, or `recount`".to_owned(),
            });
        }
        match (&self.from, &self.to) {
            (None, None) => Ok(None),
            (Some(from), Some(to)) if self.recount => {
                Days::parse(from, to).map(Some).map_err(|error| asked(error.to_string()))
            }
            _ => Err(asked("a range goes with a recount, and has both ends".to_owned())),
        }
    }
}

/// Proof of the figures
///
/// 200 where everything holds, 409 where the figures contradict each other: a monitor needs no JSON to tell.
#[utoipa::path(
    get, path = "/v1/verify", operation_id = "verify", tag = "proof",
    params(VerifyParameters),
    responses(
        (status = 200, description = "Everything holds.", body = Proof),
        (status = 409, description = "It does not: `report.differences` says where.", body = Proof),
        Problems,
    ),
)]
pub(crate) async fn verify(
    State(api): State<Arc<Api>>,
    Parameters(parameters): Parameters<VerifyParameters>,
) -> Result<Response, ApiError> {
    let (report, age) = match parameters.days()? {
        Some(days) => (api.run(Work::Heavy, api.query.check_days(days)).await?, Duration::ZERO),
        None if parameters.recount => (api.run(Work::Heavy, api.query.check(true)).await?, Duration::ZERO),
        None if parameters.recent => api.recent_check().await?,
        // What monitors ask must not wait behind heavy questions.
        None => (api.run(Work::Light, api.query.check(false)).await?, Duration::ZERO),
    };
    let status = if report.holds() { StatusCode::OK } else { StatusCode::CONFLICT };
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Ok((status, Json(Proof { holds: report.holds(), age_ms, report })).into_response())
}

/// The life of one event
///
/// Every sighting of the id, in the order of the log, with its verdict and the rollup cells that it is counted in.
#[utoipa::path(
    get, path = "/v1/events/{event_id}", operation_id = "eventLife", tag = "events",
    params(("event_id" = uuid::Uuid, Path, description = "As it was sent, or told in the answer.")),
    responses(
        (status = 200, description = "All sightings.", body = Life),
        (status = 404, description = "There is no such event, or it is not committed yet: `unknown-event`.", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(crate) async fn life(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Life>, ApiError> {
    let event_id: EventId = id.parse().map_err(|_| ReportError {
        field: "event_id".to_owned(),
        what: format!("{id:?} is not a UUID"),
        cure: "give the id that the event was sent with, or that the answer to it named".to_owned(),
    })?;
    let life = api.run(Work::Light, api.query.life(event_id)).await?;
    if life.sightings.is_empty() {
        return Err(ApiError::UnknownEvent(id));
    }
    Ok(Json(life))
}
