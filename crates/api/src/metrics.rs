//! What the way out tells Prometheus.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone)]
pub struct ApiMetrics {
    pub(crate) report_seconds: Histogram,
    pub(crate) failures: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) catching_up: Gauge,
    pub(crate) cache_hits: Counter,
    pub(crate) shared_hits: Counter,
    pub(crate) cache_bytes: Gauge,
    pub(crate) sql_seconds: Histogram,
    pub(crate) sql_failures: Counter,
}

impl ApiMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            report_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            failures: Counter::default(),
            waiting: Gauge::default(),
            catching_up: Gauge::default(),
            cache_hits: Counter::default(),
            shared_hits: Counter::default(),
            cache_bytes: Gauge::default(),
            sql_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
            sql_failures: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("tally_api");
        registry.register_with_unit("report", "Time to answer a report", Unit::Seconds, metrics.report_seconds.clone());
        registry.register("failures", "Reports without an answer", metrics.failures.clone());
        registry.register("cache_hits", "Reports answered from memory", metrics.cache_hits.clone());
        registry.register("shared_hits", "Reports answered from the shared cache", metrics.shared_hits.clone());
        let bytes = metrics.cache_bytes.clone();
        registry.register_with_unit("cache", "Memory of answers that are kept", Unit::Bytes, bytes);
        registry.register("waiting", "Questions that wait for their turn", metrics.waiting.clone());
        let catching_up = metrics.catching_up.clone();
        registry.register("catching_up", "Questions that wait for what is acknowledged to be counted", catching_up);
        registry.register_with_unit(
            "sql",
            "Time until the first rows of a statement's answer",
            Unit::Seconds,
            metrics.sql_seconds.clone(),
        );
        registry.register(
            "sql_failures",
            "Statements without an answer, or with part of one",
            metrics.sql_failures.clone(),
        );
        metrics
    }
}

/// One that waits, also when it goes away before its turn.
pub(crate) struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    pub fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
