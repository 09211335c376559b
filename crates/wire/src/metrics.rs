//! What the wire tells Prometheus.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Default)]
pub struct WireMetrics {
    pub(crate) connections: Gauge,
    pub(crate) refused_connections: Counter,
    pub(crate) refused_logins: Counter,
    pub(crate) statements: Counter,
    pub(crate) failures: Counter,
    pub(crate) cancelled: Counter,
}

impl WireMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("tally_postgres");
        registry.register("connections", "Open connections of the Postgres wire", metrics.connections.clone());
        registry.register(
            "refused_connections",
            "Connections refused since there are as many as there may be",
            metrics.refused_connections.clone(),
        );
        registry.register("refused_logins", "Logins refused", metrics.refused_logins.clone());
        registry.register("statements", "Statements that read", metrics.statements.clone());
        registry.register("failures", "Errors sent to clients", metrics.failures.clone());
        registry.register("cancelled", "Statements stopped at their client's wish", metrics.cancelled.clone());
        metrics
    }
}
