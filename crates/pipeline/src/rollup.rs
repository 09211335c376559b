//! What a batch of events adds to the rollups: one part for each cell that it touches.
//!
//! An event is kept as a few numbers; at the end those of equal values are put together, and walked through by the minute. The
//! coarser grains are sums of the minutes that were passed, so that all grains agree by construction. A day that is loaded at once
//! has almost as many cells as events, so that to look each one up as it comes would cost more than to sort them.

mod walk;

use std::sync::Arc;

use hashbrown::HashMap;
use tally_model::{Cells, Class, Counter, Fact, Grain, TextNumber, Texts, View};

use self::walk::Walk;

const MINUTE_US: i64 = 60_000_000;

/// Collects facts and gives cells.
#[derive(Debug, Default)]
pub struct RollupBuilder {
    texts: Texts,
    views: [Combinations; View::ALL.len()],
    facts: Vec<Kept>,
}

/// The combinations of values that a view has, and their numbers.
#[derive(Debug, Default)]
struct Combinations {
    numbers: HashMap<Values, u32>,
    values: Vec<Values>,
}

/// A cell's key without its grain, view and bucket, with its texts as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Values {
    campaign: TextNumber,
    currency: TextNumber,
    own: [TextNumber; 3],
}

/// What is kept of a fact.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// The number of its values, by view.
    values: [u32; View::ALL.len()],
    /// Since the Unix epoch.
    minute: i64,
    counter: Counter,
    /// Of an event that does not count: none, and nobody.
    cost_micros: i64,
    revenue_micros: i64,
    user_hash: Option<u64>,
}

/// Where to find a fact, and when it occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Stop {
    minute: i64,
    place: u32,
}

impl RollupBuilder {
    pub fn add(&mut self, fact: &Fact<'_>) {
        let campaign = self.texts.number(Some(fact.campaign_id));
        let currency = self.texts.number(fact.currency);
        let mut values = [0; View::ALL.len()];
        for ((number, view), known) in values.iter_mut().zip(View::ALL).zip(&mut self.views) {
            let own = fact.values(view).map(|value| self.texts.number(value));
            *number = known.number(Values { campaign, currency, own });
        }
        let is_counted = fact.class == Class::Counted;
        self.facts.push(Kept {
            values,
            minute: fact.occurred_at_us.div_euclid(MINUTE_US),
            counter: Counter::of(fact.kind, fact.class),
            cost_micros: if is_counted { fact.cost_micros } else { 0 },
            revenue_micros: if is_counted { fact.revenue_micros } else { 0 },
            user_hash: fact.user_hash.filter(|_| is_counted),
        });
    }

    /// How many facts were added: memory grows with them.
    pub fn facts(&self) -> usize {
        self.facts.len()
    }

    /// The parts of every grain, in an order that depends on nothing but them, so that equal facts give equal cells.
    pub fn finish(self) -> Cells {
        let Self { texts, views, facts } = self;
        let facts = by_campaign(&views, &facts);
        let ranks = texts.ranks();
        let mut by_grain = Grain::ALL.map(|_| Cells::default());
        for (view, known) in View::ALL.into_iter().zip(views) {
            let mut walk = Walk { view, facts: &facts, cells: &mut by_grain, users: Vec::new() };
            known.by_text(&ranks, &facts, view, |values, of_values| walk.through(values, of_values));
        }
        let mut cells = Cells::default();
        by_grain.into_iter().for_each(|of_grain| cells.append(of_grain));
        cells.with_texts(&Arc::new(texts))
    }
}

/// The facts with those of a campaign together, as every view is walked through: the processor's caches hold one at a time.
fn by_campaign(views: &[Combinations; View::ALL.len()], facts: &[Kept]) -> Vec<Kept> {
    let [any_view, ..] = views;
    let campaign = |fact: &Kept| any_view.values[fact.values[0] as usize].campaign;
    let mut order: Vec<(TextNumber, u32)> =
        facts.iter().enumerate().map(|(place, fact)| (campaign(fact), place as u32)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| facts[place as usize]).collect()
}

impl Combinations {
    fn number(&mut self, values: Values) -> u32 {
        *self.numbers.entry(values).or_insert_with(|| {
            self.values.push(values);
            self.values.len() as u32 - 1
        })
    }

    /// Calls `each` with every combination, in the order of their texts, and with the places of its facts.
    fn by_text(&self, ranks: &[u32], facts: &[Kept], view: View, mut each: impl FnMut(&Values, &mut [Stop])) {
        let rank = |number: TextNumber| ranks[number as usize];
        let mut order: Vec<u32> = (0..self.values.len() as u32).collect();
        order.sort_unstable_by_key(|number| {
            let Values { campaign, currency, own } = self.values[*number as usize];
            (rank(campaign), rank(currency), own.map(rank))
        });
        let mut ends = vec![0; self.values.len()];
        facts.iter().for_each(|fact| ends[fact.values[view as usize] as usize] += 1);
        let mut end = 0;
        for number in &order {
            end += std::mem::replace(&mut ends[*number as usize], end);
        }
        let mut stops = vec![Stop::default(); facts.len()];
        for (place, fact) in facts.iter().enumerate() {
            let end = &mut ends[fact.values[view as usize] as usize];
            stops[*end] = Stop { minute: fact.minute, place: place as u32 };
            *end += 1;
        }
        let mut start = 0;
        for number in order {
            let end = ends[number as usize];
            each(&self.values[number as usize], &mut stops[start..end]);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests;
