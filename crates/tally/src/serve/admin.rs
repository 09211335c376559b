//! What changes the figures on demand. Only for whoever is on this machine, until there is access control.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tally_api::{ApiError, Question};
use tally_lake::Lake;
use tally_model::report::ReportError;
use tally_model::{Days, RebuildReport};

use crate::rebuild::rebuild;

/// Headers that a proxy or a page in a browser adds: what has one comes from elsewhere, whatever its address is.
const FROM_ELSEWHERE: [&str; 4] = ["forwarded", "x-forwarded-for", "via", "origin"];

pub(crate) struct Admin {
    pub lake: Lake,
}

pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/admin/rebuild", post(rebuild_days))
        .layer(middleware::from_fn(only_from_here))
        .with_state(admin)
}

async fn only_from_here(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(whence) = from_elsewhere(peer, request.headers()) {
        return Err(ApiError::Forbidden(whence));
    }
    Ok(next.run(request).await)
}

fn from_elsewhere(peer: SocketAddr, headers: &HeaderMap) -> Option<&'static str> {
    if !peer.ip().to_canonical().is_loopback() {
        return Some("from the network");
    }
    FROM_ELSEWHERE.iter().any(|name| headers.contains_key(*name)).then_some("through a proxy or from a page")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RebuildRequest {
    from: String,
    to: String,
}

async fn rebuild_days(
    State(admin): State<Arc<Admin>>,
    Question(RebuildRequest { from, to }): Question<RebuildRequest>,
) -> Result<Json<RebuildReport>, ApiError> {
    let days = Days::parse(&from, &to).map_err(|error| ReportError {
        field: "from, to".to_owned(),
        what: error.to_string(),
        cure: "give whole UTC days, such as 2026-03-01 to 2026-03-02".to_owned(),
    })?;
    let lake = admin.lake.clone();
    let report = to_the_end(async move { rebuild(&lake, days).await }).await?;
    Ok(Json(report.map_err(|error| ApiError::Failed(error.to_string()))?))
}

/// On a thread of its own, since it computes for long; and to its end, also when whoever asked hangs up.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    done.map_err(|error| ApiError::Failed(format!("the work ended unexpectedly: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, header: Option<&'static str>, is_refused: bool) {
        let headers = header.map(|name| (name.parse().unwrap(), "x".parse().unwrap())).into_iter().collect();
        let refused = from_elsewhere(peer.parse().unwrap(), &headers);
        assert_eq!(refused.is_some(), is_refused, "{peer} with {header:?}: {refused:?}");
    }

    #[test]
    fn only_this_machine_itself_is_taken_at_its_word() {
        check("127.0.0.1:1", None, false);
        check("[::1]:1", None, false);
        check("[::ffff:127.0.0.1]:1", None, false);
        check("192.0.2.1:1", None, true);
        check("[::ffff:192.0.2.1]:1", None, true);
        check("127.0.0.1:1", Some("accept"), false);
        for header in FROM_ELSEWHERE {
            check("127.0.0.1:1", Some(header), true);
        }
    }
}
