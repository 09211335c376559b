//! A metric over time, window by window, as forecasts and series begin with it: gaps filled, and whole windows only.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tally_model::analysis::About;
use tally_model::report::{Answer, Fill, GroupBy, Metric, TimeUnit};

use super::{by_one, wrong};
use crate::{Api, ApiError, Freshness};

const HISTORY_MAX: usize = 20_000;

pub(super) struct History {
    /// A row for each window: when it begins, and the metric.
    pub answer: Answer,
    pub zone: TimeZone,
    pub values: Vec<f64>,
}

/// Of a sum: what is no sum says little of one window, and nothing of several.
pub(super) async fn of(
    api: &Api,
    about: About<'_>,
    metric: &str,
    unit: TimeUnit,
    freshness: Freshness,
) -> Result<History, ApiError> {
    let mut report = by_one(about, &[metric.to_owned()], ("unit", GroupBy::Time(unit).as_str()))?;
    let (Metric::Events(..) | Metric::CostMicros | Metric::RevenueMicros | Metric::MarginMicros) = report.metrics[0]
    else {
        return Err(wrong("metric", format!("{metric:?} is no sum"), "take a number of events or an amount"));
    };
    report.fill = Some(Fill::Zero);
    report.limit = HISTORY_MAX + 1;
    let mut answer = Answer::clone(&*api.report(&report).await?);
    if answer.rows.len() > HISTORY_MAX {
        let what = format!("there are more than {HISTORY_MAX} {}s since", unit.as_str());
        return Err(wrong("from", what, "begin later, or take a longer unit"));
    }
    // Part of a window, and one that is not over yet, would look like a fall.
    let closed_us = freshness.watermark_us.min(report.to_us);
    answer.rows.retain(|row| {
        let at = row[0].as_str().unwrap_or_default();
        let next = windows_after(at, unit, &report.time_zone, 1).pop().unwrap_or_default();
        let start_us = |at: &str| start_us(at, &report.time_zone);
        start_us(at).is_some_and(|start_us| start_us >= report.from_us)
            && start_us(&next).is_some_and(|end_us| end_us <= closed_us)
    });
    let values = answer.rows.iter().filter_map(|row| row[1].as_f64()).collect();
    Ok(History { answer, zone: report.time_zone, values })
}

/// When a window begins, as reports write it.
fn start_us(at: &str, zone: &TimeZone) -> Option<i64> {
    let of_date = || at.parse::<Date>().ok()?.to_zoned_datetime(zone.clone()).ok().map(|start| start.timestamp());
    at.parse::<Timestamp>().ok().or_else(of_date).map(Timestamp::as_microsecond)
}

/// The windows that follow one, as reports write them.
pub(super) fn windows_after(last: &str, unit: TimeUnit, zone: &TimeZone, count: usize) -> Vec<String> {
    let following = |n: i64| match unit {
        TimeUnit::Hour => {
            let at = last.parse::<Timestamp>().ok()?.checked_add(n.hours()).ok()?;
            Some(at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
        }
        TimeUnit::Minute => None,
        TimeUnit::Day => Some(last.parse::<Date>().ok()?.checked_add(n.days()).ok()?.to_string()),
        TimeUnit::Week => Some(last.parse::<Date>().ok()?.checked_add(n.weeks()).ok()?.to_string()),
        TimeUnit::Month => Some(last.parse::<Date>().ok()?.checked_add(n.months()).ok()?.to_string()),
    };
    (1..).map_while(following).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_each_other_as_clocks_show_them() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let hours = windows_after("2024-10-27T02:00:00+02:00", TimeUnit::Hour, &berlin, 2);
        assert_eq!(hours, ["2024-10-27T02:00:00+01:00", "2024-10-27T03:00:00+01:00"]);
        assert_eq!(windows_after("2024-02-28", TimeUnit::Day, &berlin, 2), ["2024-02-29", "2024-03-01"]);
        assert_eq!(windows_after("2024-02-26", TimeUnit::Week, &berlin, 1), ["2024-03-04"]);
        assert_eq!(windows_after("2024-02-01", TimeUnit::Month, &berlin, 1), ["2024-03-01"]);
        let hour_us = 3_600_000_000;
        let day = [start_us("2024-10-27", &berlin).unwrap(), start_us("2024-10-28", &berlin).unwrap()];
        assert_eq!(day[1] - day[0], 25 * hour_us);
        assert_eq!(start_us(&hours[0], &berlin).unwrap() - day[0], 3 * hour_us);
    }
}
