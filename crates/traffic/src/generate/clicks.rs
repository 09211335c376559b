//! Keeps people from clicking the same ad twice within seconds: a server counts such clicks once (`double_click`), and which one
//! that is depends on the order of arrival, which several requests at once do not keep.

use std::collections::HashSet;

use super::dice::mix;

/// Servers take clicks of one person on one ad that are less than this apart for one.
const WINDOW_US: i64 = 10_000_000;
/// Longer than any event is late. What occurred before the last two of these spans meets no new click.
const SPAN_US: i64 = 3 * 86_400_000_000;

#[derive(Default)]
pub struct Clicks {
    /// Hashes of person, ad and a stretch of time as long as the window. A collision costs a click that never was.
    recent: HashSet<u64>,
    earlier: HashSet<u64>,
    recent_since_us: i64,
}

impl Clicks {
    /// Takes note of a click, unless the same person clicks the same ad within the window of it.
    pub fn add(&mut self, person: u32, campaign: u32, ad: u32, occurred_at_us: i64, now_us: i64) -> bool {
        if now_us - self.recent_since_us >= SPAN_US {
            self.recent_since_us = now_us;
            self.earlier = std::mem::take(&mut self.recent);
        }
        let who_and_what = mix(u64::from(person) << 32 ^ mix(u64::from(campaign) << 32 | u64::from(ad)));
        let stretch = occurred_at_us.div_euclid(WINDOW_US);
        let place = |stretch: i64| mix(who_and_what ^ stretch as u64);
        let is_near = |place: u64| self.recent.contains(&place) || self.earlier.contains(&place);
        let is_free = ![stretch - 1, stretch, stretch + 1].into_iter().map(place).any(is_near);
        if is_free {
            self.recent.insert(place(stretch));
        }
        is_free
    }
}
