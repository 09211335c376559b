//! The door: HTTP in. Checks an event, stamps it with the time of receipt, appends it to the journal, and answers once the
//! record is durable. What becomes of the event after the journal is not known here.

mod append;
mod body;
mod client;
mod error;
mod file;
mod front;
mod gather;
mod geo;
mod hash;
mod http;
mod limits;
mod macros;
mod metrics;
mod network;
mod openapi;
mod parse;
mod postback;
mod redirect;
mod settings;
mod shed;
mod signing;
mod tag;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tally_journal::Journal;
use tally_model::{Clock, Entropy, Kind};
use tracing::error;

pub use file::{FileError, replace_secret};
pub use front::Front;
pub use gather::gather_receipts_here;
pub use hash::HashKey;
pub use limits::{Caller, LimitSettings, Limited, Limits, OverLimit};
pub use metrics::CaptureMetrics;
pub use openapi::CaptureDocument;
pub use redirect::check_destination;
pub use settings::{CampaignHosts, CaptureSettings, SettingsError};
pub use signing::SigningKeys;
pub use tag::tag_element;

use body::Budget;
use client::{Client, Proxies};
use file::WatchedFile;
use geo::GeoTable;
use parse::Stamp;
use redirect::Redirects;
use shed::Shedding;

/// What capture is built from.
pub struct CaptureParts {
    pub journal: Arc<dyn Journal>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub key: HashKey,
    /// The file of signing keys, which may be made later; none where no link is signed.
    pub signing_keys: Option<PathBuf>,
    pub settings: CaptureSettings,
    pub limits: Arc<Limits>,
    pub metrics: CaptureMetrics,
}

/// Why capture cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The state behind the ingest endpoints; [`Front`] puts them in front of it.
pub struct Capture {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    key: HashKey,
    proxies: Proxies,
    geo: WatchedFile<GeoTable>,
    redirects: Redirects,
    budget: Budget,
    limits: Arc<Limits>,
    shedding: Shedding,
    metrics: CaptureMetrics,
    /// Whether the journal refused the last append, so that only the change is logged.
    refused: AtomicBool,
}

impl Capture {
    pub fn new(parts: CaptureParts) -> Result<Self, StartError> {
        let CaptureParts { journal, clock, entropy, key, signing_keys, settings, limits, metrics } = parts;
        let keys = match signing_keys {
            Some(path) => WatchedFile::open(path, SigningKeys::load)?,
            None => WatchedFile::none(SigningKeys::load),
        };
        let geo = match settings.geo_file.as_str() {
            "" => WatchedFile::none(GeoTable::load),
            path => WatchedFile::open(path.into(), GeoTable::load)?,
        };
        if geo.held().is_none() && !settings.geo_file.is_empty() {
            return Err(SettingsError::GeoFile(settings.geo_file).into());
        }
        Ok(Self {
            geo,
            proxies: settings.proxies()?,
            redirects: Redirects {
                hosts: settings.redirect_hosts()?,
                of_campaigns: settings.campaign_redirect_hosts()?,
                keys,
            },
            budget: Budget::new(metrics.body_bytes_held.clone()),
            shedding: Shedding::default(),
            refused: AtomicBool::new(false),
            journal,
            clock,
            entropy,
            key,
            limits,
            metrics,
        })
    }

    /// Reads anew the files that have changed. To be called every few seconds, where it may wait for a disk.
    pub fn refresh(&self) {
        let refreshed = [("signing_keys", self.redirects.keys.refresh()), ("geography", self.geo.refresh())];
        for (file, refreshed) in refreshed {
            match refreshed {
                Ok(false) => {}
                Ok(true) => self.metrics.file_read(file, "read"),
                Err(error) => {
                    self.metrics.file_read(file, "failed");
                    error!(%error, "a file that has changed cannot be used; what it said before stays in use");
                }
            }
        }
    }

    /// What an event gets from here rather than from its sender. Taken after the body was read: that is when it was received.
    pub(crate) fn stamp<'a>(&'a self, client: &'a Client, kind: Option<Kind>) -> Stamp<'a> {
        let received_at_us = self.clock.now_us();
        Stamp { received_at_us, key: &self.key, entropy: self.entropy.as_ref(), client, geo: self.geo.held(), kind }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
