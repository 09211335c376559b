//! How soon a batch is committed, by who waits for it. Decides when figures are seen, and nothing about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// With the commit itself and the push, a click is on the screen within two seconds.
const WATCHED_COMMIT_AFTER: Duration = Duration::from_millis(500);
/// For a question that waits. Less would make more commits, and files, than it gains.
const ASKED_COMMIT_AFTER: Duration = Duration::from_millis(250);

/// Whether somebody looks at the figures as they come in, and how many questions wait for what is in the journal.
#[derive(Debug, Default)]
pub struct Urgency {
    is_watched: AtomicBool,
    waiting: AtomicUsize,
}

impl Urgency {
    pub fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    /// Makes haste until it is dropped.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    pub(crate) fn commit_after(&self, usual: Duration) -> Duration {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            usual.min(ASKED_COMMIT_AFTER)
        } else if self.is_watched.load(Ordering::Relaxed) {
            usual.min(WATCHED_COMMIT_AFTER)
        } else {
            usual
        }
    }
}

pub struct Waiting(Arc<Urgency>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_hurries_it_for_as_long_as_that_lasts() {
        let (urgency, usual) = (Arc::new(Urgency::default()), Duration::from_secs(5));
        assert_eq!(urgency.commit_after(usual), usual);
        urgency.set_watched(true);
        assert_eq!(urgency.commit_after(usual), WATCHED_COMMIT_AFTER);
        let (first, second) = (urgency.wait(), urgency.wait());
        drop(first);
        assert_eq!(urgency.commit_after(usual), ASKED_COMMIT_AFTER);
        drop(second);
        assert_eq!(urgency.commit_after(usual), WATCHED_COMMIT_AFTER);
        assert_eq!(urgency.commit_after(Duration::from_millis(1)), Duration::from_millis(1), "never later than usual");
    }
}
