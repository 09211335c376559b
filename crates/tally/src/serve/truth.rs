//! `GET /v1/demo/truth`: what was sent and what was counted, side by side. Served where the traffic is our own, and so known.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;

/// The last comparison.
pub(crate) type KnownTruth = watch::Receiver<Comparison>;

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Comparison {
    /// Events that were sent so far.
    pub events: u64,
    /// How long the last of them took to be in the figures.
    pub counted_after_ms: u64,
    pub rows: Vec<ComparedFigure>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ComparedFigure {
    pub name: String,
    pub counted: i64,
    pub truth: i64,
}

impl Comparison {
    pub fn is_equal(&self) -> bool {
        self.rows.iter().all(|row| row.counted == row.truth)
    }
}

pub(crate) fn router(truth: KnownTruth) -> Router {
    Router::new().route("/v1/demo/truth", get(newest)).with_state(truth)
}

/// What was sent beside what was counted
///
/// Served by `tally demo` only.
#[utoipa::path(get, path = "/v1/demo/truth", operation_id = "demoTruth", tag = "proof", responses((status = 200, description = "`equal` and `comparison`.", body = Object), (status = 404, description = "This is no demo.")))]
pub(crate) async fn newest(State(truth): State<KnownTruth>) -> Json<serde_json::Value> {
    let newest = truth.borrow().clone();
    Json(serde_json::json!({"equal": newest.is_equal(), "comparison": newest}))
}
