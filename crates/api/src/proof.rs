//! `GET /v1/verify` and `GET /v1/events/{event_id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tally_model::report::ReportError;
use tally_model::{Days, EventId, Life};

use crate::{Api, ApiError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyParameters {
    #[serde(default)]
    recount: bool,
    from: Option<String>,
    to: Option<String>,
}

impl VerifyParameters {
    fn days(&self) -> Result<Option<Days>, ReportError> {
        let asked = |what: String| ReportError {
            field: "from, to".to_owned(),
            what,
            cure: "write recount=true&from=2026-03-01&to=2026-03-02 for whole UTC days, or leave both out".to_owned(),
        };
        match (&self.from, &self.to) {
            (None, None) => Ok(None),
            (Some(from), Some(to)) if self.recount => {
                Days::parse(from, to).map(Some).map_err(|error| asked(error.to_string()))
            }
            _ => Err(asked("a range goes with a recount, and has both ends".to_owned())),
        }
    }
}

/// 200 where everything holds, 409 where the figures contradict each other: a monitor needs no JSON to tell.
pub(crate) async fn verify(
    State(api): State<Arc<Api>>,
    parameters: Result<Parameters<VerifyParameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Parameters(parameters) = parameters.map_err(|error| {
        let cure = "write /v1/verify, or /v1/verify?recount=true".to_owned();
        ReportError { field: "recount".to_owned(), what: error.body_text(), cure }
    })?;
    let report = match parameters.days()? {
        Some(days) => api.run(api.query.check_days(days)).await?,
        None => api.run(api.query.check(parameters.recount)).await?,
    };
    let status = if report.holds() { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok((status, Json(json!({"holds": report.holds(), "report": report}))).into_response())
}

pub(crate) async fn life(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Life>, ApiError> {
    let event_id: EventId = id.parse().map_err(|_| ReportError {
        field: "event_id".to_owned(),
        what: format!("{id:?} is not a UUID"),
        cure: "give the id that the event was sent with, or that the answer to it named".to_owned(),
    })?;
    let life = api.run(api.query.life(event_id)).await?;
    if life.sightings.is_empty() {
        return Err(ApiError::UnknownEvent(id));
    }
    Ok(Json(life))
}
