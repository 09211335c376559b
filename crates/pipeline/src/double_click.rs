//! Double clicks: a person's second click on the same ad within seconds of one that counted. Its id is another, so that the
//! dedup by id does not see it.
//!
//! Which click came first is the log's order; how far apart they are is told by when they occurred, by the senders' word: a log
//! of last week that arrives within a minute has no more double clicks than it had last week. All of it stands in the records.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashMap;
use tally_model::{Event, Kind};

/// For how long a counted click is remembered, by the log's time: the second one arrives soon after, whenever they occurred.
pub(crate) const MEMORY_S: i64 = 600;
/// Clicks remembered at most, 70 MB or so; beyond it whole seconds are forgotten, the oldest first.
const CLICKS_MAX: usize = 1 << 20;

/// A click that is known to be somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersonsClick {
    user_hash: u64,
    /// Of campaign and ad. Two ads of one number would have to be clicked by one person within the window.
    ad_number: u64,
    occurred_at_us: i64,
}

impl PersonsClick {
    pub fn new(user_hash: u64, campaign_id: &str, ad_id: &str, occurred_at_us: i64) -> Self {
        let mut hasher = DefaultHasher::new();
        (campaign_id, ad_id).hash(&mut hasher);
        Self { user_hash, ad_number: hasher.finish(), occurred_at_us }
    }

    /// Where the event is one.
    pub fn of<T: AsRef<str>>(event: &Event<T>) -> Option<Self> {
        let user_hash = event.user_hash.filter(|_| event.kind == Kind::Click)?;
        Some(Self::new(user_hash, event.campaign_id.as_ref(), event.ad_id.as_ref(), event.occurred_at_us))
    }
}

/// The counted clicks that are remembered. What they are depends on what was committed, not on the order that it is told in.
#[derive(Debug)]
pub struct DoubleClicks {
    window_us: i64,
    clicks: HashMap<Place, Held>,
    /// Where those stand that were judged in a second.
    seconds: BTreeMap<i64, Vec<Place>>,
    held: usize,
    /// Clicks judged up to here are forgotten.
    forgotten_upto_s: i64,
}

/// Counted clicks of an earlier life, as they are told.
#[derive(Debug)]
pub struct ToldClicks {
    clicks: Vec<(i64, PersonsClick)>,
    newest_s: i64,
    forgotten_upto_s: i64,
}

impl Default for ToldClicks {
    fn default() -> Self {
        Self { clicks: Vec::new(), newest_s: i64::MIN, forgotten_upto_s: i64::MIN }
    }
}

impl ToldClicks {
    pub fn tell(&mut self, click: PersonsClick, judged_at_s: i64) {
        self.clicks.push((judged_at_s, click));
        self.newest_s = self.newest_s.max(judged_at_s);
        if self.clicks.len() > 2 * CLICKS_MAX {
            let newest_s = self.newest_s;
            *self = std::mem::take(self).at(newest_s);
        }
    }

    /// What is remembered of them at that time.
    fn at(mut self, log_time_s: i64) -> Self {
        self.forgotten_upto_s = self.forgotten_upto_s.max(log_time_s.saturating_sub(MEMORY_S));
        self.clicks.sort_unstable_by_key(|(judged_at_s, _)| Reverse(*judged_at_s));
        if let Some((beyond_s, _)) = self.clicks.get(CLICKS_MAX) {
            self.forgotten_upto_s = self.forgotten_upto_s.max(*beyond_s);
        }
        self.clicks.retain(|(judged_at_s, _)| *judged_at_s > self.forgotten_upto_s);
        self
    }
}

/// A person, an ad, and a stretch of time as long as the window: at most one click that counts occurs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    user_hash: u64,
    ad_number: u64,
    stretch: i64,
}

/// The counted clicks of a place: one, unless they were counted by a shorter window than today's.
#[derive(Debug, Clone, Copy)]
struct Held {
    first_us: i64,
    last_us: i64,
    judged_at_s: i64,
}

impl DoubleClicks {
    /// A window of 0 turns the rule off.
    pub fn new(window_ms: u64) -> Self {
        Self {
            window_us: i64::try_from(window_ms).unwrap_or(i64::MAX).saturating_mul(1_000),
            clicks: HashMap::new(),
            seconds: BTreeMap::new(),
            held: 0,
            forgotten_upto_s: i64::MIN,
        }
    }

    /// As they are after a log that told of these, in any order.
    pub fn restored(window_ms: u64, told: ToldClicks, log_time_s: i64) -> Self {
        let mut clicks = Self::new(window_ms);
        let told = told.at(log_time_s);
        clicks.forget_upto(told.forgotten_upto_s);
        told.clicks.iter().for_each(|(judged_at_s, click)| clicks.counted(click, *judged_at_s));
        clicks
    }

    /// By how much of the log's time clicks must be told again after a restart, in seconds; 0 for none.
    pub fn memory_s(&self) -> i64 {
        if self.window_us > 0 { MEMORY_S } else { 0 }
    }

    /// The log's time is that of the newest record in any partition. It never goes back.
    pub fn move_on_to(&mut self, judged_at_s: i64) {
        self.forget_upto(judged_at_s.saturating_sub(MEMORY_S));
    }

    /// Whether the same person clicked the same ad within the window of this, with a click that counted.
    pub fn is_double(&self, click: &PersonsClick) -> bool {
        if self.window_us == 0 {
            return false;
        }
        let at = self.place(click);
        let in_stretch = |stretch| self.clicks.get(&Place { stretch, ..at });
        in_stretch(at.stretch).is_some()
            || in_stretch(at.stretch - 1).is_some_and(|held| click.occurred_at_us - held.last_us < self.window_us)
            || in_stretch(at.stretch + 1).is_some_and(|held| held.first_us - click.occurred_at_us < self.window_us)
    }

    /// Takes note of a click that counted.
    pub fn counted(&mut self, click: &PersonsClick, judged_at_s: i64) {
        if self.window_us == 0 || judged_at_s <= self.forgotten_upto_s {
            return;
        }
        let (place, at_us) = (self.place(click), click.occurred_at_us);
        let held = self.clicks.entry(place).or_insert(Held { first_us: at_us, last_us: at_us, judged_at_s });
        held.first_us = held.first_us.min(at_us);
        held.last_us = held.last_us.max(at_us);
        held.judged_at_s = held.judged_at_s.max(judged_at_s);
        self.seconds.entry(judged_at_s).or_default().push(place);
        self.held += 1;
        while self.held > CLICKS_MAX
            && let Some(oldest_s) = self.seconds.keys().next().copied()
        {
            self.forget_upto(oldest_s);
        }
    }

    pub fn len(&self) -> usize {
        self.clicks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clicks.is_empty()
    }

    fn place(&self, click: &PersonsClick) -> Place {
        let PersonsClick { user_hash, ad_number, occurred_at_us } = *click;
        Place { user_hash, ad_number, stretch: occurred_at_us.div_euclid(self.window_us) }
    }

    fn forget_upto(&mut self, upto_s: i64) {
        if upto_s <= self.forgotten_upto_s {
            return;
        }
        self.forgotten_upto_s = upto_s;
        while let Some(oldest) = self.seconds.first_entry()
            && *oldest.key() <= upto_s
        {
            for place in oldest.remove() {
                self.held -= 1;
                if self.clicks.get(&place).is_some_and(|held| held.judged_at_s <= upto_s) {
                    self.clicks.remove(&place);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
