//! How far a person came along the steps of a funnel.

use serde::{Deserialize, Serialize};

use crate::Kind;

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    pub name: String,
    /// People who came so far.
    pub users: u64,
    /// Of those at the first step; null where there are none.
    pub of_first: Option<f64>,
    /// Of those at the step before.
    pub of_previous: Option<f64>,
}

impl Step {
    /// From how many people came at least so far, by step.
    pub fn all(steps: &[Kind], reached: &[u64]) -> Vec<Step> {
        let ratio = |of: u64, to: Option<&u64>| to.filter(|to| **to > 0).map(|to| of as f64 / *to as f64);
        let step = |(at, (kind, users)): (usize, (&Kind, &u64))| Step {
            name: kind.as_str().to_owned(),
            users: *users,
            of_first: ratio(*users, reached.first()),
            of_previous: ratio(*users, at.checked_sub(1).map_or(reached.first(), |before| reached.get(before))),
        };
        steps.iter().zip(reached).enumerate().map(step).collect()
    }
}

/// The furthest step that one person reached, told their events in the order of time.
#[derive(Debug)]
pub struct Furthest<'a> {
    steps: &'a [Kind],
    window_us: i64,
    /// For each step, when the latest chain began that reaches it.
    began_us: Vec<Option<i64>>,
}

impl<'a> Furthest<'a> {
    pub fn new(steps: &'a [Kind], window_us: i64) -> Self {
        Self { steps, window_us, began_us: vec![None; steps.len()] }
    }

    pub fn see(&mut self, kind: Kind, at_us: i64) {
        // The last step first: one event is one step, also where two steps ask for the same.
        for step in (0..self.steps.len()).rev().filter(|step| self.steps[*step] == kind) {
            let began = match step.checked_sub(1) {
                None => Some(at_us),
                Some(before) => self.began_us[before].filter(|began_us| at_us - began_us <= self.window_us),
            };
            self.began_us[step] = began.or(self.began_us[step]);
        }
    }

    /// How many steps were done.
    pub fn steps(&self) -> usize {
        self.began_us.iter().take_while(|began| began.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Click, Conversion, Impression};

    fn check(events: &[(Kind, i64)], steps: usize) {
        let mut furthest = Furthest::new(&[Impression, Click, Conversion], 100);
        events.iter().for_each(|(kind, at_us)| furthest.see(*kind, *at_us));
        assert_eq!(furthest.steps(), steps, "{events:?}");
    }

    #[test]
    fn steps_count_in_their_order_and_within_the_window_of_the_first() {
        check(&[], 0);
        check(&[(Click, 1), (Conversion, 2)], 0);
        check(&[(Impression, 0), (Click, 50), (Conversion, 100)], 3);
        check(&[(Impression, 0), (Click, 50), (Conversion, 101)], 2);
        check(&[(Impression, 0), (Conversion, 1), (Click, 2)], 2);
        // A later beginning does not undo what an earlier one reached, and may reach further.
        check(&[(Impression, 0), (Impression, 90), (Click, 95), (Conversion, 180)], 3);
        check(&[(Impression, 0), (Click, 10), (Impression, 200)], 2);
    }

    #[test]
    fn two_equal_steps_take_two_events() {
        let mut twice = Furthest::new(&[Click, Click], 100);
        twice.see(Click, 0);
        assert_eq!(twice.steps(), 1);
        twice.see(Click, 5);
        assert_eq!(twice.steps(), 2);
    }

    #[test]
    fn shares_are_of_the_first_step_and_of_the_one_before() {
        let steps = Step::all(&[Impression, Click, Conversion], &[100, 20, 5]);
        assert_eq!((steps[2].of_first, steps[2].of_previous), (Some(0.05), Some(0.25)));
        assert_eq!(Step::all(&[Impression, Click], &[0, 0])[1].of_first, None);
    }
}
