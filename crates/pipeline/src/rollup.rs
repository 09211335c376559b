//! What a batch of events adds to the rollups: one part for each cell that it touches.
//!
//! Events are counted by the minute only; the coarser grains are sums of those, so that all grains agree by construction.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tally_model::{Cell, CellKey, Class, Counts, Fact, Grain, Users, View, bucket_start_us};

/// Collects facts and gives cells.
#[derive(Debug, Default)]
pub struct RollupBuilder {
    names: Names,
    minutes: HashMap<Key, Counts>,
    /// Users by the hour: see [`Cell::users`].
    hours: HashMap<Key, Users>,
}

/// A cell's key with its texts as numbers: hashing and comparing many texts for each event would cost most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    view: View,
    bucket_us: i64,
    campaign: u32,
    currency: u32,
    values: [u32; 3],
}

impl RollupBuilder {
    pub fn add(&mut self, fact: &Fact<'_>) {
        let minute_us = bucket_start_us(Grain::Minute, fact.occurred_at_us);
        let hour_us = bucket_start_us(Grain::Hour, fact.occurred_at_us);
        let campaign = self.names.number(Some(fact.campaign_id));
        let currency = self.names.number(fact.currency);
        for view in View::ALL {
            let values = fact.values(view).map(|value| self.names.number(value));
            let key = Key { view, bucket_us: minute_us, campaign, currency, values };
            self.minutes.entry(key).or_default().add_fact(fact);
            if let (Some(user_hash), Class::Counted) = (fact.user_hash, fact.class) {
                self.hours.entry(Key { bucket_us: hour_us, ..key }).or_default().add(user_hash);
            }
        }
    }

    /// The parts of every grain, sorted, so that equal facts give equal bytes.
    pub fn finish(self) -> Vec<Cell> {
        let Self { names, minutes, hours } = self;
        let by_hour = regrain(Grain::Hour, minutes.iter().map(|(key, counts)| (*key, *counts)), merge_counts);
        let by_day = regrain(Grain::Day, by_hour.iter().map(|(key, counts)| (*key, *counts)), merge_counts);
        let by_month = regrain(Grain::Month, by_day.iter().map(|(key, counts)| (*key, *counts)), merge_counts);
        let users_by_day = regrain(Grain::Day, hours.iter().map(|(key, users)| (*key, users.clone())), merge_users);
        let users_by_month =
            regrain(Grain::Month, users_by_day.iter().map(|(key, users)| (*key, users.clone())), merge_users);

        let mut cells = Vec::with_capacity(minutes.len() + by_hour.len() + by_day.len() + by_month.len());
        let mut give = |grain: Grain, counts: HashMap<Key, Counts>, mut users: HashMap<Key, Users>| {
            for (key, counts) in counts {
                cells.push(Cell { key: names.cell_key(grain, &key), counts, users: users.remove(&key) });
            }
        };
        give(Grain::Minute, minutes, HashMap::new());
        give(Grain::Hour, by_hour, hours);
        give(Grain::Day, by_day, users_by_day);
        give(Grain::Month, by_month, users_by_month);
        cells.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        cells
    }
}

/// The same parts by a coarser grain.
fn regrain<T: Clone>(
    grain: Grain,
    parts: impl Iterator<Item = (Key, T)>,
    merge: impl Fn(&mut T, &T),
) -> HashMap<Key, T> {
    let mut coarse: HashMap<Key, T> = HashMap::new();
    for (key, part) in parts {
        let key = Key { bucket_us: bucket_start_us(grain, key.bucket_us), ..key };
        match coarse.entry(key) {
            Entry::Occupied(mut whole) => merge(whole.get_mut(), &part),
            Entry::Vacant(place) => {
                place.insert(part);
            }
        }
    }
    coarse
}

fn merge_counts(into: &mut Counts, part: &Counts) {
    into.merge(part);
}

fn merge_users(into: &mut Users, part: &Users) {
    into.merge(part);
}

/// Texts and their numbers, within one batch. Number 0 is "none".
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Names {
    fn number(&mut self, text: Option<&str>) -> u32 {
        let Some(text) = text else { return 0 };
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = Arc::from(text);
        self.texts.push(text.clone());
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(text, number);
        number
    }

    fn text(&self, number: u32) -> Option<Arc<str>> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.texts.get(at).cloned()
    }

    fn cell_key(&self, grain: Grain, key: &Key) -> CellKey {
        CellKey {
            grain,
            view: key.view,
            campaign_id: self.text(key.campaign).unwrap_or_default(),
            bucket_us: key.bucket_us,
            currency: self.text(key.currency),
            values: key.values.map(|value| self.text(value)),
        }
    }
}

#[cfg(test)]
mod tests;
