//! From minute to minute through the facts of one combination of values.

use std::ops::Range;

use tally_model::{Cells, Counter, Grain, NumberedKey, Users, View, bucket_start_us};

use super::{Kept, MINUTE_US, Stop, Values};

const HOUR_MINUTES: i64 = 60;
const DAY_MINUTES: i64 = 24 * HOUR_MINUTES;
/// The 32nd day from the first of a month is in the next one.
const MONTH_MINUTES_MAX: i64 = 31 * DAY_MINUTES;

pub(super) struct Walk<'a> {
    pub view: View,
    pub facts: &'a [Kept],
    /// By grain.
    pub cells: &'a mut [Cells; Grain::ALL.len()],
    /// Those who were passed, of all facts of the values under way.
    pub users: Vec<u64>,
}

/// The cell of a grain that is under way.
struct Open {
    grain: Grain,
    /// Its minutes.
    bucket: Range<i64>,
    counts: [u64; Counter::COUNT],
    cost_micros: i64,
    revenue_micros: i64,
    users_from: usize,
    /// The users of the cell before, and their sketch: a coarser cell often has just those of its only finer one.
    sketched: (Range<usize>, Vec<u8>),
}

impl Walk<'_> {
    /// All cells that facts of these values have.
    pub fn through(&mut self, values: &Values, stops: &mut [Stop]) {
        stops.sort_unstable();
        self.users.clear();
        let mut open = Grain::ALL.map(Open::new);
        for stop in stops.iter() {
            let fact = &self.facts[stop.place as usize];
            for at in 0..open.len() {
                if !open[at].bucket.contains(&fact.minute) {
                    self.close(values, &mut open, at);
                    open[at].begin(fact.minute, self.users.len());
                }
                open[at].add(fact);
            }
            self.users.extend(fact.user_hash);
        }
        for at in 0..open.len() {
            self.close(values, &mut open, at);
        }
    }

    fn close(&mut self, values: &Values, open: &mut [Open; Grain::ALL.len()], at: usize) {
        let (finer, rest) = open.split_at_mut(at);
        let Some(cell) = rest.first_mut().filter(|cell| !cell.bucket.is_empty()) else { return };
        if cell.grain == Grain::Hour {
            // So that a sketch depends on no order.
            self.users[cell.users_from..].sort_unstable();
        }
        let seen = cell.users_from..self.users.len();
        let sketch = match finer.last() {
            // Minutes have none.
            None => Vec::new(),
            Some(finer) if finer.sketched.0 == seen => finer.sketched.1.clone(),
            Some(_) if seen.is_empty() => Vec::new(),
            Some(_) => Users::bytes_of(self.users[seen.clone()].iter().copied()),
        };
        let counts = Counter::all().map(|counter| (counter, cell.counts[counter.index()]));
        let Values { campaign, currency, own } = *values;
        let bucket_us = cell.bucket.start * MINUTE_US;
        let key = NumberedKey { grain: cell.grain, view: self.view, bucket_us, campaign, currency, values: own };
        let sums = (cell.cost_micros, cell.revenue_micros);
        self.cells[at].add(key, counts.filter(|(_, count)| *count > 0), sums, &sketch);
        if at > 0 {
            cell.sketched = (seen, sketch);
        }
    }
}

impl Open {
    fn new(grain: Grain) -> Self {
        Self {
            grain,
            bucket: 0..0,
            counts: [0; Counter::COUNT],
            cost_micros: 0,
            revenue_micros: 0,
            users_from: 0,
            sketched: (0..0, Vec::new()),
        }
    }

    fn begin(&mut self, minute: i64, users_from: usize) {
        (self.bucket, self.users_from) = (bucket(self.grain, minute), users_from);
        (self.counts, self.cost_micros, self.revenue_micros) = ([0; Counter::COUNT], 0, 0);
    }

    fn add(&mut self, fact: &Kept) {
        self.counts[fact.counter.index()] += 1;
        self.cost_micros = self.cost_micros.saturating_add(fact.cost_micros);
        self.revenue_micros = self.revenue_micros.saturating_add(fact.revenue_micros);
    }
}

/// The minutes of the cell that a minute is in.
fn bucket(grain: Grain, minute: i64) -> Range<i64> {
    let start = bucket_start_us(grain, minute * MINUTE_US).div_euclid(MINUTE_US);
    let end = match grain {
        Grain::Minute => start + 1,
        Grain::Hour => start + HOUR_MINUTES,
        Grain::Day => start + DAY_MINUTES,
        Grain::Month => bucket_start_us(grain, (start + MONTH_MINUTES_MAX) * MINUTE_US).div_euclid(MINUTE_US),
    };
    start..end
}
