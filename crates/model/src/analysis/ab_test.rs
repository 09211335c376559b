//! Whether variants differ: the two-proportion z-test, and whether the visitors were split as they should be.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

/// Below this chance of a split that came about honestly, something else chose who saw what (Fabijan et al. 2019, "Diagnosing
/// Sample Ratio Mismatch in Online Controlled Experiments").
const MISMATCH_P: f64 = 0.001;
const NO_DIFFERENCE: &str = "no_difference_shown";

/// Successes of trials by variant, one of which the others are compared with.
#[derive(Debug, Clone)]
pub struct AbTest {
    /// Value, trials, successes.
    pub variants: Vec<(String, u64, u64)>,
    pub control: String,
    /// Of the interval, and of the verdict; between 0 and 1.
    pub confidence: f64,
}

#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AbTestAnswer {
    pub variants: Vec<Variant>,
    pub tests: Vec<Comparison>,
    /// `holm` where more than one variant is tested against the control: verdicts go by `p_value_adjusted` then. Null with one.
    pub correction: Option<&'static str>,
    /// Null where there is nothing to split.
    pub sample_ratio: Option<SampleRatio>,
}

#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Variant {
    pub value: String,
    pub trials: u64,
    pub successes: u64,
    pub rate: Option<f64>,
}

/// A variant against the control; null where one of them has no trials, or where nothing differs at all.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Comparison {
    pub value: String,
    /// With the pooled variance.
    pub z: Option<f64>,
    /// Two-sided, of this variant alone.
    pub p_value: Option<f64>,
    /// The same among all variants that are tested: of many, one is below any bound by chance. With one test it is `p_value`.
    pub p_value_adjusted: Option<f64>,
    /// Of the rates: this variant's less the control's.
    pub difference: Option<f64>,
    /// Of the difference, with the variances of each (Wald).
    pub interval: Option<[f64; 2]>,
    /// The chance that a test of this size shows a difference of this size.
    pub power: Option<f64>,
    pub verdict: &'static str,
}

/// Whether trials are split evenly (chi-square).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct SampleRatio {
    pub chi_square: f64,
    pub p_value: f64,
    pub mismatch: bool,
}

impl AbTest {
    pub fn answer(&self) -> AbTestAnswer {
        let control = self.variants.iter().find(|(value, ..)| *value == self.control);
        let others = self.variants.iter().filter(|(value, ..)| *value != self.control);
        let tests = others.map(|(value, trials, successes)| {
            let figures = control.and_then(|(_, control_trials, control_successes)| {
                compare((*control_trials, *control_successes), (*trials, *successes), self.confidence)
            });
            Comparison { value: value.clone(), ..figures.unwrap_or_else(Comparison::unknown) }
        });
        let mut tests: Vec<_> = tests.collect();
        adjust(&mut tests);
        for test in &mut tests {
            test.verdict = verdict(test, self.confidence);
        }
        AbTestAnswer {
            variants: self.variants.iter().map(variant).collect(),
            correction: (tests.len() > 1).then_some("holm"),
            tests,
            sample_ratio: self.sample_ratio(),
        }
    }

    fn sample_ratio(&self) -> Option<SampleRatio> {
        let trials: Vec<f64> = self.variants.iter().map(|(_, trials, _)| *trials as f64).collect();
        let expected = trials.iter().sum::<f64>() / trials.len() as f64;
        let distribution = ChiSquared::new(trials.len().checked_sub(1).filter(|freedom| *freedom > 0)? as f64).ok()?;
        if expected <= 0.0 {
            return None;
        }
        let chi_square = trials.iter().map(|trials| (trials - expected).powi(2) / expected).sum();
        let p_value = distribution.sf(chi_square);
        Some(SampleRatio { chi_square, p_value, mismatch: p_value < MISMATCH_P })
    }
}

fn variant((value, trials, successes): &(String, u64, u64)) -> Variant {
    let rate = (*trials > 0).then(|| *successes as f64 / *trials as f64);
    Variant { value: value.clone(), trials: *trials, successes: *successes, rate }
}

impl Comparison {
    fn unknown() -> Self {
        Self {
            value: String::new(),
            z: None,
            p_value: None,
            p_value_adjusted: None,
            difference: None,
            interval: None,
            power: None,
            verdict: NO_DIFFERENCE,
        }
    }
}

/// Holm's step-down correction (1979): with it, the chance that any variant that is no different gets a verdict stays below what
/// one test alone would have.
fn adjust(tests: &mut [Comparison]) {
    let mut by_p: Vec<&mut Comparison> = tests.iter_mut().filter(|test| test.p_value.is_some()).collect();
    by_p.sort_by(|a, b| a.p_value.unwrap_or(1.0).total_cmp(&b.p_value.unwrap_or(1.0)));
    let (all, mut least) = (by_p.len(), 0.0_f64);
    for (at, test) in by_p.into_iter().enumerate() {
        least = least.max(test.p_value.unwrap_or(1.0) * (all - at) as f64).min(1.0);
        test.p_value_adjusted = Some(least);
    }
}

