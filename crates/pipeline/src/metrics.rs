//! What the pipeline tells Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::agents::Agents;
use crate::{Dedup, DoubleClicks};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VerdictLabels {
    pub kind: &'static str,
    pub class: &'static str,
}

#[derive(Debug, Clone)]
pub struct PipelineMetrics {
    pub(crate) verdicts: Family<VerdictLabels, Counter>,
    pub(crate) commits: Counter,
    pub(crate) read_retries: Counter,
    pub(crate) commit_retries: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) batch_events: Histogram,
    pub(crate) lag_records: Gauge,
    pub(crate) watermark_seconds: Gauge<f64, AtomicU64>,
    pub(crate) dedup_restarts: Counter,
    dedup_ids: Gauge,
    dedup_memory: Gauge,
    dedup_runs: Gauge,
    dedup_reads: Gauge,
    clicks: Gauge,
    agents: Gauge,
    agents_told: Gauge,
}

impl PipelineMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            verdicts: Family::default(),
            commits: Counter::default(),
            read_retries: Counter::default(),
            commit_retries: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.002, 2.0, 14)),
            batch_events: Histogram::new(exponential_buckets(1.0, 4.0, 11)),
            lag_records: Gauge::default(),
            watermark_seconds: Gauge::default(),
            dedup_restarts: Counter::default(),
            dedup_ids: Gauge::default(),
            dedup_memory: Gauge::default(),
            dedup_runs: Gauge::default(),
            dedup_reads: Gauge::default(),
            clicks: Gauge::default(),
            agents: Gauge::default(),
            agents_told: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("tally_pipeline");
        registry.register("verdicts", "Events by kind and verdict class, committed", metrics.verdicts.clone());
        registry.register("commits", "Batches committed to the lake", metrics.commits.clone());
        registry.register(
            "read_retries",
            "Reads of the journal tried again after an error",
            metrics.read_retries.clone(),
        );
        registry.register("commit_retries", "Commits tried again after an error", metrics.commit_retries.clone());
        registry.register_with_unit(
            "commit",
            "Time to commit a batch, rollups included",
            Unit::Seconds,
            metrics.commit_seconds.clone(),
        );
        registry.register("batch_events", "Events in a committed batch", metrics.batch_events.clone());
        registry.register(
            "lag_records",
            "Records in the journal that are not committed yet",
            metrics.lag_records.clone(),
        );
        registry.register_with_unit(
            "watermark",
            "Every event acknowledged before this Unix time is in the figures",
            Unit::Seconds,
            metrics.watermark_seconds.clone(),
        );
        registry.register(
            "dedup_restarts",
            "Times that judging began again from what is committed, since a file of ids could not be read",
            metrics.dedup_restarts.clone(),
        );
        registry.register("dedup_ids", "Event ids remembered", metrics.dedup_ids.clone());
        registry.register_with_unit(
            "dedup_memory",
            "Memory for event ids, filters of those on disk included",
            Unit::Bytes,
            metrics.dedup_memory.clone(),
        );
        registry.register("dedup_runs", "Files of event ids on disk", metrics.dedup_runs.clone());
        registry.register("dedup_reads", "Blocks of those read since the start", metrics.dedup_reads.clone());
        registry.register("double_click_clicks", "Counted clicks remembered for double clicks", metrics.clicks.clone());
        registry.register("agents", "User agents whose device is remembered", metrics.agents.clone());
        registry.register(
            "agents_told",
            "Times that a device was told from its user agent anew since the start",
            metrics.agents_told.clone(),
        );
        metrics
    }

    pub(crate) fn observe_agents(&self, agents: &Agents) {
        set(&self.agents, agents.len() as u64);
        set(&self.agents_told, agents.told());
    }

    pub(crate) fn observe_memory(&self, dedup: &Dedup, clicks: &DoubleClicks) {
        set(&self.dedup_ids, dedup.len());
        set(&self.dedup_memory, dedup.memory_bytes());
        set(&self.dedup_runs, dedup.runs() as u64);
        set(&self.dedup_reads, dedup.reads());
        set(&self.clicks, clicks.len() as u64);
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
