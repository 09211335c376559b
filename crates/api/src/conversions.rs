//! `GET /v1/conversions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as Parameters, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tally_model::report::ReportError;
use tally_model::{ConversionFilter, ConversionStatus, Resolution};

use crate::{Api, ApiError};

/// Listed at once.
const LIMIT_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParameters {
    status: Option<String>,
    resolution: Option<String>,
    txn_id: Option<String>,
    #[serde(default = "limit_default")]
    limit: usize,
}

fn limit_default() -> usize {
    100
}

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    parameters: Result<Parameters<ListParameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let asked = |field: &str, what: String, cure: String| ReportError { field: field.to_owned(), what, cure };
    let Parameters(ListParameters { status, resolution, txn_id, limit }) = parameters.map_err(|error| {
        let cure = "write /v1/conversions?status=approved&resolution=unresolved&txn_id=7&limit=100".to_owned();
        asked("status, resolution, txn_id, limit", error.body_text(), cure)
    })?;
    if !(1..=LIMIT_MAX).contains(&limit) {
        let cure = format!("ask for 1 to {LIMIT_MAX}");
        return Err(asked("limit", format!("{limit} conversions are not listed"), cure).into());
    }
    let status = status.map(|name| {
        let names = ConversionStatus::ALL.map(ConversionStatus::as_str).join(", ");
        let unknown = || asked("status", "there is no such status".to_owned(), format!("use one of {names}"));
        ConversionStatus::parse(&name).ok_or_else(unknown)
    });
    let resolution = resolution.map(|name| {
        let names = Resolution::ALL.map(Resolution::as_str).join(", ");
        let unknown = || asked("resolution", "there is no such resolution".to_owned(), format!("use one of {names}"));
        Resolution::parse(&name).ok_or_else(unknown)
    });
    let filter = ConversionFilter { status: status.transpose()?, resolution: resolution.transpose()?, txn_id, limit };
    let conversions = api.run(api.query.conversions(&filter)).await?;
    Ok(Json(json!({"conversions": conversions})))
}
