//! What a series comes to if it goes on as it did. Its season is told apart by STL (Cleveland, Cleveland, McRae and Terpenning, 1990,
//! "STL: A Seasonal-Trend Decomposition Procedure Based on Loess"); what is left goes on by exponential smoothing with a damped trend,
//! ETS(A,Ad,N) of Hyndman, Koehler, Ord and Snyder (2008), "Forecasting with Exponential Smoothing".

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

/// A trend does not go on for ever.
const DAMPING: f64 = 0.98;
/// Weights of the newest error that are tried; those that would have been least wrong by one step are kept.
const LEVELS: [f64; 6] = [0.02, 0.05, 0.2, 0.4, 0.6, 0.8];
const TRENDS: [f64; 3] = [0.0, 0.02, 0.1];
/// So many seasons shape the one that is told: a season changes slowly.
const SEASONS_SMOOTHED: usize = 11;
/// Level, trend, and the two weights, of which one says little without the other.
const PARAMETERS: usize = 3;
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
        Backtest { method: "STL, ETS(A,Ad,N)", points: held_out, mape, coverage: within as f64 / held_out as f64 };
    let season_length = (model.season.len() > 1).then_some(model.season.len());
    Some(Forecast { expected: model.ahead(horizon, confidence), trend: model.trend, season_length, backtest })
}

#[derive(Debug, Clone)]
struct Model {
    /// Of the newest error, in level and trend.
    weights: [f64; 2],
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
        let (rest, season) = without_season(history, season);
        let floor = if history.iter().all(|point| *point >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
        let tried = LEVELS.iter().flat_map(|alpha| TRENDS.iter().map(move |beta| [*alpha, *beta]));
        let model = tried.map(|weights| Self::run(&rest, season.len(), weights));
        let best = model.min_by(|a, b| a.error_variance.total_cmp(&b.error_variance))?;
        Some(Self { season, floor, ..best })
    }

    /// Over what is left without the season, of which so many points are alike but for noise and trend.
    fn run(rest: &[f64], season_length: usize, weights: [f64; 2]) -> Self {
        let first = &rest[..season_length];
        let [alpha, beta] = weights;
        let (mut level, mut trend, mut squares) = (first.iter().sum::<f64>() / first.len() as f64, 0.0, 0.0);
        for point in rest {
            let slope = DAMPING * trend;
            let error = point - (level + slope);
            level += slope + alpha * error;
            trend = slope + beta * error;
            squares += error * error;
        }
        // What was fitted to the points made their errors smaller than those to come.
        let fitted = PARAMETERS + season_length - 1;
        let error_variance = squares / (rest.len().saturating_sub(fitted) as f64).max(rest.len() as f64 / 4.0);
        Self { weights, level, trend, season: Vec::new(), error_variance, floor: f64::NEG_INFINITY }
    }

    /// With the variance of each step by the model's own formula (chapter 6.3).
    fn ahead(&self, horizon: usize, confidence: f64) -> Vec<Expected> {
        let critical = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
        let [alpha, beta] = self.weights;
        let (mut slopes, mut spread) = (0.0, 1.0);
        let step = |step: usize| {
            slopes += DAMPING.powi(i32::try_from(step).unwrap_or(i32::MAX));
            let value = self.level + slopes * self.trend + self.season[(step - 1) % self.season.len()];
            let half = critical * (self.error_variance * spread).sqrt();
            spread += (alpha + beta * slopes).powi(2);
            Expected {
                value: value.max(self.floor),
                low: (value - half).max(self.floor),
                high: (value + half).max(self.floor),
            }
        };
        (1..=horizon).map(step).collect()
    }
}

/// The history without its season, and the season as it was last. Two whole seasons are needed, to tell a season from a trend.
fn without_season(history: &[f64], length: Option<usize>) -> (Vec<f64>, Vec<f64>) {
    let fit = |length| stlrs::params().seasonal_length(SEASONS_SMOOTHED).fit(history, length).ok();
    let Some((length, fit)) = length.and_then(|length| Some((length, fit(length)?))) else {
        return (history.to_vec(), vec![0.0]);
    };
    let season = fit.seasonal();
    let rest = history.iter().zip(season).map(|(point, season)| point - season).collect();
    (rest, season[season.len() - length..].to_vec())
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
    fn growth_within_a_day_is_no_part_of_the_day() {
        // What is damped lags behind a straight line, more with each step.
        let history: Vec<f64> = (0..168).map(f64::from).collect();
        let told = forecast(&history, Some(24), 24, 0.95).unwrap();
        for (expected, known) in told.expected.iter().zip(168..) {
            assert!((expected.value - f64::from(known)).abs() < 12.0, "{expected:?} is not {known}");
        }
    }

    #[test]
    fn one_odd_day_does_not_come_again_with_each_day() {
        // Seven days alike, of which the first has a campaign at noon.
        let mut history: Vec<f64> = (0..168).map(|hour| if hour % 24 < 8 { 10.0 } else { 100.0 }).collect();
        history[12] = 1_000.0;
        let told = forecast(&history, Some(24), 24, 0.95).unwrap();
        assert!(told.expected[12].value < 150.0, "{:?}", told.expected[12]);
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