fn verdict(test: &Comparison, confidence: f64) -> &'static str {
    match (test.p_value_adjusted, test.difference) {
        (Some(p_value), Some(difference)) if p_value < 1.0 - confidence && difference > 0.0 => "better",
        (Some(p_value), Some(_)) if p_value < 1.0 - confidence => "worse",
        _ => NO_DIFFERENCE,
    }
}

fn compare(control: (u64, u64), variant: (u64, u64), confidence: f64) -> Option<Comparison> {
    let normal = Normal::standard();
    let (n, m) = (control.0 as f64, variant.0 as f64);
    if control.0 == 0 || variant.0 == 0 {
        return None;
    }
    let (p, q) = (control.1 as f64 / n, variant.1 as f64 / m);
    let difference = q - p;
    let pooled = (control.1 + variant.1) as f64 / (n + m);
    let pooled_error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let error = (p * (1.0 - p) / n + q * (1.0 - q) / m).sqrt();
    // More successes than trials are no proportion.
    let is_sound = pooled_error > 0.0 && error.is_finite();
    let critical = normal.inverse_cdf(0.5 + confidence / 2.0);
    let z = is_sound.then(|| difference / pooled_error);
    let p_value = z.map(|z| 2.0 * normal.sf(z.abs()));
    Some(Comparison {
        z,
        p_value,
        difference: Some(difference),
        interval: is_sound.then_some([difference - critical * error, difference + critical * error]),
        power: (is_sound && error > 0.0).then(|| {
            let shift = difference.abs() / error;
            normal.cdf(shift - critical) + normal.cdf(-shift - critical)
        }),
        ..Comparison::unknown()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(control: (u64, u64), variant: (u64, u64)) -> AbTestAnswer {
        let variants = vec![("a".to_owned(), control.0, control.1), ("b".to_owned(), variant.0, variant.1)];
        AbTest { variants, control: "a".to_owned(), confidence: 0.95 }.answer()
    }

    /// `statsmodels.stats.proportion.proportions_ztest([45, 35], [1000, 1000])` and `confint_proportions_2indep(.., method='wald')`.
    #[test]
    fn z_and_p_and_the_interval_are_those_of_the_textbook() {
        let answer = test((1_000, 35), (1_000, 45));
        let found = &answer.tests[0];
        let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 5e-4;
        assert!(near(found.z, 1.141) && near(found.p_value, 0.2538), "{found:?}");
        assert!(near(Some(found.interval.unwrap()[0]), -0.007_17) && near(Some(found.interval.unwrap()[1]), 0.027_17));
        assert_eq!(found.verdict, "no_difference_shown");
        assert_eq!(test((10_000, 350), (10_000, 450)).tests[0].verdict, "better");
        assert_eq!(test((10_000, 450), (10_000, 350)).tests[0].verdict, "worse");
    }

    /// `statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.9], method='holm')`: 0.04, 0.09, 0.09, 0.9.
    #[test]
    fn of_many_variants_chance_makes_none_better() {
        let of = |p_value| Comparison { p_value, ..Comparison::unknown() };
        let mut tests = [Some(0.01), None, Some(0.04), Some(0.03), Some(0.9)].map(of);
        adjust(&mut tests);
        let adjusted = tests.map(|test| test.p_value_adjusted.map(|p| (p * 1e6).round() / 1e6));
        assert_eq!(adjusted, [Some(0.04), None, Some(0.09), Some(0.09), Some(0.9)]);
        // On its own it would be better; among four it is not.
        let named = |name: &str, successes| (name.to_owned(), 10_000, successes);
        let mut variants = vec![named("a", 400), named("b", 465)];
        let verdicts = |variants: &[(String, u64, u64)]| {
            let answer = AbTest { variants: variants.to_vec(), control: "a".to_owned(), confidence: 0.95 }.answer();
            (answer.correction, answer.tests[0].verdict)
        };
        assert_eq!(verdicts(&variants), (None, "better"));
        variants.extend([named("c", 400), named("d", 401), named("e", 399)]);
        assert_eq!(verdicts(&variants), (Some("holm"), "no_difference_shown"));
    }

    #[test]
    fn an_uneven_split_is_told_and_an_even_one_not() {
        assert!(test((5_000, 1), (5_300, 1)).sample_ratio.is_some_and(|ratio| !ratio.mismatch));
        assert!(test((5_000, 1), (5_500, 1)).sample_ratio.is_some_and(|ratio| ratio.mismatch));
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        for (control, variant) in [((0, 0), (10, 1)), ((10, 0), (10, 0)), ((10, 10), (10, 10))] {
            let answer = test(control, variant);
            assert_eq!((answer.tests[0].p_value, answer.tests[0].verdict), (None, "no_difference_shown"));
        }
    }
}
