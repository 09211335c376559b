//! Time and randomness, handed in: whoever needs either takes one of these, so that a test can hold them still.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time in microseconds since the Unix epoch, UTC. It may jump.
    fn now_us(&self) -> i64;

    /// Time since some moment that stays the same: for how long something took. It never goes back.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock. The only place that reads it for anything that ends up in a record.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where wall-clock time enters")]
    fn now_us(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    now_us: AtomicI64,
    elapsed_us: AtomicI64,
}

impl ManualClock {
    pub fn at_us(now_us: i64) -> Self {
        Self { now_us: AtomicI64::new(now_us), elapsed_us: AtomicI64::new(0) }
    }

    /// Time passes.
    pub fn advance_ms(&self, by_ms: i64) {
        self.now_us.fetch_add(by_ms * 1_000, Ordering::SeqCst);
        self.elapsed_us.fetch_add(by_ms * 1_000, Ordering::SeqCst);
    }

    /// Somebody sets the clock, and no time passes.
    pub fn set_us(&self, now_us: i64) {
        self.now_us.store(now_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        self.now_us.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.elapsed_us.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

/// Unpredictable bits, for ids that we make ourselves.
pub trait Entropy: Send + Sync + 'static {
    fn bits(&self) -> u128;
}

/// The operating system's random source.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[allow(clippy::disallowed_methods, reason = "the one place where randomness enters")]
    fn bits(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}

/// A repeatable sequence (SplitMix64) for tests and simulations.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<u64>);

impl SeededEntropy {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn bits(&self) -> u128 {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut next = || {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        (u128::from(next()) << 64) | u128::from(next())
    }
}
