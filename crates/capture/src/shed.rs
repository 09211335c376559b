//! Who is refused first when more comes than can be kept: impressions, then clicks, so that conversions find room for longest.

use std::sync::atomic::{AtomicBool, Ordering};

use tally_model::Kind;
use tracing::{info, warn};

/// How full the journal is when a kind is no longer taken. A conversion is taken for as long as the journal does.
const FULLNESS_MAX: [(Kind, f64); 2] = [(Kind::Impression, 0.7), (Kind::Click, 0.85)];

/// Decides, and logs when it begins and when it ends, not each refusal.
#[derive(Debug, Default)]
pub(crate) struct Shedding(AtomicBool);

impl Shedding {
    /// The kind for whose sake a request is refused. One that brings several kinds is as urgent as its least urgent event: who
    /// wants conversions through sends them by themselves.
    pub fn of(&self, events: [u64; Kind::ALL.len()], fullness: f64) -> Option<Kind> {
        let refused = |(_, fullness_max): &&(Kind, f64)| fullness >= *fullness_max;
        let is_shedding = fullness >= FULLNESS_MAX[0].1;
        if self.0.load(Ordering::Relaxed) != is_shedding && self.0.swap(is_shedding, Ordering::Relaxed) != is_shedding {
            if is_shedding {
                warn!(
                    fullness,
                    "the journal fills up; impressions are refused, then clicks, so that conversions are kept"
                );
            } else {
                info!(fullness, "the journal has room again; everything is taken");
            }
        }
        FULLNESS_MAX.iter().filter(refused).map(|(kind, _)| *kind).find(|kind| events[*kind as usize] > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_urgent_are_refused_first_and_conversions_are_not_refused_here() {
        let shed = |events, fullness| Shedding::default().of(events, fullness);
        for (fullness, refused) in [
            (0.0, [false, false]),
            (0.69, [false, false]),
            (0.7, [true, false]),
            (0.85, [true, true]),
            (3.0, [true, true]),
        ] {
            assert_eq!(shed([1, 0, 0], fullness).is_some(), refused[0], "an impression at {fullness}");
            assert_eq!(shed([0, 1, 0], fullness).is_some(), refused[1], "a click at {fullness}");
            assert_eq!(shed([0, 0, 1], fullness), None, "a conversion at {fullness}");
        }
        assert_eq!(shed([1, 5, 5], 0.7), Some(Kind::Impression));
    }
}
