//! Connections, no more at once than leave file descriptors for the journal and the lake. Beyond that a new one waits in the
//! kernel's queue until another is closed: senders wait or go elsewhere, and what is connected is served in full.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::metrics::DoorMetrics;

/// Kept for files: the journal and the writing lake take a few dozen, each of the questions that run at once some more.
const FILES_RESERVED: usize = 256;
/// Where the limit of the process cannot be read: what Linux gives by default.
const OPEN_FILES_DEFAULT: usize = 1_024;

/// How many connections there may be, and how many there are.
pub(crate) struct Connections {
    max: usize,
    turns: Arc<Semaphore>,
    open: Gauge,
    /// Whether it was said that all are taken; it is said again once half of them were free.
    is_full: bool,
}

impl Connections {
    pub fn new(metrics: &DoorMetrics) -> Self {
        let max = connections_max(open_files_max(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()));
        metrics.connections_max.set(i64::try_from(max).unwrap_or(i64::MAX));
        Self { max, turns: Arc::new(Semaphore::new(max)), open: metrics.connections.clone(), is_full: false }
    }

    /// Waits until there may be one more.
    pub async fn turn(&mut self) -> Turn {
        let free = self.turns.available_permits();
        if free == 0 && !self.is_full {
            let cure = "raise the limit of open files, or find out who holds them";
            warn!(connections = self.max, "all connections are taken, new ones wait; {cure}");
        }
        self.is_full = free == 0 || (self.is_full && free < self.max / 2);
        Turn(Arc::clone(&self.turns).acquire_owned().await.ok())
    }

    /// If there may be one more now.
    pub fn free_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turns).try_acquire_owned().ok().map(|permit| Turn(Some(permit)))
    }

    pub fn connected(&self, turn: Turn) -> Connected {
        self.open.inc();
        Connected { open: self.open.clone(), _turn: turn }
    }
}

/// The right to be connected.
pub(crate) struct Turn(#[expect(dead_code, reason = "held, never read")] Option<OwnedSemaphorePermit>);

/// One connection; makes room for another when dropped.
pub(crate) struct Connected {
    open: Gauge,
    _turn: Turn,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.open.dec();
    }
}

fn connections_max(open_files_max: usize) -> usize {
    (open_files_max - FILES_RESERVED.min(open_files_max / 2)).clamp(1, Semaphore::MAX_PERMITS)
}

/// The soft limit, from the text of `/proc/self/limits`.
fn open_files_max(limits: &str) -> usize {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Semaphore::MAX_PERMITS,
        soft => soft.and_then(|soft| soft.parse().ok()).unwrap_or(OPEN_FILES_DEFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_file_descriptors_for_the_rest() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             47                   48                   processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(open_files_max(limits), 1_024);
        assert_eq!(open_files_max("nothing of the kind"), OPEN_FILES_DEFAULT);
        assert_eq!([1_024, 20_000, 100, 1].map(connections_max), [768, 19_744, 50, 1]);
        assert_eq!(open_files_max("Max open files  unlimited  unlimited  files"), Semaphore::MAX_PERMITS);
    }
}
