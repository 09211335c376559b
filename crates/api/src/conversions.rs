//! `GET /v1/conversions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tally_model::{ConversionFilter, ConversionRow, ConversionStatus, Place, Resolution};
use utoipa::ToSchema;

use crate::extract::Parameters;
use crate::openapi::Problems;
use crate::page::page;
use crate::turns::Work;
use crate::{Api, ApiError};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConversionParameters {
    /// Only words of this status.
    status: Option<ConversionStatus>,
    /// Only what was resolved in this way.
    resolution: Option<Resolution>,
    /// Only words about this transaction, by the number that the network gave it.
    #[param(example = "7")]
    txn_id: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// `next` of the answer before: the rows that follow it.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversionList {
    conversions: Vec<ConversionRow>,
    /// The cursor of the rows that follow; null on the last page.
    next: Option<String>,
}

/// The newest words about conversions, and what each is owed to
///
/// What was received of each transaction, newest first, with the click or view that it is owed to.
#[utoipa::path(
    get, path = "/v1/conversions", operation_id = "listConversions", tag = "events",
    params(ConversionParameters),
    responses((status = 200, description = "A page of the list.", body = ConversionList), Problems),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Parameters(asked): Parameters<ConversionParameters>,
) -> Result<Json<ConversionList>, ApiError> {
    let page = page(asked.limit, asked.cursor.as_deref())?;
    let filter = ConversionFilter { status: asked.status, resolution: asked.resolution, txn_id: asked.txn_id };
    let listed = api.run(Work::Light, api.query.conversions(&filter, page)).await?;
    Ok(Json(ConversionList { conversions: listed.rows, next: listed.next.as_ref().map(Place::cursor) }))
}
