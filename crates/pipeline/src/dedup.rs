//! Exact deduplication by event id: of several events with one id, the one at the lowest offset counts.
//!
//! Time here is the latest time of receipt in the partition so far, never the machine's clock: whether an id is still
//! remembered then depends on the log's prefix alone, and clocks that jump back forget nothing early.

use hashbrown::HashMap;
use tally_model::{EventId, Partition};

const SECOND_US: i64 = 1_000_000;
/// Expired ids are swept out when this much of the partition's time has passed; they have no effect before that either.
const SWEEP_S: i64 = 600;

/// The ids of one partition that are remembered.
#[derive(Debug)]
pub struct Seen {
    ttl_s: i64,
    now_s: i64,
    swept_s: i64,
    /// Id to the second in which it was first seen. The hasher is seeded at random: ids are chosen by clients.
    first_seen_s: HashMap<Key, u32>,
}

/// An id in two halves: aligned to 8 bytes, an entry takes 24 instead of 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64, u64);

impl Seen {
    pub fn new(ttl_s: u64) -> Self {
        let ttl_s = i64::try_from(ttl_s).unwrap_or(i64::MAX);
        Self { ttl_s, now_s: 0, swept_s: 0, first_seen_s: HashMap::new() }
    }

    /// Takes note of an id, and tells whether this is its first sighting within the time to live.
    pub fn is_first(&mut self, id: EventId, received_at_us: i64) -> bool {
        self.move_on_to(received_at_us / SECOND_US);
        let now_s = self.now_s;
        let live_after_s = now_s - self.ttl_s;
        let first_seen_s = self.first_seen_s.entry(key(id)).or_insert(0);
        let is_first = i64::from(*first_seen_s) <= live_after_s.max(0);
        if is_first {
            *first_seen_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        }
        is_first
    }

    /// Puts back what an earlier run knew. Call in any order, before the first [`Seen::is_first`].
    pub fn restore(&mut self, id: EventId, first_seen_s: i64) {
        let seen_s = u32::try_from(first_seen_s).unwrap_or(0);
        let entry = self.first_seen_s.entry(key(id)).or_insert(seen_s);
        *entry = (*entry).max(seen_s);
    }

    /// The partition's time in seconds: that of the newest record so far. Ids are remembered from it on.
    pub fn now_s(&self) -> i64 {
        self.now_s
    }

    /// Moves the partition's time on; never back.
    pub fn move_on_to(&mut self, received_at_s: i64) {
        self.now_s = self.now_s.max(received_at_s);
        if self.now_s - self.swept_s >= SWEEP_S {
            self.swept_s = self.now_s;
            let live_after_s = self.now_s - self.ttl_s;
            self.first_seen_s.retain(|_, first_seen_s| i64::from(*first_seen_s) > live_after_s);
        }
    }

    pub fn len(&self) -> usize {
        self.first_seen_s.len()
    }

    pub fn is_empty(&self) -> bool {
        self.first_seen_s.is_empty()
    }
}

fn key(id: EventId) -> Key {
    let (high, low) = id.as_u64_pair();
    Key(high, low)
}

/// The ids of all partitions.
#[derive(Debug)]
pub struct Dedup {
    partitions: Vec<Seen>,
    ttl_s: u64,
}

impl Dedup {
    pub fn new(ttl_s: u64) -> Self {
        Self { partitions: Vec::new(), ttl_s }
    }

    pub fn partition(&mut self, partition: Partition) -> &mut Seen {
        let at = usize::from(partition);
        while self.partitions.len() <= at {
            self.partitions.push(Seen::new(self.ttl_s));
        }
        &mut self.partitions[at]
    }

    pub fn len(&self) -> usize {
        self.partitions.iter().map(Seen::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const T0_US: i64 = 1_700_000_000 * SECOND_US;

    fn id(n: u128) -> EventId {
        Uuid::from_u128(n)
    }

    #[test]
    fn the_first_sighting_counts_and_every_later_one_does_not() {
        let mut seen = Seen::new(86_400);
        assert!(seen.is_first(id(1), T0_US));
        assert!(!seen.is_first(id(1), T0_US));
        assert!(seen.is_first(id(2), T0_US));
        assert!(!seen.is_first(id(1), T0_US + 86_399 * SECOND_US));
    }

    #[test]
    fn an_id_is_forgotten_after_the_time_to_live_and_a_repeat_does_not_prolong_it() {
        let mut seen = Seen::new(3_600);
        assert!(seen.is_first(id(1), T0_US));
        assert!(!seen.is_first(id(1), T0_US + 3_599 * SECOND_US));
        assert!(seen.is_first(id(1), T0_US + 3_600 * SECOND_US));
        assert!(!seen.is_first(id(1), T0_US + 7_199 * SECOND_US));
    }

    #[test]
    fn a_clock_that_jumps_back_forgets_nothing_and_revives_nothing() {
        let mut seen = Seen::new(3_600);
        assert!(seen.is_first(id(1), T0_US));
        assert!(!seen.is_first(id(1), T0_US - 86_400 * SECOND_US));
        assert!(seen.is_first(id(2), T0_US + 7_200 * SECOND_US));
        // By the partition's time id 1 has expired, although this record was stamped earlier.
        assert!(seen.is_first(id(1), T0_US + SECOND_US));
    }

    #[test]
    fn expired_ids_leave_memory() {
        let mut seen = Seen::new(3_600);
        for n in 0..1_000 {
            seen.is_first(id(n), T0_US);
        }
        seen.is_first(id(5_000), T0_US + 7_200 * SECOND_US);
        assert_eq!(seen.len(), 1);
    }

    proptest! {
        /// Stop anywhere, put back what the log's prefix says, go on: the decisions are those of an unbroken run.
        #[test]
        fn a_restart_decides_the_same(
            log in prop::collection::vec((0u128..40, 0i64..9_000), 1..200),
            stop_at in 0usize..200,
        ) {
            let ttl_s = 3_600;
            let at = |offset_s: i64| T0_US + offset_s * SECOND_US;
            let mut unbroken = Seen::new(ttl_s);
            let expected: Vec<bool> = log.iter().map(|(n, s)| unbroken.is_first(id(*n), at(*s))).collect();

            let stop_at = stop_at.min(log.len());
            let mut restarted = Seen::new(ttl_s);
            // What the lake knows: for each first sighting, the id and the partition's time at that record.
            let mut now_s = 0;
            for (position, (n, s)) in log[..stop_at].iter().enumerate() {
                now_s = now_s.max(at(*s) / SECOND_US);
                if expected[position] {
                    restarted.restore(id(*n), now_s);
                }
            }
            restarted.move_on_to(now_s);
            for (position, (n, s)) in log.iter().enumerate().skip(stop_at) {
                prop_assert_eq!(restarted.is_first(id(*n), at(*s)), expected[position], "record {}", position);
            }
        }
    }
}
