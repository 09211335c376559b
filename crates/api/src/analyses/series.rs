//! `POST /v1/analyses/series`: a metric over time, its moving average, its trend, and how its seasons differ.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_model::analysis::{self as statistics, About};
use tally_model::report::{FilterRequest, Metric, ReportError, TimeUnit};

use super::history::{self, History};
use super::{asked, meta, within};
use crate::extract::Question;
use crate::openapi::{Problems, SeriesShown};
use crate::{Api, ApiError};
use utoipa::ToSchema;

const WINDOWS_MAX: usize = 1_000;
const DAY_HOURS: usize = 24;
const WEEK_DAYS: usize = 7;

asked!(SeriesRequest {
    /// A number of events, or an amount.
    #[schema(value_type = Metric)]
    metric: String,
    #[schema(pattern = "^(hour|day|week|month)$")]
    unit: String,
    /// That the moving average is over; by default a whole season.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000)]
    windows: Option<usize>,
});

/// A metric over time
///
/// With its moving average, its linear trend, and how hours of the day and days of the week differ.
#[utoipa::path(
    post, path = "/v1/analyses/series", operation_id = "series", tag = "analyses",
    request_body(content = SeriesRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "metric": "clicks", "unit": "day"})),
    responses((status = 200, description = "The answer.", body = SeriesShown), Problems),
)]
pub(crate) async fn series(
    State(api): State<Arc<Api>>,
    Question(asked): Question<SeriesRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    // By default over a whole season, so that the average does not go up and down with it.
    let (unit, season) = match asked.unit.as_str() {
        "hour" => (TimeUnit::Hour, DAY_HOURS),
        "day" => (TimeUnit::Day, WEEK_DAYS),
        "week" => (TimeUnit::Week, 4),
        "month" => (TimeUnit::Month, 12),
        other => return Err(ReportError::unknown("unit", other, vec!["hour", "day", "week", "month"]).into()),
    };
    let windows = within("windows", asked.windows.unwrap_or(season), 1, WINDOWS_MAX)?;
    let history = history::of(&api, asked.about(), &asked.metric, unit, freshness).await?;
    let averages = statistics::moving_average(&history.values, windows);
    let series = history.answer.rows.iter().zip(averages);
    let series: Vec<_> =
        series.map(|(row, average)| json!({"at": row[0], "value": row[1], "moving_average": average})).collect();
    let (hours, weekdays) = match unit {
        TimeUnit::Hour => (places(&history, DAY_HOURS, 1), places(&history, WEEK_DAYS, DAY_HOURS)),
        TimeUnit::Day => (Vec::new(), places(&history, WEEK_DAYS, 1)),
        _ => (Vec::new(), Vec::new()),
    };
    Ok(Json(json!({
        "series": series,
        "windows": windows,
        "trend": statistics::trend(&history.values),
        "hours": hours,
        "weekdays": weekdays,
        "meta": meta(&history.answer, freshness, started),
    })))
}

/// The hours of the day or the days of the week, `windows_each` windows long.
fn places(history: &History, places: usize, windows_each: usize) -> Vec<Value> {
    let is_hours = places == DAY_HOURS;
    let placed = history.answer.rows.iter().zip(&history.values).filter_map(|(row, value)| {
        let (hour, weekday) = place(row[0].as_str()?, &history.zone)?;
        Some((if is_hours { hour } else { weekday }, *value))
    });
    let found = statistics::seasonal(&placed.collect::<Vec<_>>(), places, places * windows_each);
    let told = found.iter().enumerate().filter_map(|(at, position)| {
        let position = (*position)?;
        // Weekdays as ISO 8601 numbers them.
        let (name, number) = if is_hours { ("hour", at) } else { ("weekday", at + 1) };
        Some(json!({name: number, "windows": position.windows, "mean": position.mean, "index": position.index}))
    });
    told.collect()
}

/// The hour of the day and the day of the week, from 0, that a window begins with on the zone's clocks.
fn place(at: &str, zone: &TimeZone) -> Option<(usize, usize)> {
    let (hour, date) = match at.parse::<Timestamp>() {
        Ok(instant) => {
            let local = instant.to_zoned_datetime(zone.clone());
            (local.hour(), local.date())
        }
        Err(_) => (0, at.parse::<Date>().ok()?),
    };
    let weekday = date.weekday().to_monday_zero_offset();
    Some((usize::try_from(hour).ok()?, usize::try_from(weekday).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_placed_by_the_clocks_of_its_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(place("2024-10-27", &berlin), Some((0, 6)), "a Sunday");
        assert_eq!(place("2024-10-27T02:00:00+01:00", &berlin), Some((2, 6)));
        assert_eq!(place("2024-10-27T23:00:00+00:00", &berlin), Some((0, 0)));
        assert_eq!(place("nothing", &berlin), None);
    }
}
