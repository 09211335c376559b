//! What outlives a process: chance, time, and whether the process is still alive. Everything that has an effect outside asks
//! [`World::step`] first; a crash is one of these steps, and nothing after it has any effect.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tally_model::{Clock, Entropy};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Setup;
use crate::bug::Bug;
use crate::chance::Chance;
use crate::plan::Plan;

pub struct World {
    pub chance: Chance,
    pub plan: Plan,
    pub bug: Option<Bug>,
    is_traced: bool,
    /// The last life: no trouble any more, so that all that is left gets in.
    pub calm: AtomicBool,
    steps: AtomicU64,
    fate: Mutex<Fate>,
    dead: AtomicBool,
    died: Notify,
    /// A fingerprint of everything that happened, in order: equal seeds must give equal ones.
    trace: AtomicU64,
    clock: SimClock,
    happened: Mutex<Happened>,
    /// A promise that was seen broken where nobody could be told.
    finding: Mutex<Option<anyhow::Error>>,
}

/// When a life ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lives,
    /// At so many steps from now, whatever they are.
    AtStep(u64),
    /// At so many of these steps: some are rare, and what happens there matters most.
    At(&'static str, u64),
}

impl Fate {
    /// Steps at which a crash is worth more than its share.
    const PLACES: [&str; 8] =
        ["put events", "events are in", "put cells", "cells are in", "sync", "rename", "sync folder", "answer"];

    pub fn of(chance: &Chance) -> Self {
        if chance.permille(500) {
            // Few steps as likely as many: also a start may be cut short.
            let most = 1 << chance.between(2, 11);
            return Self::AtStep(chance.between(1, most));
        }
        let most = 1 << chance.between(0, 6);
        Self::At(chance.one_of(&Self::PLACES), chance.between(1, most))
    }

    fn comes_with(&mut self, step: &str) -> bool {
        let left = match self {
            Self::Lives => return false,
            Self::AtStep(left) => left,
            Self::At(place, left) if *place == step => left,
            Self::At(..) => return false,
        };
        *left -= 1;
        *left == 0
    }
}

/// Counts of troubles and of what came of them, by name.
pub type Happened = BTreeMap<&'static str, u64>;

/// Wall-clock time moves with the runtime's, which stands still unless everybody waits; and it can be set.
#[derive(Default)]
struct SimClock {
    /// Between lives there is no runtime to ask.
    slept_us: AtomicI64,
    life_began: Mutex<Option<Instant>>,
    set_by_us: AtomicI64,
    was_set_back: AtomicBool,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let Setup { seed, bug, trace: is_traced } = setup;
        let chance = Chance::new(seed);
        let plan = Plan::of(&chance);
        if is_traced {
            say(format_args!("{plan:#?}"));
        }
        Self {
            plan,
            chance,
            bug,
            is_traced,
            calm: AtomicBool::new(false),
            steps: AtomicU64::new(0),
            fate: Mutex::new(Fate::Lives),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            trace: AtomicU64::new(seed),
            clock: SimClock::default(),
            happened: Mutex::default(),
            finding: Mutex::default(),
        }
    }

    /// Within the runtime of the new life.
    pub fn begin_life(&self, fate: Fate) {
        *self.clock.life_began() = Some(Instant::now());
        *self.fate() = fate;
        self.dead.store(false, Ordering::SeqCst);
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Within the same runtime. Some time passes until somebody notices and starts it again.
    pub fn end_life(&self) {
        let lived = self.clock.life_began().take().map_or(Duration::ZERO, |began| began.elapsed());
        let down_us = self.chance.between(1_000, 5_000_000) as i64;
        self.clock.slept_us.fetch_add(lived.as_micros() as i64 + down_us, Ordering::SeqCst);
    }

    /// Something is about to have an effect; an error means that the process is dead and it has none.
    pub fn step(&self, what: &str) -> io::Result<()> {
        if self.is_dead() {
            return Err(io::Error::other("the process is dead"));
        }
        self.note(what.as_bytes());
        self.tell(what);
        self.steps.fetch_add(1, Ordering::SeqCst);
        if self.fate().comes_with(what) {
            self.die();
            return Err(io::Error::other("the process is dead"));
        }
        Ok(())
    }

    fn tell(&self, what: &str) {
        if self.is_traced {
            say(format_args!("{:>14.3} s  {what}", self.elapsed().as_secs_f64()));
        }
    }

    pub fn die(&self) {
        self.tell("death");
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub async fn death(&self) {
        let died = self.died.notified();
        if !self.is_dead() {
            died.await;
        }
    }

    pub fn found(&self, error: anyhow::Error) {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.die();
    }

    pub fn finding(&self) -> Option<anyhow::Error> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same for those who cannot be told: whoever waits in a killed process waits for ever.
    pub async fn step_or_never(&self, what: &str) {
        if self.step(what).is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this trouble happens now.
    pub fn trouble(&self, what: &'static str, permille: u64) -> bool {
        let happens = !self.is_calm() && self.chance.permille(permille);
        if happens {
            self.count(what);
        }
        happens
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    pub fn count(&self, what: &'static str) {
        self.tell(what);
        *self.happened().entry(what).or_default() += 1;
    }

    /// How often what happened.
    pub fn happened(&self) -> MutexGuard<'_, Happened> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, what: &[u8]) {
        let mut hash = self.trace.load(Ordering::SeqCst);
        for byte in what {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
        self.trace.store(hash, Ordering::SeqCst);
    }

    pub fn fingerprint(&self) -> (u64, u64) {
        (self.steps.load(Ordering::SeqCst), self.trace.load(Ordering::SeqCst))
    }

    pub async fn sleep_ms(&self, least: u64, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.chance.between(least, most))).await;
    }

    pub fn was_set_back(&self) -> bool {
        self.clock.was_set_back.load(Ordering::SeqCst)
    }

    /// Somebody sets the wall clock.
    pub fn set_clock_by_s(&self, by_s: i64) {
        self.clock.was_set_back.fetch_or(by_s < 0, Ordering::SeqCst);
        self.clock.set_by_us.fetch_add(by_s * 1_000_000, Ordering::SeqCst);
    }
}

#[allow(clippy::print_stdout, reason = "a trace is asked for to be read")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

impl SimClock {
    fn life_began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.life_began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for World {
    fn now_us(&self) -> i64 {
        let elapsed_us = i64::try_from(self.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.plan.start_us + elapsed_us + self.clock.set_by_us.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        let lived = self.clock.life_began().map_or(Duration::ZERO, |began| began.elapsed());
        Duration::from_micros(self.clock.slept_us.load(Ordering::SeqCst) as u64) + lived
    }
}

impl Entropy for World {
    fn bits(&self) -> u128 {
        self.chance.bits()
    }
}
