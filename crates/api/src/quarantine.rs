//! `GET /v1/quarantine`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tally_model::report::ReportError;
use tally_model::{Class, Place, Quarantined, Reason, one_of};
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use crate::extract::Parameters;
use crate::openapi::Problems;
use crate::page::page;
use crate::turns::Work;
use crate::{Api, ApiError};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QuarantineParameters {
    /// Only events that are there for this reason.
    #[param(schema_with = reasons)]
    reason: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// `next` of the answer before: the rows that follow it.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuarantineList {
    events: Vec<Quarantined>,
    /// The cursor of the rows that follow; null on the last page.
    next: Option<String>,
}

/// The newest events in quarantine, and why each is there
///
/// The whole event is at `/v1/events/{event_id}`; `POST /v1/admin/quarantine/resubmit` sends it again, mended.
#[utoipa::path(
    get, path = "/v1/quarantine", operation_id = "listQuarantine", tag = "events",
    params(QuarantineParameters),
    responses((status = 200, description = "A page of the list.", body = QuarantineList), Problems),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Parameters(asked): Parameters<QuarantineParameters>,
) -> Result<Json<QuarantineList>, ApiError> {
    let reason = asked.reason.map(|name| {
        let known = Reason::parse(&name).filter(|reason| reason.class() == Class::Quarantined);
        known.ok_or_else(|| ReportError::unknown("reason", &name, names()))
    });
    let (reason, page) = (reason.transpose()?, page(asked.limit, asked.cursor.as_deref())?);
    let listed = api.run(Work::Light, api.query.quarantined(reason, page)).await?;
    Ok(Json(QuarantineList { events: listed.rows, next: listed.next.as_ref().map(Place::cursor) }))
}

fn names() -> Vec<&'static str> {
    let quarantine = Reason::ALL.into_iter().filter(|reason| reason.class() == Class::Quarantined);
    quarantine.map(Reason::as_str).collect()
}

fn reasons() -> Schema {
    one_of(names()).into()
}
