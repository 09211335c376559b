//! The door: HTTP in. Checks an event, stamps it with the time of receipt, appends it to the journal, and answers once the
//! record is durable. What becomes of the event after the journal is not known here.

mod append;
mod body;
mod client;
mod error;
mod hash;
mod http;
mod limits;
mod metrics;
mod network;
mod parse;
mod redirect;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tally_journal::Journal;
use tally_model::{Clock, Entropy, Kind};

pub use hash::{HashKey, KeyError};
pub use http::router;
pub use limits::{Caller, LimitSettings, Limited, Limits, OverLimit};
pub use metrics::CaptureMetrics;
pub use settings::{CaptureSettings, SettingsError};

use body::Budget;
use client::{Client, Proxies};
use parse::Stamp;
use redirect::RedirectHosts;

/// What capture is built from.
pub struct CaptureParts {
    pub journal: Arc<dyn Journal>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub key: HashKey,
    pub settings: CaptureSettings,
    pub limits: Arc<Limits>,
    pub metrics: CaptureMetrics,
}

/// The state behind the ingest endpoints; [`router`] puts them in front of it.
pub struct Capture {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    key: HashKey,
    proxies: Proxies,
    redirect_hosts: RedirectHosts,
    budget: Budget,
    limits: Arc<Limits>,
    metrics: CaptureMetrics,
    /// Whether the journal refused the last append, so that only the change is logged.
    refused: AtomicBool,
}

impl Capture {
    pub fn new(parts: CaptureParts) -> Result<Self, SettingsError> {
        let CaptureParts { journal, clock, entropy, key, settings, limits, metrics } = parts;
        Ok(Self {
            proxies: settings.proxies()?,
            redirect_hosts: settings.redirect_hosts()?,
            budget: Budget::new(metrics.body_bytes_held.clone()),
            refused: AtomicBool::new(false),
            journal,
            clock,
            entropy,
            key,
            limits,
            metrics,
        })
    }

    /// What an event gets from here rather than from its sender. Taken after the body was read: that is when it was received.
    fn stamp<'a>(&'a self, client: &'a Client, kind: Option<Kind>) -> Stamp<'a> {
        let received_at_us = self.clock.now_us();
        Stamp { received_at_us, key: &self.key, entropy: self.entropy.as_ref(), client, kind }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
