//! `/openapi.json`: what the whole server takes and gives (OpenAPI 3.1), put together from its parts, with who may ask for it as
//! `access.rs` decides. Also what is said of a path or a method that is not in it.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use tally_api::{ApiDocument, Problem, problem};
use tally_capture::CaptureDocument;
use tally_model::report::ReportError;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::{Modify, OpenApi};

use super::access::{Need, SESSION_COOKIE, need_of};
use super::{admin, operations, session, truth};
use crate::keys::Scope;
use crate::outbound;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tally",
        description = "Takes clicks, impressions and conversions, counts each once, and answers for every figure.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        admin::rebuild_days, admin::resubmit, operations::alive, operations::ready, operations::metrics,
        outbound::list, session::state, session::sign_in, session::sign_out, truth::newest, document,
    ),
    tags(
        (name = "capture", description = "Events in"),
        (name = "reports", description = "Figures"),
        (name = "analyses", description = "Questions that take more than sums"),
        (name = "exports", description = "Answers too large to wait for"),
        (name = "events", description = "Single events and conversions"),
        (name = "proof", description = "Whether the figures hold"),
        (name = "live", description = "The last minutes, pushed"),
        (name = "admin", description = "What changes figures"),
        (name = "session", description = "Browsers that sign in"),
        (name = "operations", description = "For whoever runs it"),
    ),
    modifiers(&Schemes),
)]
struct ServerDocument;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let about = "An API key (`tally keys create`). The scopes that it needs stand with each operation.";
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
        let header = ApiKey::Header(ApiKeyValue::with_description("X-API-Key", "The same key."));
        components.add_security_scheme("keyHeader", SecurityScheme::ApiKey(header));
        let cookie = ApiKey::Cookie(ApiKeyValue::with_description(SESSION_COOKIE, "Of a browser that signed in."));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    }
}

/// As it is served.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| serde_json::to_vec(&whole()).unwrap_or_default().into());
static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| whole().paths.paths.keys().cloned().collect());

fn whole() -> utoipa::openapi::OpenApi {
    let mut document = ServerDocument::openapi();
    document.merge(CaptureDocument::openapi());
    document.merge(ApiDocument::openapi());
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations_of(item) {
            guard(operation, need_of(&method, path));
        }
    }
    document
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PUT, &mut item.put),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Says who may ask, and what others are answered.
fn guard(operation: &mut Operation, need: Need) {
    let (scope, is_public) = match need {
        Need::Nothing => {
            operation.security = Some(Vec::new());
            return;
        }
        Need::NoKeyOr(scope) => (scope, true),
        Need::Key(scope) => (scope, false),
    };
    let mut ways: Vec<_> = ["key", "keyHeader"].map(|name| SecurityRequirement::new(name, [scope.as_str()])).into();
    if scope == Scope::Query {
        ways.push(SecurityRequirement::new("session", [scope.as_str()]));
    }
    if is_public {
        ways.insert(0, SecurityRequirement::default());
    }
    operation.security = Some(ways);
    for (status, says) in [
        (401, "The key is missing, unknown, revoked or expired: `no-key`, `bad-key`."),
        (403, "The key lacks the scope: `missing-scope`; or it may not come from there: `forbidden`."),
        (429, "Over the limit of the key: `rate-limited`. Again after `Retry-After`."),
    ] {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| problem(status, says).into());
    }
}

pub(crate) fn router() -> Router {
    Router::new().route("/openapi.json", get(document))
}

/// This description
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "operations", responses((status = 200, description = "OpenAPI 3.1. `/docs` shows it.", body = Object)))]
async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], DOCUMENT.clone())
}

/// There is nothing at a path; something may be near it.
pub(crate) async fn unknown_path(uri: Uri) -> Problem {
    let known = PATHS.iter().map(String::as_str).collect();
    let ReportError { what, cure, .. } = ReportError::unknown("path", uri.path(), known);
    let cure = if cure.starts_with("did you mean") { cure } else { "see /docs for what there is".to_owned() };
    let detail = format!("the path {what}; {cure}");
    Problem { cure: Some(cure), ..Problem::new(StatusCode::NOT_FOUND, "path", "There is nothing here", detail) }
}

pub(crate) async fn wrong_method() -> Problem {
    let detail = "this path takes other methods, see the header `Allow`".to_owned();
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Wrong method", detail)
}
