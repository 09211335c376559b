//! `GET /v1/quarantine`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as Parameters, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tally_model::report::ReportError;
use tally_model::{Class, Reason};

use crate::{Api, ApiError};

/// Listed at once.
const LIMIT_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParameters {
    reason: Option<String>,
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
    let Parameters(ListParameters { reason, limit }) = parameters.map_err(|error| {
        asked("reason, limit", error.body_text(), "write /v1/quarantine?reason=undecodable&limit=100".to_owned())
    })?;
    let reason = reason.map(|name| {
        let known = Reason::parse(&name).filter(|reason| reason.class() == Class::Quarantined);
        let cure = || format!("use one of {}", names().join(", "));
        known.ok_or_else(|| asked("reason", format!("{name:?} is no reason for quarantine"), cure()))
    });
    let reason = reason.transpose()?;
    if !(1..=LIMIT_MAX).contains(&limit) {
        let cure = format!("ask for 1 to {LIMIT_MAX}");
        return Err(asked("limit", format!("{limit} events are not listed"), cure).into());
    }
    let events = api.run(api.query.quarantined(reason, limit)).await?;
    Ok(Json(json!({"events": events})))
}

fn names() -> Vec<&'static str> {
    let quarantine = Reason::ALL.into_iter().filter(|reason| reason.class() == Class::Quarantined);
    quarantine.map(Reason::as_str).collect()
}
