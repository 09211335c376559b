//! For whoever runs it: is it alive, is it ready, what are its figures.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tally_journal::{DiskJournal, Journal};
use tally_pipeline::Progress;
use tokio::sync::watch;

pub(crate) struct Operations {
    registry: Registry,
    journal: Arc<DiskJournal>,
    progress: watch::Receiver<Progress>,
    pipeline_runs: watch::Receiver<bool>,
}

impl Operations {
    pub fn new(
        mut registry: Registry,
        journal: Arc<DiskJournal>,
        progress: watch::Receiver<Progress>,
        pipeline_runs: watch::Receiver<bool>,
    ) -> Arc<Self> {
        registry.register_collector(Box::new(Queue(journal.clone())));
        Arc::new(Self { registry, journal, progress, pipeline_runs })
    }

    /// Why it should not get traffic now, if so.
    fn not_ready(&self) -> Option<String> {
        if let Err(error) = self.journal.health() {
            return Some(error.to_string());
        }
        if !*self.pipeline_runs.borrow() {
            return Some("the pipeline stopped: events are kept but not counted; see the log for the cause".to_owned());
        }
        if !self.progress.borrow().recovered {
            return Some("taking up what the last run left".to_owned());
        }
        None
    }
}

/// Read when asked, not kept: how much waits for the disk, how much to be counted, and how much lies there.
#[derive(Debug)]
struct Queue(Arc<DiskJournal>);

impl Collector for Queue {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, bytes) in [
            ("tally_journal_queued_bytes", "Bytes that wait for the disk", self.0.queued_bytes() as u64),
            ("tally_journal_behind_bytes", "Durable bytes that are not counted yet", self.0.unreleased_bytes()),
            ("tally_journal_kept_bytes", "Durable bytes that are kept, counted ones included", self.0.kept_bytes()),
        ] {
            let gauge = ConstGauge::new(bytes);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

pub(crate) fn router(operations: Arc<Operations>) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(operations)
}

/// Whether it runs
#[utoipa::path(get, path = "/healthz", operation_id = "alive", tag = "operations", responses((status = 200, description = "`ok`, while the process runs.", body = String, content_type = "text/plain")))]
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether it should get traffic
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "operations",
    responses(
        (status = 200, description = "`ready`.", body = String, content_type = "text/plain"),
        (status = 503, description = "Why not.", body = String, content_type = "text/plain"),
    ),
)]
pub(crate) async fn ready(State(operations): State<Arc<Operations>>) -> (StatusCode, String) {
    match operations.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// The figures of the server, for Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "operations", responses((status = 200, description = "OpenMetrics text.", body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(State(operations): State<Arc<Operations>>) -> Response {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &operations.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
