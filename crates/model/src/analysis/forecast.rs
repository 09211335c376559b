//! What a series comes to if it goes on as it did: exponential smoothing with a damped trend and an additive season,
//! ETS(A,Ad,A) of Hyndman, Koehler, Ord and Snyder (2008), "Forecasting with Exponential Smoothing".

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

/// A trend does not go on for ever.
const DAMPING: f64 = 0.98;
/// Weights of the newest error that are tried; those that would have been least wrong by one step are kept.
const LEVELS: [f64; 5] = [0.05, 0.2, 0.4, 0.6, 0.8];
const TRENDS: [f64; 3] = [0.0, 0.02, 0.1];
const SEASONS: [f64; 3] = [0.02, 0.1, 0.3];
/// Fewer points say nothing.
const POINTS_MIN: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Expected {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    #[serde(skip)]
    pub expected: Vec<Expected>,
    /// By step, at the end of the history.
    pub trend: f64,
    /// Null where there is too little history for a season.
    pub season_length: Option<usize>,
    pub backtest: Backtest,
}

/// The last points of the history, foretold from those before them.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Backtest {
    pub method: &'static str,
    pub points: usize,
    /// Mean absolute error relative to what came, over points that are not zero.
    pub mape: Option<f64>,
    /// How many of the points lay within the interval.
    pub coverage: f64,
}

/// None where there is too little history. `confidence` is between 0 and 1.
pub fn forecast(history: &[f64], season: Option<usize>, horizon: usize, confidence: f64) -> Option<Forecast> {
    let held_out = horizon.min(history.len() / 4).max(1);
    let (before, after) = history.split_at_checked(history.len().checked_sub(held_out)?)?;
    let model = Model::fitted(history, season)?;
    let tried = Model::fitted(before, season)?.ahead(held_out, confidence);
    let within = tried.iter().zip(after).filter(|(told, came)| (told.low..=told.high).contains(*came)).count();
    let errors: Vec<f64> = tried
        .iter()
        .zip(after)
        .filter(|(_, came)| **came != 0.0)
        .map(|(told, came)| ((told.value - came) / came).abs())
        .collect();
    let mape = (!errors.is_empty()).then(|| errors.iter().sum::<f64>() / errors.len() as f64);
    let backtest =
        Backtest { method: "ETS(A,Ad,A)", points: held_out, mape, coverage: within as f64 / held_out as f64 };
    let season_length = (model.season.len() > 1).then_some(model.season.len());
    Some(Forecast { expected: model.ahead(horizon, confidence), trend: model.trend, season_length, backtest })
}

#[derive(Debug, Clone)]
struct Model {
    weights: [f64; 3],
    level: f64,
    trend: f64,
    /// One entry of zero where there is none. The next point's is first.
    season: Vec<f64>,
    error_variance: f64,
    /// Counts and amounts never were below zero, and will not be.
    floor: f64,
}

impl Model {
    fn fitted(history: &[f64], season: Option<usize>) -> Option<Self> {
        if history.len() < POINTS_MIN {
            return None;
        }
        // Two whole seasons, to tell a season from a trend.
        let season = season.filter(|length| history.len() >= 2 * length);
        let gammas: &[f64] = if season.is_some() { &SEASONS } else { &[0.0] };
        let tried = LEVELS.iter().flat_map(|alpha| {
            TRENDS.iter().flat_map(move |beta| gammas.iter().map(move |gamma| [*alpha, *beta, *gamma]))
        });
        tried
            .map(|weights| Self::run(history, season.unwrap_or(1), weights))
            .min_by(|a, b| a.error_variance.total_cmp(&b.error_variance))
    }

    fn run(history: &[f64], length: usize, weights: [f64; 3]) -> Self {
        let mean = |points: &[f64]| points.iter().sum::<f64>() / points.len() as f64;
        let first = mean(&history[..length]);
        let trend = if length > 1 { (mean(&history[length..2 * length]) - first) / length as f64 } else { 0.0 };
        let season = history[..length].iter().map(|point| if length > 1 { point - first } else { 0.0 }).collect();
        let floor = if history.iter().all(|point| *point >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
        let mut model = Self { weights, level: first, trend, season, error_variance: 0.0, floor };
        let [alpha, beta, gamma] = weights;
        let told = &history[length..];
        for point in told {
            let slope = DAMPING * model.trend;
            let error = point - (model.level + slope + model.season[0]);
            model.level += slope + alpha * error;
            model.trend = slope + beta * error;
            model.season[0] += gamma * error;
            model.season.rotate_left(1);
            model.error_variance += error * error / told.len() as f64;
        }
        model
    }

    /// With the variance of each step by the model's own formula (chapter 6.3).
    fn ahead(&self, horizon: usize, confidence: f64) -> Vec<Expected> {
        let critical = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
        let [alpha, beta, gamma] = self.weights;
        let (mut slopes, mut spread) = (0.0, 1.0);
        let step = |step: usize| {
            slopes += DAMPING.powi(i32::try_from(step).unwrap_or(i32::MAX));
            let value = self.level + slopes * self.trend + self.season[(step - 1) % self.season.len()];
            let half = critical * (self.error_variance * spread).sqrt();
            let of_season = if step.is_multiple_of(self.season.len()) { gamma } else { 0.0 };
            spread += (alpha + beta * slopes + of_season).powi(2);
            Expected {
                value: value.max(self.floor),
                low: (value - half).max(self.floor),
                high: (value + half).max(self.floor),
            }
        };
        (1..=horizon).map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_that_repeats_is_foretold_day_by_day() {
        let week = [100.0, 120.0, 130.0, 125.0, 140.0, 80.0, 60.0];
        let history: Vec<f64> = week.iter().cycle().take(8 * 7).copied().collect();
        let told = forecast(&history, Some(7), 7, 0.95).unwrap();
        assert_eq!(told.season_length, Some(7));
        for (expected, known) in told.expected.iter().zip(week) {
            assert!((expected.value - known).abs() < 0.5, "{expected:?} is not {known}");
        }
        assert!(told.backtest.mape.unwrap() < 0.01 && told.backtest.coverage == 1.0, "{:?}", told.backtest);
    }

    #[test]
    fn intervals_hold_about_what_they_promise_and_grow() {
        // Noise of a fixed sequence around a level.
        let noise = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24) - 0.5;
        let history: Vec<f64> = (0..400).map(|n| 1_000.0 + 100.0 * noise(n)).collect();
        let told = forecast(&history, None, 100, 0.9).unwrap();
        assert!(told.backtest.coverage > 0.8, "{:?}", told.backtest);
        let width = |at: usize| told.expected[at].high - told.expected[at].low;
        assert!(width(99) > width(0));
    }

    #[test]
    fn nothing_below_zero_is_foretold_of_counts_and_little_history_says_nothing() {
        let falling: Vec<f64> = (0..20).map(|n| f64::from(20 - n)).collect();
        let told = forecast(&falling, None, 100, 0.95).unwrap();
        assert!(told.expected.iter().all(|expected| expected.low >= 0.0 && expected.value >= 0.0));
        assert!(forecast(&[1.0, 2.0, 3.0], None, 5, 0.95).is_none());
    }
}
