//! Calendar windows in a report's time zone, as a function on columns; and the match on a list of segments.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use hashbrown::HashMap;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tally_model::report::TimeUnit;
use tally_model::{Grain, bucket_start_us};

use crate::schema::timestamp;

/// Where one lookup of the calendar holds: local days, weeks and months begin on quarter hours of UTC (since 1972).
const QUARTER_HOUR_US: i64 = 15 * 60 * 1_000_000;

/// The instant at which the window that holds `at_us` begins, by the calendar of a zone.
pub(crate) fn window_start_us(unit: TimeUnit, zone: &TimeZone, at_us: i64) -> i64 {
    if unit == TimeUnit::Minute {
        return bucket_start_us(Grain::Minute, at_us);
    }
    let Ok(at) = Timestamp::from_microsecond(at_us) else { return at_us };
    let local = at.to_zoned_datetime(zone.clone());
    if unit == TimeUnit::Hour {
        // By subtraction, so that the hour that DST repeats stays two hours.
        let into_hour = i64::from(local.minute()) * 60 + i64::from(local.second());
        let start_us = (at_us - at_us.rem_euclid(1_000_000)) - into_hour * 1_000_000;
        // Where clocks change by half an hour, they do so within an hour, and what follows is a shorter one.
        let Ok(start) = Timestamp::from_microsecond(start_us) else { return start_us };
        let changes = zone.following(start).map(|change| change.timestamp()).take_while(|change| *change <= at);
        return changes.last().unwrap_or(start).as_microsecond();
    }
    let first_day = match unit {
        TimeUnit::Week => {
            let since_monday = i64::from(local.weekday().to_monday_zero_offset());
            local.date().checked_sub(since_monday.days())
        }
        TimeUnit::Month => Ok(local.date().first_of_month()),
        TimeUnit::Minute | TimeUnit::Hour | TimeUnit::Day => Ok(local.date()),
    };
    first_day
        .and_then(|day| day.to_zoned_datetime(zone.clone()))
        .map_or(at_us, |start| start.timestamp().as_microsecond())
}

/// The instant at which the next window begins.
pub(crate) fn next_window_us(unit: TimeUnit, zone: &TimeZone, start_us: i64) -> i64 {
    // A quarter of an hour is on the way to every window's end; longer windows begin with a leap to shortly before theirs.
    let leap_us = match unit {
        TimeUnit::Minute => return start_us + 60_000_000,
        TimeUnit::Hour => 0,
        TimeUnit::Day => 22,
        TimeUnit::Week => 7 * 24 - 2,
        TimeUnit::Month => 28 * 24 - 2,
    } * 4
        * QUARTER_HOUR_US;
    let mut at_us = start_us + leap_us;
    while window_start_us(unit, zone, at_us) <= start_us {
        at_us += QUARTER_HOUR_US;
    }
    at_us
}

/// The same for a column of timestamps; gives microseconds.
pub(crate) fn window_function(unit: TimeUnit, zone: TimeZone) -> ScalarUDF {
    let starts = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let times = arrays[0].as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| DataFusionError::Internal("window of something that is no time".to_owned()))?;
        let mut known: HashMap<i64, i64> = HashMap::new();
        let starts: Int64Array = times
            .iter()
            .map(|at_us| {
                let at_us = at_us?;
                if unit == TimeUnit::Minute {
                    return Some(window_start_us(unit, &zone, at_us));
                }
                let quarter = at_us.div_euclid(QUARTER_HOUR_US);
                Some(*known.entry(quarter).or_insert_with(|| window_start_us(unit, &zone, quarter * QUARTER_HOUR_US)))
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(starts)))
    };
    create_udf("window_start_us", vec![timestamp()], DataType::Int64, Volatility::Immutable, Arc::new(starts))
}

