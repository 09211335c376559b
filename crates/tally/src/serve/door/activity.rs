//! What a connection is doing, as far as its time-outs care. A connection that has a request in hand is given time by whoever
//! answers it; one that has none must come up with the next one, whole, before its time is over. So neither silence nor a
//! head that trickles holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// From the connection to the end of the first request's head, a TLS handshake included. nginx gives 60 s for the head alone;
/// whoever is slower than this has no use for a redirect.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    requests_begun: AtomicU64,
    requests_in_hand: AtomicU32,
    /// When something was last answered, or was seen to be read by the peer; since `began`.
    last_ms: AtomicU64,
}

impl Activity {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            requests_begun: AtomicU64::new(0),
            requests_in_hand: AtomicU32::new(0),
            last_ms: AtomicU64::new(0),
        })
    }

    /// A request's head is whole.
    pub fn request(self: &Arc<Self>) -> InHand {
        self.requests_begun.fetch_add(1, Ordering::Relaxed);
        self.requests_in_hand.fetch_add(1, Ordering::Relaxed);
        InHand(Arc::clone(self))
    }

    /// Bytes went out: whoever reads a long answer slowly is not idle.
    pub fn wrote(&self) {
        self.last_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub fn requests_begun(&self) -> u64 {
        self.requests_begun.load(Ordering::Relaxed)
    }

    pub fn is_answering(&self) -> bool {
        self.requests_in_hand.load(Ordering::Relaxed) > 0
    }

    /// When it is to be closed, unless something happens before; to be asked again then. The clock stands still while a
    /// request is in hand.
    pub fn closes_at(&self, now: Instant, idle: Duration) -> Instant {
        if self.is_answering() {
            return now + idle;
        }
        if self.requests_begun() == 0 {
            return self.began + HEAD_TIME;
        }
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + idle
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct InHand(Arc<Activity>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.wrote();
        self.0.requests_in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    #[test]
    fn a_connection_that_brings_no_request_is_closed_soon_whatever_is_sent() {
        let (began, activity) = (Instant::now(), Activity::new());
        activity.wrote();
        assert_eq!(activity.closes_at(began + Duration::from_secs(9), IDLE), activity.began + HEAD_TIME);
    }

    #[test]
    fn time_runs_from_the_last_answer_and_not_while_one_is_awaited() {
        let activity = Activity::new();
        let request = activity.request();
        let later = activity.began + Duration::from_secs(1_000);
        assert_eq!(activity.closes_at(later, IDLE), later + IDLE);

        std::thread::sleep(Duration::from_millis(3));
        drop(request);
        let after_first = activity.closes_at(later, IDLE);
        assert!(after_first >= activity.began + Duration::from_millis(3) + IDLE && after_first < later);

        std::thread::sleep(Duration::from_millis(3));
        activity.wrote();
        assert!(activity.closes_at(later, IDLE) > after_first);
    }
}
