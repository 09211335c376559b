//! Who is refused first when more comes than can be kept: impressions, then clicks, so that conversions find room for longest.

use std::sync::atomic::{AtomicBool, Ordering};

use memchr::memmem;
use tally_model::Kind;
use tracing::{info, warn};

/// How full the journal is when a kind is no longer taken. A conversion is taken for as long as the journal does.
const FULLNESS_MAX: [(Kind, f64); 2] = [(Kind::Impression, 0.7), (Kind::Click, 0.85)];

/// Decides, and logs when it begins and when it ends, not each refusal.
#[derive(Debug, Default)]
pub(crate) struct Shedding(AtomicBool);

impl Shedding {
    /// Whether any kind is refused.
    pub fn is_on(&self, fullness: f64) -> bool {
        let is_on = fullness >= FULLNESS_MAX[0].1;
        if self.0.load(Ordering::Relaxed) != is_on && self.0.swap(is_on, Ordering::Relaxed) != is_on {
            if is_on {
                warn!(
                    fullness,
                    "the journal fills up; impressions are refused, then clicks, so that conversions are kept"
                );
            } else {
                info!(fullness, "the journal has room again; everything is taken");
            }
        }
        is_on
    }

    /// The kind for whose sake a request is refused. One that brings several kinds is as urgent as its least urgent event: who
    /// wants conversions through sends them by themselves.
    pub fn of(&self, events: [u64; Kind::ALL.len()], fullness: f64) -> Option<Kind> {
        let refused = |(_, fullness_max): &&(Kind, f64)| fullness >= *fullness_max;
        self.is_on(fullness);
        FULLNESS_MAX.iter().filter(refused).map(|(kind, _)| *kind).find(|kind| events[*kind as usize] > 0)
    }
}

/// About how many events of each kind a text has that is not taken apart yet: taking it apart to refuse it would take the time
/// that others need.
pub(crate) fn kinds_in(text: &[u8]) -> [u64; Kind::ALL.len()] {
    // With its quotes, or each conversion that has a `click_id` would be a click.
    Kind::ALL.map(|kind| memmem::find_iter(text, format!("\"{}\"", kind.as_str()).as_bytes()).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_from_a_text_that_is_not_taken_apart() {
        let text = br#"{"kind":"conversion","click_id":"x"}
            {"kind": "click"}{"kind":"conversion"}"#;
        assert_eq!(kinds_in(text), [0, 1, 2]);
    }

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
