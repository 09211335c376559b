//! Why a request is not let through, and the one table from that to the answer (RFC 9457 problem details, RFC 6750 challenges).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tally_capture::Limited;

use crate::keys::Scope;

/// Never holds what was shown: it may be a secret with a typing error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "this takes an API key with the scope `{}`; make one on the server with `tally keys create`, and send it as `Authorization: Bearer tally_..`", .scope.as_str()
    )]
    NoKey { scope: Scope },
    #[error("the API key is not known here: mistyped, revoked, or of another server; ask whoever runs this one")]
    UnknownKey,
    #[error("the session has ended, or its key was revoked; sign in again")]
    EndedSession,
    #[error("the API key `{name}` has expired; make a new one with `tally keys create`")]
    ExpiredKey { name: String },
    #[error("the API key `{name}` lacks the scope `{}`; use one that has it", .scope.as_str())]
    MissingScope { name: String, scope: Scope },
    /// It changes things, and did not come from where that is allowed without a key.
    #[error(
        "this is only taken from the machine itself, not {0}; run the command there, or send an API key with the scope `admin`"
    )]
    Elsewhere(&'static str),
    #[error("{0}")]
    Limited(Limited),
}

impl Refusal {
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::NoKey { .. } => "no_key",
            Refusal::UnknownKey => "unknown_key",
            Refusal::ExpiredKey { .. } => "expired_key",
            Refusal::EndedSession => "ended_session",
            Refusal::MissingScope { .. } => "missing_scope",
            Refusal::Elsewhere(_) => "not_from_here",
            Refusal::Limited(_) => "rate_limited",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, title) = match &self {
            Refusal::NoKey { .. } => (StatusCode::UNAUTHORIZED, "no-key", "An API key is needed"),
            Refusal::UnknownKey | Refusal::ExpiredKey { .. } | Refusal::EndedSession => {
                (StatusCode::UNAUTHORIZED, "bad-key", "The API key is not valid")
            }
            Refusal::MissingScope { .. } => (StatusCode::FORBIDDEN, "missing-scope", "The API key may not do this"),
            Refusal::Elsewhere(_) => (StatusCode::FORBIDDEN, "forbidden", "Not from here"),
            Refusal::Limited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate-limited", "Too fast"),
        };
        let problem = json!({"type": format!("urn:tally:problem:{kind}"), "title": title, "status": status.as_u16(), "detail": self.to_string()});
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, problem.to_string()).into_response();
        let challenge = match &self {
            Refusal::NoKey { .. } => Some("Bearer realm=\"tally\"".to_owned()),
            Refusal::UnknownKey | Refusal::ExpiredKey { .. } | Refusal::EndedSession => {
                Some("Bearer realm=\"tally\", error=\"invalid_token\"".to_owned())
            }
            Refusal::MissingScope { scope, .. } => {
                Some(format!("Bearer realm=\"tally\", error=\"insufficient_scope\", scope=\"{}\"", scope.as_str()))
            }
            Refusal::Elsewhere(_) | Refusal::Limited(_) => None,
        };
        let headers = response.headers_mut();
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Refusal::Limited(limited) = &self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(limited.retry_after_s()));
        }
        response
    }
}
