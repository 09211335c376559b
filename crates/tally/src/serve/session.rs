//! `/session`: a browser signs in with an API key and gets a cookie that scripts cannot read and other sites cannot use. Nothing is
//! kept here: the cookie proves itself by the key that it was opened with.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tally_api::{ApiError, Problem, Question};
use tally_model::Clock;
use utoipa::ToSchema;

use super::access::{Keyring, Refusal, SESSION_COOKIE, session_shown};
use crate::keys::Token;

/// A working day; who looks longer signs in again.
const SESSION_S: i64 = 12 * 3_600;

pub(crate) struct Sessions {
    pub keyring: Arc<Keyring>,
    pub clock: Arc<dyn Clock>,
    /// Whether the figures take a key at all.
    pub is_required: bool,
    /// Whether the cookie must not travel in the clear.
    pub is_secure: bool,
    /// Whether there is a known truth to show beside the figures.
    pub is_demo: bool,
}

pub(crate) fn router(sessions: Arc<Sessions>) -> Router {
    Router::new().route("/session", get(state).post(sign_in).delete(sign_out)).with_state(sessions)
}

/// What the dashboard needs to know before it asks for anything.
#[utoipa::path(get, path = "/session", operation_id = "session", tag = "session", responses((status = 200, description = "How a browser stands: `key_required`, `key`, `demo`, `version`.", body = Object)))]
pub(crate) async fn state(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> impl IntoResponse {
    let session = session_shown(&headers);
    let key = session.and_then(|session| sessions.keyring.check_session(&session, sessions.now_s()).ok());
    let state = json!({
        "key_required": sessions.is_required,
        "key": key,
        "demo": sessions.is_demo,
        "version": env!("CARGO_PKG_VERSION"),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(state))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    key: String,
}

/// Signs a browser in
#[utoipa::path(
    post, path = "/session", operation_id = "signIn", tag = "session", request_body = SignIn,
    responses(
        (status = 204, description = "With the cookie `tally_session`."),
        (status = 400, description = "`malformed`, `question`.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`bad-key`.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`missing-scope`.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly: `slow`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn sign_in(
    State(sessions): State<Arc<Sessions>>,
    Question(SignIn { key }): Question<SignIn>,
) -> Result<Response, ApiError> {
    let token = Token::parse(key.trim()).ok_or(Refusal::UnknownKey);
    let session = token.and_then(|token| sessions.keyring.open_session(&token, SESSION_S, sessions.now_s()));
    Ok(match session {
        Ok(session) => sessions.cookie(&session.reveal(), session.expires_at_s - sessions.now_s()),
        Err(refusal) => refusal.into_response(),
    })
}

/// Signs a browser out
#[utoipa::path(delete, path = "/session", operation_id = "signOut", tag = "session", responses((status = 204, description = "The cookie is taken back.")))]
pub(crate) async fn sign_out(State(sessions): State<Arc<Sessions>>) -> Response {
    sessions.cookie("", 0)
}

impl Sessions {
    fn now_s(&self) -> i64 {
        self.clock.now_us().div_euclid(1_000_000)
    }

    fn cookie(&self, value: &str, for_s: i64) -> Response {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let cookie = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={for_s}; HttpOnly; SameSite=Strict{secure}");
        (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".to_owned())])
            .into_response()
    }
}
