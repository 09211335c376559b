//! A range of whole UTC days: what is counted again at once.

use jiff::Timestamp;
use serde::Serialize;

use crate::{Grain, bucket_start_us};

const DAY_US: i64 = 86_400_000_000;
/// More is several ranges: bounds the cells of months that are held at once, and how long one takes.
const DAYS_MAX: i64 = 3_700;

/// Days since the Unix epoch, from the first on and up to the end, which is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Days {
    first: i64,
    end: i64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DaysError {
    #[error("{0:?} is no UTC day; write 2026-03-01, or 2026-03-01T00:00:00Z")]
    NoDay(String),
    #[error("the range from {from} to {to} is empty; `to` is the first day that does not belong to it")]
    Empty { from: String, to: String },
    #[error("the range has {0} days, at most {DAYS_MAX} go at once; take it in parts")]
    TooLong(i64),
}

impl Days {
    /// From two days as text: dates, or instants that are midnight in UTC.
    pub fn parse(from: &str, to: &str) -> Result<Self, DaysError> {
        let (first, end) = (day(from)?, day(to)?);
        if first >= end {
            return Err(DaysError::Empty { from: from.to_owned(), to: to.to_owned() });
        }
        if end - first > DAYS_MAX {
            return Err(DaysError::TooLong(end - first));
        }
        Ok(Self { first, end })
    }

    /// The one day that an instant falls in.
    pub fn of(at_us: i64) -> Self {
        let first = at_us.div_euclid(DAY_US);
        Self { first, end: first + 1 }
    }

    /// The one day of a date.
    pub fn of_date(date: &str) -> Result<Self, DaysError> {
        let first = day(date)?;
        Ok(Self { first, end: first + 1 })
    }

    pub fn from_us(self) -> i64 {
        self.first * DAY_US
    }

    pub fn to_us(self) -> i64 {
        self.end * DAY_US
    }

    /// Whether a window that begins at this instant lies in the range. Days are whole, and so are the windows within them.
    pub fn contains(self, at_us: i64) -> bool {
        (self.from_us()..self.to_us()).contains(&at_us)
    }

    /// All days of the months that have a day in the range.
    pub fn whole_months(self) -> Self {
        let last_us = self.to_us() - DAY_US;
        // Every month has less than 32 days, and the next one more.
        let next_month_us = bucket_start_us(Grain::Month, bucket_start_us(Grain::Month, last_us) + 32 * DAY_US);
        Self { first: bucket_start_us(Grain::Month, self.from_us()).div_euclid(DAY_US), end: next_month_us / DAY_US }
    }

    /// Both ends as dates, the second not included.
    pub fn dates(self) -> [String; 2] {
        [self.first, self.end]
            .map(|day| Timestamp::from_second(day * 86_400).unwrap_or_default().strftime("%Y-%m-%d").to_string())
    }

    /// Each day by itself.
    pub fn each(self) -> impl Iterator<Item = Days> {
        (self.first..self.end).map(|first| Self { first, end: first + 1 })
    }
}

fn day(text: &str) -> Result<i64, DaysError> {
    let midnight = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let at: Timestamp = midnight.parse().map_err(|_| DaysError::NoDay(text.to_owned()))?;
    let at_us = at.as_microsecond();
    if at_us.rem_euclid(DAY_US) != 0 {
        return Err(DaysError::NoDay(text.to_owned()));
    }
    Ok(at_us / DAY_US)
}

/// The range as people write it: `2026-03-01 to 2026-03-02`.
impl std::fmt::Display for Days {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [from, to] = self.dates();
        write!(formatter, "{from} to {to}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_whole_days_and_anything_else_is_told_how_to_be_one() {
        let days = Days::parse("2024-02-28", "2024-03-01T00:00:00Z").unwrap();
        assert_eq!(days.to_string(), "2024-02-28 to 2024-03-01");
        assert_eq!(days.each().map(|day| day.to_string()).last().unwrap(), "2024-02-29 to 2024-03-01");
        assert!(days.contains(days.from_us()) && !days.contains(days.to_us()));
        for (from, to, says) in [
            ("2024-02-28", "2024-02-28", "is empty"),
            ("2024-02-28T01:00:00Z", "2024-03-01", "is no UTC day"),
            ("2024-02-30", "2024-03-01", "is no UTC day"),
            ("yesterday", "2024-03-01", "is no UTC day"),
            ("2000-01-01", "2024-03-01", "take it in parts"),
        ] {
            let error = Days::parse(from, to).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn months_are_widened_to_on_both_sides() {
        let check = |from, to, months: &str| {
            assert_eq!(Days::parse(from, to).unwrap().whole_months().to_string(), months, "{from} to {to}");
        };
        check("2024-02-28", "2024-03-01", "2024-02-01 to 2024-03-01");
        check("2024-02-28", "2024-03-02", "2024-02-01 to 2024-04-01");
        check("2023-12-31", "2024-01-01", "2023-12-01 to 2024-01-01");
        check("1969-12-31", "1970-01-02", "1969-12-01 to 1970-02-01");
    }
}
