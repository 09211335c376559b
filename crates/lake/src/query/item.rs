//! The rows of an answer while it is made: their values, their order, and those for windows without any.

use std::cmp::Ordering;

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};
use tally_model::report::{Direction, Fill, GroupBy, Report, TimeUnit, Value};

use super::bucket::{next_window_us, window_start_us};
use super::report::{GROUPS_MAX, too_many_groups};
use crate::error::Result;

/// One value of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Null,
    Text(String),
    Time(TimeUnit, i64),
    Whole(i64),
    Ratio(f64),
}

impl Item {
    pub fn of(value: Value) -> Self {
        match value {
            Value::Whole(number) => Item::Whole(number),
            Value::Ratio(number) => Item::Ratio(number),
            Value::Null => Item::Null,
        }
    }

    pub fn json(&self, zone: &TimeZone) -> Json {
        match self {
            Item::Null => Json::Null,
            Item::Text(text) => json!(text),
            Item::Whole(number) => json!(number),
            Item::Ratio(number) => json!(number),
            Item::Time(unit, at_us) => json!(window_text(*unit, *at_us, zone)),
        }
    }

    /// Nulls last; within a column all others are of one sort.
    fn order(&self, other: &Item, direction: Direction) -> Ordering {
        let order = match (self, other) {
            (Item::Null, Item::Null) => Ordering::Equal,
            (Item::Null, _) => return Ordering::Greater,
            (_, Item::Null) => return Ordering::Less,
            (Item::Text(a), Item::Text(b)) => a.cmp(b),
            (Item::Time(_, a), Item::Time(_, b)) | (Item::Whole(a), Item::Whole(b)) => a.cmp(b),
            (Item::Ratio(a), Item::Ratio(b)) => a.total_cmp(b),
            _ => Ordering::Equal,
        };
        match direction {
            Direction::Ascending => order,
            Direction::Descending => order.reverse(),
        }
    }
}

/// Days, weeks and months by their first date; hours and minutes with their offset from UTC, since DST repeats them.
fn window_text(unit: TimeUnit, at_us: i64, zone: &TimeZone) -> String {
    let at = Timestamp::from_microsecond(at_us).unwrap_or_default().to_zoned_datetime(zone.clone());
    match unit {
        TimeUnit::Minute | TimeUnit::Hour => at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        TimeUnit::Day | TimeUnit::Week | TimeUnit::Month => at.strftime("%Y-%m-%d").to_string(),
    }
}

/// As asked; rows that are equal in that, and reports that ask for nothing, by their groups from the left.
pub(super) fn sort(rows: &mut [Vec<Item>], report: &Report) {
    let by_groups = (0..report.group_by.len()).map(|column| (column, Direction::Ascending));
    let keys: Vec<_> = report.order_by.iter().map(|order| (order.column, order.direction)).chain(by_groups).collect();
    rows.sort_by(|a, b| {
        keys.iter()
            .map(|(column, direction)| a[*column].order(&b[*column], *direction))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    });
}

/// A row for each window without one, for each combination of the other groups that has any.
pub(super) fn gaps(rows: &[Vec<Item>], report: &Report, fill: Fill) -> Result<Vec<Vec<Item>>> {
    let of_time = report.group_by.iter().enumerate().find_map(|(at, group)| match group {
        GroupBy::Time(unit) => Some((at, *unit)),
        GroupBy::Dimension(_) => None,
    });
    let Some((at, unit)) = of_time else { return Ok(Vec::new()) };
    let mut windows = Vec::new();
    let mut start_us = window_start_us(unit, &report.time_zone, report.from_us);
    while start_us < report.to_us {
        windows.push(start_us);
        if windows.len() > GROUPS_MAX {
            return Err(too_many_groups());
        }
        start_us = next_window_us(unit, &report.time_zone, start_us);
    }
    let mut there: HashMap<Vec<Option<&str>>, HashSet<i64>> = HashMap::new();
    let groups = report.group_by.len();
    for row in rows {
        // All groups but one are dimensions, whose values are texts.
        let others = row[..groups].iter().filter(|item| !matches!(item, Item::Time(..)));
        let others = others.map(|item| if let Item::Text(text) = item { Some(text.as_str()) } else { None });
        if let Item::Time(_, window_us) = row[at] {
            there.entry(others.collect()).or_default().insert(window_us);
        }
    }
    if groups == 1 {
        // Nothing to combine with: the windows are there also where nothing happened at all.
        there.entry(Vec::new()).or_default();
    }
    if there.len().saturating_mul(windows.len()) > GROUPS_MAX {
        return Err(too_many_groups());
    }
    let nothing: Vec<Item> = report
        .metrics
        .iter()
        .map(|metric| match fill {
            Fill::Null => Item::Null,
            Fill::Zero => Item::of(metric.value(|_| 0)),
        })
        .collect();
    let mut missing = Vec::new();
    for (others, seen) in there {
        for window_us in windows.iter().filter(|window_us| !seen.contains(*window_us)) {
            let texts = others.iter().map(|text| text.map_or(Item::Null, |text| Item::Text(text.to_owned())));
            let mut row: Vec<Item> = texts.collect();
            row.insert(at, Item::Time(unit, *window_us));
            row.extend(nothing.iter().cloned());
            missing.push(row);
        }
    }
    Ok(missing)
}
