//! The status table of the way out: RFC 9457 problem details for everything that is not an answer.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tally_model::report::ReportError;
use tracing::error;
use utoipa::ToSchema;

use crate::QueryError;

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is not the JSON that is expected.
    #[error("{0}")]
    Malformed(String),
    #[error("the body did not arrive within {} s; mend the connection", limit.as_secs())]
    Slow { limit: Duration },
    #[error(transparent)]
    Asked(#[from] ReportError),
    #[error(
        "figures are exact up to {}; ask with `to` at or before that, or later", closed_until.as_deref().unwrap_or("no time yet, since the server still reads its journal")
    )]
    NotClosed { closed_until: Option<String> },
    #[error(
        "the server has no event {0}; if it was sent just now, it may not be committed yet: try again in a few seconds"
    )]
    UnknownEvent(String),
    #[error("there is no export {0}; it may have expired")]
    UnknownExport(String),
    #[error("the export {0} is not done yet; ask /v1/exports/{0} how far it is")]
    NotReady(String),
    #[error(
        "the client has seen version {seen} of the figures, this server has {found}; try again in a moment, or leave `x-tally-session` out"
    )]
    Behind { seen: i64, found: i64 },
    #[error(
        "the figures are still behind the journal after {} s; try again, or leave `consistency` out for what is in by now", waited.as_secs()
    )]
    CatchingUp { waited: Duration },
    #[error("too many questions are running; try again in a moment")]
    Busy,
    #[error(
        "{max} connections look at the live figures already, which is the limit; try again later, or ask /v1/query"
    )]
    TooManyViewers { max: usize },
    #[error(
        "a page of another server asks for live figures; open the dashboard at this server's own address (a proxy in front must pass the header `Host` on)"
    )]
    OtherOrigin,
    #[error("the question ran for {} s, which is the limit; ask for a shorter time or fewer groups", limit.as_secs())]
    TooLong { limit: Duration },
    #[error("{0}")]
    Statement(String),
    #[error("{0}")]
    Waiting(String),
    #[error("{0}")]
    OverLimit(String),
    #[error("{0}")]
    Failed(String),
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Asked(asked) => ApiError::Asked(asked),
            QueryError::Statement(what) => ApiError::Statement(what),
            QueryError::Busy(what) => ApiError::Waiting(what),
            QueryError::OverLimit(what) => ApiError::OverLimit(what),
            QueryError::Failed(cause) => ApiError::Failed(cause),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, title) = match &self {
            ApiError::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "The request is malformed"),
            ApiError::Slow { .. } => (StatusCode::REQUEST_TIMEOUT, "slow", "The body came too slowly"),
            ApiError::NotClosed { .. } => (StatusCode::CONFLICT, "not-closed", "Not all of this time is counted yet"),
            ApiError::Asked(_) => (StatusCode::BAD_REQUEST, "question", "The request cannot be answered as asked"),
            ApiError::UnknownEvent(_) => (StatusCode::NOT_FOUND, "unknown-event", "No such event"),
            ApiError::Statement(_) => (StatusCode::BAD_REQUEST, "statement", "The statement cannot be answered"),
            ApiError::OverLimit(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "over-limit", "The statement asks for too much")
            }
            ApiError::UnknownExport(_) => (StatusCode::NOT_FOUND, "unknown-export", "No such export"),
            ApiError::NotReady(_) => (StatusCode::CONFLICT, "not-ready", "The export is not done yet"),
            ApiError::Behind { .. } | ApiError::CatchingUp { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "behind", "The server is behind")
            }
            ApiError::Busy | ApiError::Waiting(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The server is busy"),
            ApiError::TooManyViewers { .. } => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The server is busy"),
            ApiError::OtherOrigin => (StatusCode::FORBIDDEN, "other-origin", "Not from here"),
            ApiError::TooLong { .. } => (StatusCode::GATEWAY_TIMEOUT, "too-long", "The question took too long"),
            ApiError::Failed(cause) => {
                error!(%cause, "a question failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "failed", "The question failed")
            }
        };
        let fault = if let ApiError::Asked(fault) = &self { Some(fault.clone()) } else { None };
        let (field, what, cure) = fault
            .map_or_else(Default::default, |ReportError { field, what, cure }| (Some(field), Some(what), Some(cure)));
        let closed_until =
            if let ApiError::NotClosed { closed_until } = &self { Some(closed_until.clone()) } else { None };
        let detail = self.to_string();
        let problem = Problem { field, what, cure, closed_until, ..Problem::new(status, kind, title, detail) };
        let mut response = problem.into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// What went wrong (RFC 9457), and where it is known, with which field and how to mend it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:tally:problem:` and the kind of it, which programs may go by.
    #[schema(pattern = "^urn:tally:problem:[a-z-]+$", example = "urn:tally:problem:question")]
    pub r#type: String,
    pub title: String,
    /// The same as the answer's.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// A sentence: what was tried, what is wrong, and the cure.
    pub detail: String,
    /// The field or parameter that is wrong, such as `filters[0].field`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub field: Option<String>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub what: Option<String>,
    /// How to mend it, with the nearest name that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "did you mean \"clicks\"?")]
    pub cure: Option<String>,
    /// With `not-closed`: figures are exact up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub closed_until: Option<Option<String>>,
}

impl Problem {
    /// One that is about no field.
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: String) -> Self {
        Self {
            r#type: format!("urn:tally:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            field: None,
            what: None,
            cure: None,
            closed_until: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Texts and numbers only: writing them has no way to fail.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
