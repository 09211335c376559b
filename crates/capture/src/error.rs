//! What is wrong with an event or a request, and the one table from that to the HTTP answer (RFC 9457 problem details).

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tally_journal::JournalError;
use tally_model::Kind;
use utoipa::ToSchema;

/// A journal that has filled up empties over some seconds, not within one.
const SHED_RETRY_S: u64 = 5;

use crate::limits::Limited;

/// One thing wrong with one event. Never quotes a user's id or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// None where the text is no event at all.
    #[schema(value_type = Option<String>)]
    pub field: Option<&'static str>,
    pub what: String,
    #[schema(value_type = String)]
    pub cure: Cow<'static, str>,
}

impl Fault {
    pub fn new(field: &'static str, what: impl Into<String>, cure: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), what: what.into(), cure: cure.into() }
    }

    pub fn no_event(what: impl Into<String>, cure: impl Into<Cow<'static, str>>) -> Self {
        Self { field: None, what: what.into(), cure: cure.into() }
    }
}

/// A fault and the line, or the element of an array, that has it; both are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LineFault {
    pub line: usize,
    #[serde(flatten)]
    pub fault: Fault,
}

/// Why a request is not answered with what it asked for, split by what its sender would do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error("{}{}; {}", .0.field.map(|field| format!("`{field}`: ")).unwrap_or_default(), .0.what, .0.cure)]
    Event(Fault),
    /// The body as a whole cannot be read; nothing of it was kept.
    #[error("{what}; {cure}")]
    Body { what: String, cure: &'static str },
    #[error("none of the {rejected} events could be taken; mend them as `errors` says and send them again")]
    NothingAccepted { rejected: usize, errors: Vec<LineFault>, errors_omitted: usize },
    #[error("{what}; {cure}")]
    TooLarge { what: String, cure: &'static str },
    #[error("{what}; {cure}")]
    Media { what: String, cure: &'static str },
    #[error("the body did not arrive within {seconds} s; send smaller batches, or mend the connection")]
    Slow { seconds: u64 },
    #[error(
        "a postback needs its `token`, made for this server and for the campaign that it names, or an API key with the \
         scope `ingest`; take the address that `tally postback-url` printed"
    )]
    NoToken,
    #[error("this endpoint takes other methods, see the header `Allow`")]
    Method,
    #[error("{0}")]
    Limited(#[from] Limited),
    #[error("the bodies in hand fill the memory set aside for them; retry after a moment")]
    Overloaded,
    #[error(
        "more comes than can be kept, and {}s are refused first; retry after {SHED_RETRY_S} s with the same `event_id`",
        .kind.as_str()
    )]
    Shed { kind: Kind },
    /// Never shown in full: the cause may name our paths.
    #[error("the event could not be stored; retry with the same `event_id`, so that it is counted once")]
    Journal(JournalError),
    #[error("a bug of ours; retry with the same `event_id`, so that it is counted once")]
    Internal,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    fault: Option<&'a Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [LineFault]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_omitted: Option<usize>,
}

impl IntoResponse for CaptureError {
    fn into_response(self) -> Response {
        let (status, kind, title) = match &self {
            Self::Event(_) => (StatusCode::BAD_REQUEST, "event", "the event cannot be taken"),
            Self::Body { .. } => (StatusCode::BAD_REQUEST, "body", "the body cannot be read"),
            Self::NothingAccepted { .. } => (StatusCode::BAD_REQUEST, "batch", "no event of the batch can be taken"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request is too large"),
            Self::Media { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media", "the body is written in an unknown way")
            }
            Self::Slow { .. } => (StatusCode::REQUEST_TIMEOUT, "slow", "the body came too slowly"),
            Self::NoToken => (StatusCode::FORBIDDEN, "token", "the postback does not say who sends it"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "wrong method"),
            Self::Limited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "too fast"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too much at once"),
            Self::Shed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "shed", "too much at once"),
            Self::Journal(_) => (StatusCode::SERVICE_UNAVAILABLE, "journal", "events cannot be stored now"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "something broke"),
        };
        let mut problem = Problem {
            r#type: format!("urn:tally:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            fault: None,
            accepted: None,
            rejected: None,
            errors: None,
            errors_omitted: None,
        };
        match &self {
            Self::Event(fault) => problem.fault = Some(fault),
            Self::NothingAccepted { rejected, errors, errors_omitted } => {
                problem.accepted = Some(0);
                problem.rejected = Some(*rejected);
                problem.errors = Some(errors);
                problem.errors_omitted = Some(*errors_omitted);
            }
            _ => {}
        }
        // Strings, numbers and fixed keys only: writing them has no way to fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::Media { .. }) {
            // RFC 7694: what encodings a request may use here.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        response
    }
}

impl CaptureError {
    /// When a retry has a fair chance. A journal that is poisoned or closed waits for a restart.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Shed { .. } | Self::Journal(JournalError::Behind { .. }) => Some(SHED_RETRY_S),
            Self::Limited(limited) => Some(limited.retry_after_s()),
            Self::Overloaded | Self::Journal(JournalError::Full { .. } | JournalError::Io { .. }) => Some(1),
            _ => None,
        }
    }
}

impl From<Fault> for CaptureError {
    fn from(fault: Fault) -> Self {
        Self::Event(fault)
    }
}
