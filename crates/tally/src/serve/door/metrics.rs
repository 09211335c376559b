//! What the door counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Default)]
pub(crate) struct DoorMetrics {
    pub(super) connections: Gauge,
    pub(super) connections_max: Gauge,
    pub(super) connections_timed_out: Counter,
    pub(super) tls_handshakes_failed: Counter,
    pub(super) tls_reloads: Counter,
    pub(super) tls_reload_failures: Counter,
    pub(super) tls_expires_s: Gauge,
}

impl DoorMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("tally_server");
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register(
            "connections_max",
            "Connections that there may be at once, by the limit of open files",
            metrics.connections_max.clone(),
        );
        registry.register(
            "connections_timed_out",
            "Connections closed since no whole request came in time",
            metrics.connections_timed_out.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "Connections closed since they did not come to TLS",
            metrics.tls_handshakes_failed.clone(),
        );
        registry.register("tls_reloads", "New certificates taken into use", metrics.tls_reloads.clone());
        registry.register(
            "tls_reload_failures",
            "New certificates that cannot be used; the old one stays in use",
            metrics.tls_reload_failures.clone(),
        );
        let expires = metrics.tls_expires_s.clone();
        let what = "When the certificate in use ends, in seconds since the Unix epoch; 0 without TLS";
        registry.register("tls_certificate_expires_timestamp_seconds", what, expires);
        metrics
    }
}
