//! How much of a rate each of many has used up, in a table of fixed size: no crowd of strangers makes it grow.
//!
//! The generic cell rate algorithm: of each key it holds one time, that at which all it took will be earned again. Whoever took
//! nothing for a moment is past that time and no different from a stranger, so its place can be given away at no loss.

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// What may be taken at once, in seconds of the rate: people and servers send in bursts.
const BURST_S: u64 = 10;
/// Times 8, so many may owe something at once. One event is owed for a tenth of a second at ten a second, so that is some half a
/// million strangers a second; beyond it, those are forgotten who owe least.
const SETS: usize = 8_192;
/// Places that a key may have, as in the caches of a processor.
const SLOTS_IN_SET: usize = 8;

/// 0 is past, so an empty slot is that of somebody who took nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    earned_at_ns: u64,
}

/// A rate, and what each key took of it. Keys are hashes: their bits are taken for evenly spread.
pub(super) struct Allowance {
    /// In which one is earned.
    interval_ns: u64,
    sets: Box<[Mutex<[Slot; SLOTS_IN_SET]>]>,
    /// Keys that were forgotten though they had used up more than half of what they may take at once.
    forgotten: Counter,
}

impl Allowance {
    /// None where there is no limit.
    pub fn new(per_s: u32, forgotten: Counter) -> Option<Self> {
        let interval_ns = 1_000_000_000 / u64::from(per_s).max(1);
        (per_s > 0).then(|| Self { interval_ns, sets: (0..SETS).map(|_| Mutex::default()).collect(), forgotten })
    }

    /// Takes one if the key has any left, else says how long until it has.
    pub fn take(&self, key: u64, now: Duration) -> Result<(), Duration> {
        let now_ns = nanoseconds(now);
        self.with_slot(key, now_ns, |slot| {
            let owed_ns = slot.earned_at_ns.max(now_ns) - now_ns;
            let affordable_ns = (BURST_S * 1_000_000_000).saturating_sub(self.interval_ns);
            if owed_ns > affordable_ns {
                return Err(Duration::from_nanos(owed_ns - affordable_ns));
            }
            slot.earned_at_ns = now_ns + owed_ns + self.interval_ns;
            Ok(())
        })
    }

    /// Takes as many, had or not: what is too much is owed.
    pub fn charge(&self, key: u64, count: u64, now: Duration) {
        let now_ns = nanoseconds(now);
        self.with_slot(key, now_ns, |slot| {
            let cost_ns = self.interval_ns.saturating_mul(count);
            slot.earned_at_ns = slot.earned_at_ns.max(now_ns).saturating_add(cost_ns);
        });
    }

    fn with_slot<T>(&self, key: u64, now_ns: u64, act: impl FnOnce(&mut Slot) -> T) -> T {
        let set = &self.sets[key as usize % SETS];
        // Nothing below panics; were it to, each slot would still be one of its two states.
        let mut slots = set.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.key == key) {
            return act(slot);
        }
        let mut at = 0;
        for other in 1..SLOTS_IN_SET {
            if slots[other].earned_at_ns < slots[at].earned_at_ns {
                at = other;
            }
        }
        if slots[at].earned_at_ns > now_ns + BURST_S * 1_000_000_000 / 2 {
            self.forgotten.inc();
        }
        slots[at] = Slot { key, earned_at_ns: 0 };
        act(&mut slots[at])
    }
}

fn nanoseconds(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(per_s: u32) -> Allowance {
        Allowance::new(per_s, Counter::default()).unwrap()
    }

    /// How many of `tries` at one moment are let through.
    fn taken(allowance: &Allowance, key: u64, tries: usize, at_ms: u64) -> usize {
        (0..tries).filter(|_| allowance.take(key, Duration::from_millis(at_ms)).is_ok()).count()
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_the_rate() {
        let allowance = allowance(5);
        assert_eq!(taken(&allowance, 7, 1_000, 0), 50);
        let wait = allowance.take(7, Duration::ZERO).unwrap_err();
        assert_eq!(wait, Duration::from_millis(200));
        assert_eq!(taken(&allowance, 7, 1_000, 199), 0);
        assert_eq!(taken(&allowance, 7, 1_000, 200), 1);
        assert_eq!(taken(&allowance, 7, 1_000, 10_200), 50);
        assert_eq!(taken(&allowance, 8, 1_000, 0), 50, "another key has its own");
    }

    #[test]
    fn what_is_taken_beyond_the_allowance_is_owed() {
        let allowance = allowance(100);
        allowance.charge(1, 5_000, Duration::ZERO);
        assert_eq!(allowance.take(1, Duration::ZERO).unwrap_err(), Duration::from_millis(40_010));
        assert_eq!(taken(&allowance, 1, 10, 40_009), 0);
        assert_eq!(taken(&allowance, 1, 10, 40_010), 1);
    }

    #[test]
    fn no_crowd_grows_it_and_who_is_idle_is_forgotten_first() {
        let allowance = allowance(1_000);
        // All meet in one set, and used up what they may; then one of them is idle for long.
        let key = |n: usize| (n * SETS) as u64 + 3;
        let used_up = |n: usize, at_ms| allowance.take(key(n), Duration::from_millis(at_ms)).is_err();
        for n in 0..SLOTS_IN_SET {
            allowance.charge(key(n), if n == 5 { 1_000 } else { 30_000 }, Duration::ZERO);
        }
        allowance.charge(key(20), 20_000, Duration::from_millis(1_000));
        assert_eq!(allowance.forgotten.get(), 0, "the idle one made room");
        assert!([0, 1, 7, 20].into_iter().all(|n| used_up(n, 1_000)), "who owes something was forgotten");
        allowance.charge(key(21), 1, Duration::from_millis(1_000));
        assert_eq!(allowance.forgotten.get(), 1, "nobody is idle, so who owes least is forgiven");
        assert!(used_up(0, 1_000) && !used_up(20, 1_000));
    }

    #[test]
    fn a_rate_of_none_is_no_limit() {
        assert!(Allowance::new(0, Counter::default()).is_none());
    }
}
