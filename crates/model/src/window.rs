//! Windows of time: the four grains that are rolled up, in UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// From the finest to the coarsest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    Minute,
    Hour,
    Day,
    Month,
}

impl Grain {
    pub const ALL: [Grain; 4] = [Grain::Minute, Grain::Hour, Grain::Day, Grain::Month];

    pub fn as_str(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Month => "month",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grain| grain.as_str() == name)
    }
}

/// The start of the UTC window that an instant falls in. Months have no fixed length, hence the calendar.
pub fn bucket_start_us(grain: Grain, at_us: i64) -> i64 {
    match grain {
        Grain::Minute => at_us - at_us.rem_euclid(MINUTE_US),
        Grain::Hour => at_us - at_us.rem_euclid(HOUR_US),
        Grain::Day => at_us - at_us.rem_euclid(DAY_US),
        Grain::Month => month_start_us(at_us),
    }
}

fn month_start_us(at_us: i64) -> i64 {
    let day = at_us - at_us.rem_euclid(DAY_US);
    let Ok(instant) = Timestamp::from_microsecond(day) else { return day };
    let day_of_month = i64::from(TimeZone::UTC.to_datetime(instant).day());
    day - (day_of_month - 1) * DAY_US
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grain: Grain, at: &str, starts: &str) {
        let us = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        assert_eq!(bucket_start_us(grain, us(at)), us(starts), "{grain:?} of {at}");
    }

    #[test]
    fn an_instant_belongs_to_the_window_that_it_is_in() {
        check(Grain::Minute, "2024-02-29T23:59:59.999999Z", "2024-02-29T23:59:00Z");
        check(Grain::Hour, "2024-02-29T23:59:59.999999Z", "2024-02-29T23:00:00Z");
        check(Grain::Day, "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z");
        check(Grain::Month, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z");
        check(Grain::Month, "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z");
        check(Grain::Day, "1969-12-31T23:00:00Z", "1969-12-31T00:00:00Z");
    }
}
