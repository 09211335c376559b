//! What a series does: its moving average, its straight trend, and how its seasons differ.

use serde::Serialize;

/// The least-squares line through a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trend {
    /// By window.
    pub slope: f64,
    /// Of the slope, if the windows' distances from the line have nothing to do with each other; where they go in waves, it is
    /// larger.
    pub standard_error: f64,
    /// At the first window.
    pub intercept: f64,
}

/// How the windows at one place of a season differ from the others: Mondays, or the hour from eight to nine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    pub windows: usize,
    pub mean: f64,
    /// The mean, relative to the mean over all places; null where that is zero.
    pub index: Option<f64>,
}

/// The mean of each value and those before it, `length` of them together; none where there are not so many yet.
pub fn moving_average(values: &[f64], length: usize) -> Vec<Option<f64>> {
    let means = values.windows(length.max(1)).map(|of| Some(of.iter().sum::<f64>() / of.len() as f64));
    let before = values.len().min(length.max(1) - 1);
    std::iter::repeat_n(None, before).chain(means).collect()
}

/// None below three values: a line goes through any two.
pub fn trend(values: &[f64]) -> Option<Trend> {
    if values.len() < 3 {
        return None;
    }
    let n = values.len() as f64;
    let (middle, mean) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let placed = || values.iter().enumerate().map(|(at, value)| (at as f64 - middle, value - mean));
    let spread: f64 = placed().map(|(at, _)| at * at).sum();
    let slope = placed().map(|(at, value)| at * value).sum::<f64>() / spread;
    let errors: f64 = placed().map(|(at, value)| (value - slope * at).powi(2)).sum();
    let standard_error = (errors / (n - 2.0) / spread).sqrt();
    Some(Trend { slope, standard_error, intercept: mean - slope * middle })
}

/// The places of a season, given each value's; places without a value are none. Below two whole seasons a season cannot be told
/// from chance: then there is nothing.
pub fn seasonal(values: &[(usize, f64)], places: usize, season_length: usize) -> Vec<Option<Position>> {
    let mut sums = vec![(0_usize, 0.0); places];
    if values.len() < 2 * season_length {
        return Vec::new();
    }
    for (place, value) in values {
        if let Some((windows, sum)) = sums.get_mut(*place) {
            *windows += 1;
            *sum += value;
        }
    }
    let means: Vec<Option<f64>> = sums.iter().map(|(n, sum)| (*n > 0).then(|| sum / *n as f64)).collect();
    let known = || means.iter().flatten();
    let overall = known().sum::<f64>() / known().count() as f64;
    let position = |((windows, _), mean): (&(usize, f64), &Option<f64>)| {
        let mean = (*mean)?;
        Some(Position { windows: *windows, mean, index: (overall != 0.0).then(|| mean / overall) })
    };
    sums.iter().zip(&means).map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_average_begins_once_it_has_enough() {
        assert_eq!(moving_average(&[1.0, 2.0, 6.0, 4.0], 3), [None, None, Some(3.0), Some(4.0)]);
        assert_eq!(moving_average(&[1.0, 2.0], 1), [Some(1.0), Some(2.0)]);
        assert_eq!(moving_average(&[1.0, 2.0], 5), [None, None]);
        assert!(moving_average(&[], 3).is_empty());
    }

    /// R: `summary(lm(y ~ x))` with x = 0..4 and these y: slope 0.9, its standard error 0.1914854, intercept 0.8.
    #[test]
    fn the_line_and_its_error_are_those_of_the_textbook() {
        let found = trend(&[1.0, 2.0, 2.0, 3.0, 5.0]).unwrap();
        let near = |found: f64, known: f64| (found - known).abs() < 1e-6;
        assert!(near(found.slope, 0.9) && near(found.intercept, 0.8), "{found:?}");
        assert!(near(found.standard_error, 0.191_485_4), "{found:?}");
        assert_eq!(trend(&[5.0, 5.0, 5.0]), Some(Trend { slope: 0.0, standard_error: 0.0, intercept: 5.0 }));
        assert_eq!(trend(&[1.0, 2.0]), None);
    }

    #[test]
    fn a_season_is_told_by_its_places_relative_to_their_mean() {
        let two_weeks: Vec<(usize, f64)> =
            (0..14).map(|day| (day % 7, if day % 7 == 6 { 40.0 } else { 10.0 })).collect();
        let found = seasonal(&two_weeks, 7, 7);
        assert_eq!(found[6], Some(Position { windows: 2, mean: 40.0, index: Some(2.8) }));
        let sum: f64 = found.iter().flatten().filter_map(|place| place.index).sum();
        assert!((sum - 7.0).abs() < 1e-9, "{sum}");
        assert!(seasonal(&two_weeks[..13], 7, 7).is_empty(), "less than two seasons");
        let nothing = [(0, 0.0), (1, 0.0)].repeat(2);
        assert_eq!(seasonal(&nothing, 3, 2)[..2], [Some(Position { windows: 2, mean: 0.0, index: None }); 2]);
        assert_eq!(seasonal(&nothing, 3, 2)[2], None);
    }
}