/// Whether a list of texts holds any of `wanted`; null for an event without segments.
pub(crate) fn any_segment_function(wanted: Vec<String>, list_type: DataType) -> ScalarUDF {
    let matches = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let lists = arrays[0].as_list_opt::<i32>();
        let lists = lists.ok_or_else(|| DataFusionError::Internal("segments are no list".to_owned()))?;
        let matches: BooleanArray = lists
            .iter()
            .map(|list| {
                let list = list?;
                let texts = list.as_string_opt::<i32>()?;
                Some(texts.iter().flatten().any(|segment| wanted.iter().any(|want| want == segment)))
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(matches)))
    };
    create_udf("any_segment", vec![list_type], DataType::Boolean, Volatility::Immutable, Arc::new(matches))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: TimeUnit, zone: &str, at: &str, starts: &str) {
        let us = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        let zone = TimeZone::get(zone).unwrap();
        let start = window_start_us(unit, &zone, us(at));
        assert_eq!(start, us(starts), "{unit:?} of {at}: {}", Timestamp::from_microsecond(start).unwrap());
    }

    #[test]
    fn local_windows_begin_at_local_midnight_also_when_clocks_change() {
        check(TimeUnit::Day, "Europe/Berlin", "2024-03-31T22:30:00Z", "2024-03-31T22:00:00Z");
        check(TimeUnit::Day, "Europe/Berlin", "2024-03-31T21:59:59Z", "2024-03-30T23:00:00Z");
        check(TimeUnit::Day, "America/New_York", "2024-11-04T04:59:00Z", "2024-11-03T04:00:00Z");
        check(TimeUnit::Week, "Asia/Kathmandu", "2024-05-05T18:14:00Z", "2024-04-28T18:15:00Z");
        check(TimeUnit::Month, "Asia/Shanghai", "2024-02-29T16:00:00Z", "2024-02-29T16:00:00Z");
    }

    #[test]
    fn the_next_window_begins_where_this_one_ends_also_when_clocks_change() {
        let us = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        for (unit, zone, from, next) in [
            (TimeUnit::Day, "Europe/Berlin", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
            (TimeUnit::Day, "America/New_York", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
            (TimeUnit::Week, "Asia/Kathmandu", "2024-04-28T18:15:00Z", "2024-05-05T18:15:00Z"),
            (TimeUnit::Month, "UTC", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (TimeUnit::Hour, "Europe/Berlin", "2024-10-27T00:00:00Z", "2024-10-27T01:00:00Z"),
            (TimeUnit::Minute, "UTC", "2024-02-01T00:00:00Z", "2024-02-01T00:01:00Z"),
        ] {
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(next_window_us(unit, &zone, us(from)), us(next), "{unit:?} after {from}");
        }
    }

    /// Lord Howe Island changes its clocks by half an hour: from 2:00 back to 1:30, and from 2:00 on to 2:30.
    #[test]
    fn an_hour_in_which_clocks_change_by_half_an_hour_is_two_windows_that_do_not_overlap() {
        let howe = "Australia/Lord_Howe";
        check(TimeUnit::Hour, howe, "2024-04-06T14:59:59Z", "2024-04-06T14:00:00Z");
        check(TimeUnit::Hour, howe, "2024-04-06T15:00:00Z", "2024-04-06T15:00:00Z");
        check(TimeUnit::Hour, howe, "2024-04-06T15:29:00Z", "2024-04-06T15:00:00Z");
        check(TimeUnit::Hour, howe, "2024-04-06T15:30:00Z", "2024-04-06T15:30:00Z");
        check(TimeUnit::Hour, howe, "2024-10-05T15:29:00Z", "2024-10-05T14:30:00Z");
        check(TimeUnit::Hour, howe, "2024-10-05T15:30:00Z", "2024-10-05T15:30:00Z");
        check(TimeUnit::Hour, howe, "2024-10-05T15:59:00Z", "2024-10-05T15:30:00Z");
        check(TimeUnit::Hour, howe, "2024-10-05T16:00:00Z", "2024-10-05T16:00:00Z");
        let zone = TimeZone::get(howe).unwrap();
        let us = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        assert_eq!(next_window_us(TimeUnit::Hour, &zone, us("2024-04-06T14:00:00Z")), us("2024-04-06T15:00:00Z"));
        assert_eq!(next_window_us(TimeUnit::Hour, &zone, us("2024-04-06T15:00:00Z")), us("2024-04-06T15:30:00Z"));
    }

    #[test]
    fn the_hour_that_is_repeated_in_autumn_is_two_hours() {
        check(TimeUnit::Hour, "Europe/Berlin", "2024-10-27T00:30:00Z", "2024-10-27T00:00:00Z");
        check(TimeUnit::Hour, "Europe/Berlin", "2024-10-27T01:30:00Z", "2024-10-27T01:00:00Z");
        check(TimeUnit::Hour, "Asia/Kathmandu", "2024-05-05T18:20:00Z", "2024-05-05T18:15:00Z");
    }
}
