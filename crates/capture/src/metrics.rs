//! What capture counts about itself. Labels come from closed sets, so that no sender can grow them.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tally_model::Kind;

use crate::error::Fault;

/// Handles to the counters; a clone counts on the same ones.
#[derive(Debug, Clone)]
pub struct CaptureMetrics {
    /// In the order of [`Kind::ALL`], so that nothing is looked up for each event.
    received: [Counter; Kind::ALL.len()],
    rejected: Family<ReasonLabel, Counter>,
    shed: [Counter; Kind::ALL.len()],
    requests: Family<RequestLabels, Counter>,
    journal_wait: Histogram,
    pub(crate) redirects_unrecorded: Counter,
    files_read: Family<FileLabels, Counter>,
    pub(crate) body_bytes: Counter,
    pub(crate) body_bytes_held: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The field that is wrong, or `text` where the text is no event at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    file: &'static str,
    outcome: &'static str,
}

impl CaptureMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let received = Family::<KindLabel, Counter>::default();
        let shed = Family::<KindLabel, Counter>::default();
        let by_kind = |family: &Family<KindLabel, Counter>| {
            Kind::ALL.map(|kind| family.get_or_create_owned(&KindLabel { kind: kind.as_str() }))
        };
        let metrics = Self {
            received: by_kind(&received),
            shed: by_kind(&shed),
            rejected: Family::default(),
            requests: Family::default(),
            // 0.1 ms, a sync of a good disk, to 6.5 s, after which nobody waits.
            journal_wait: Histogram::new(exponential_buckets(0.000_1, 2.0, 17)),
            redirects_unrecorded: Counter::default(),
            files_read: Family::default(),
            body_bytes: Counter::default(),
            body_bytes_held: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("tally_capture");
        registry.register("received_events", "Events taken in and durable", received);
        registry.register("rejected_events", "Events refused, by the field that was wrong", metrics.rejected.clone());
        registry.register("shed_events", "Events refused since more came than could be kept", shed);
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit(
            "journal_wait",
            "Time from append to durable",
            Unit::Seconds,
            metrics.journal_wait.clone(),
        );
        registry.register(
            "redirects_unrecorded",
            "Redirects answered before the journal had the click, or without it",
            metrics.redirects_unrecorded.clone(),
        );
        registry.register("files_read", "Changed files read anew, and how that went", metrics.files_read.clone());
        registry.register("body_bytes", "Bytes of request bodies read, as sent", metrics.body_bytes.clone());
        registry.register(
            "batch_bytes_held",
            "Bytes of batch bodies in memory, decompressed included",
            metrics.body_bytes_held.clone(),
        );
        metrics
    }

    pub(crate) fn received(&self, kind: Kind, events: u64) {
        self.received[kind as usize].inc_by(events);
    }

    pub(crate) fn shed(&self, kind: Kind, events: u64) {
        self.shed[kind as usize].inc_by(events);
    }

    pub(crate) fn rejected(&self, fault: &Fault) {
        self.rejected.get_or_create(&ReasonLabel { reason: fault.field.unwrap_or("text") }).inc();
    }

    pub(crate) fn answered(&self, endpoint: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { endpoint, status }).inc();
    }

    pub(crate) fn file_read(&self, file: &'static str, outcome: &'static str) {
        self.files_read.get_or_create(&FileLabels { file, outcome }).inc();
    }

    /// Measures until dropped, so that a wait that was given up is measured too.
    pub(crate) fn journal_wait(&self) -> JournalWait<'_> {
        JournalWait { histogram: &self.journal_wait, began: Instant::now() }
    }
}

pub(crate) struct JournalWait<'a> {
    histogram: &'a Histogram,
    began: Instant,
}

impl Drop for JournalWait<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.began.elapsed().as_secs_f64());
    }
}
