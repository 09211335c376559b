//! Which earlier event a resend repeats: the last one, one of the last few thousand, or any of the past day.

use super::dice::{Chance, Dice};
use super::draft::Draft;

/// How many recent events, and how many from anywhere before, are kept to be resent.
const KEPT: usize = 4_096;
/// A server's memory of ids is bounded; ours of what to resend is shorter.
const RESENT_WITHIN_US: i64 = 86_400_000_000;

#[derive(Clone, Copy)]
struct Sent {
    at_us: i64,
    draft: Draft,
}

#[derive(Default)]
pub struct Memory {
    /// A ring: event n stands at n modulo `KEPT`.
    recent: Vec<Sent>,
    /// A uniform sample of all events so far (reservoir sampling).
    old: Vec<Sent>,
    events: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Last,
    Recent,
    Old,
}

impl Memory {
    pub fn keep(&mut self, draft: Draft, at_us: i64, dice: &mut Dice) {
        let sent = Sent { at_us, draft };
        let place = (self.events % KEPT as u64) as usize;
        self.events += 1;
        if self.recent.len() < KEPT {
            self.recent.push(sent);
            self.old.push(sent);
            return;
        }
        self.recent[place] = sent;
        let place = dice.below_u64(self.events) as usize;
        if let Some(slot) = self.old.get_mut(place) {
            *slot = sent;
        }
    }

    pub fn recall(&self, now_us: i64, dice: &mut Dice) -> Option<(Draft, Age)> {
        let last = self.recent.get((self.events.checked_sub(1)? % KEPT as u64) as usize)?;
        let (sent, age) = match dice.below(4) {
            0 | 1 => (last, Age::Last),
            2 => (&self.recent[dice.below(self.recent.len() as u32) as usize], Age::Recent),
            _ => (&self.old[dice.below(self.old.len() as u32) as usize], Age::Old),
        };
        if now_us - sent.at_us > RESENT_WITHIN_US {
            return (now_us - last.at_us <= RESENT_WITHIN_US).then_some((last.draft, Age::Last));
        }
        Some((sent.draft, age))
    }
}

/// A sender that tries again may do so with other figures. Only the first counts, so none of these may show in a total.
/// The id, the kind and the campaign stay: they say what it is that was sent again.
pub fn altered(draft: Draft, placements: u8, dice: &mut Dice) -> Draft {
    let mut draft = draft;
    draft.occurred_at_us += 1_000_000;
    draft.placement = (draft.placement + 1) % placements;
    draft.cost_micros += 10_000;
    if draft.revenue_micros != 0 && dice.happens(Chance::of(0.5)) {
        draft.revenue_micros *= 2;
    }
    draft
}
