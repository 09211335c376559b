//! Which table answers a report: the coarsest rollup that can, else raw events. A pure function of the report.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tally_model::report::{GroupBy, Report, TimeUnit};
use tally_model::{Dimension, Grain, View, bucket_start_us};

/// Where the figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Rollup(View, Grain),
    Events,
}

impl Source {
    pub fn name(self) -> String {
        match self {
            Source::Rollup(view, grain) => format!("{}_{}", view.as_str(), grain.as_str()),
            Source::Events => "events".to_owned(),
        }
    }

    pub fn of(report: &Report) -> Self {
        let view = View::ALL.into_iter().find(|view| dimensions(report).all(|dimension| view.has(dimension)));
        let grain = Grain::ALL.into_iter().rev().find(|grain| can_tell(*grain, report));
        match (view, grain) {
            (Some(view), Some(grain)) => Source::Rollup(view, grain),
            _ => Source::Events,
        }
    }
}

fn dimensions(report: &Report) -> impl Iterator<Item = Dimension> + '_ {
    let grouped = report.group_by.iter().filter_map(|group| match group {
        GroupBy::Dimension(dimension) => Some(*dimension),
        GroupBy::Time(_) => None,
    });
    grouped.chain(report.filters.iter().map(|filter| filter.dimension))
}

/// Whether cells of a grain add up to what is asked: the range and every group must begin and end where cells do.
fn can_tell(grain: Grain, report: &Report) -> bool {
    why_not(grain, report).is_none()
}

fn why_not(grain: Grain, report: &Report) -> Option<String> {
    let is_edge = |at_us| bucket_start_us(grain, at_us) == at_us;
    let units = report.group_by.iter().filter_map(|group| match group {
        GroupBy::Time(unit) => Some(*unit),
        GroupBy::Dimension(_) => None,
    });
    let (name, zone) = (grain.as_str(), report.time_zone.iana_name().unwrap_or("UTC"));
    if !is_edge(report.from_us) || !is_edge(report.to_us) {
        return Some(format!("`from` and `to` are not both where a {name} begins in UTC"));
    }
    if let Some(unit) = units.clone().find(|unit| !is_made_of(*unit, grain)) {
        return Some(format!("no {} is made of whole {name}s", unit.as_str()));
    }
    if units.count() > 0 && !offsets_fit(grain, report) {
        return Some(format!("a {name} of UTC is none in {zone}"));
    }
    (report.needs_users() && grain == Grain::Minute).then(|| "cells of a minute have no sketch of users".to_owned())
}

/// Why not from tables that would have been quicker, each with its name.
pub(crate) fn why_not_quicker(report: &Report) -> Vec<(String, String)> {
    let lacks = |view: View| dimensions(report).find(|dimension| !view.has(*dimension));
    let mut reasons = Vec::new();
    for view in View::ALL {
        match lacks(view) {
            Some(dimension) => {
                reasons.push((view.as_str().to_owned(), format!("it has no `{}`", dimension.as_str())));
            }
            None => {
                for grain in Grain::ALL.into_iter().rev() {
                    match why_not(grain, report) {
                        Some(reason) => reasons.push((Source::Rollup(view, grain).name(), reason)),
                        None => return reasons,
                    }
                }
                return reasons;
            }
        }
    }
    reasons
}

fn is_made_of(unit: TimeUnit, grain: Grain) -> bool {
    match grain {
        Grain::Minute => true,
        Grain::Hour => unit != TimeUnit::Minute,
        Grain::Day => !matches!(unit, TimeUnit::Minute | TimeUnit::Hour),
        Grain::Month => unit == TimeUnit::Month,
    }
}

/// Whether local time differs from UTC by whole cells, throughout the range.
fn offsets_fit(grain: Grain, report: &Report) -> bool {
    let step_s = match grain {
        Grain::Minute => 60,
        Grain::Hour => 3_600,
        // Days and months differ in length by zone: only UTC itself fits.
        Grain::Day | Grain::Month => i32::MAX,
    };
    offsets_s(&report.time_zone, report.from_us, report.to_us).all(|offset_s| offset_s % step_s == 0)
}

/// Every offset from UTC that a zone has between two instants.
fn offsets_s(zone: &TimeZone, from_us: i64, to_us: i64) -> impl Iterator<Item = i32> + '_ {
    let from = Timestamp::from_microsecond(from_us).unwrap_or(Timestamp::MIN);
    let to = Timestamp::from_microsecond(to_us).unwrap_or(Timestamp::MAX);
    let later = zone.following(from).take_while(move |change| change.timestamp() < to);
    std::iter::once(zone.to_offset(from).seconds()).chain(later.map(|change| change.offset().seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::report::ReportRequest;

    fn check(request: &str, source: &str) {
        let request: ReportRequest = serde_json::from_str(request).unwrap();
        assert_eq!(Source::of(&Report::try_from(&request).unwrap()).name(), source, "{request:?}");
    }

    fn asked(metrics: &str, group_by: &str, from: &str, to: &str, zone: &str) -> String {
        format!(r#"{{"metrics":[{metrics}],"group_by":[{group_by}],"from":"{from}","to":"{to}","time_zone":"{zone}"}}"#)
    }

    #[test]
    fn the_coarsest_rollup_that_can_answer_is_taken() {
        let (may, june) = ("2024-05-01T00:00:00Z", "2024-06-01T00:00:00Z");
        check(&asked(r#""clicks""#, r#""campaign_id""#, may, june, "UTC"), "campaign_month");
        check(&asked(r#""clicks""#, r#""campaign_id","day""#, may, june, "UTC"), "campaign_day");
        check(&asked(r#""clicks""#, r#""country","hour""#, may, june, "UTC"), "geo_hour");
        check(&asked(r#""clicks""#, r#""gender","week""#, may, june, "UTC"), "audience_day");
        check(&asked(r#""clicks""#, r#""browser""#, may, "2024-05-01T00:07:00Z", "UTC"), "device_minute");
    }

    #[test]
    fn local_days_are_summed_from_hours_and_where_offsets_are_odd_from_minutes() {
        let (from, to) = ("2024-03-30T23:00:00Z", "2024-04-01T22:00:00Z");
        check(&asked(r#""clicks""#, r#""day""#, from, to, "Europe/Berlin"), "campaign_hour");
        let (from, to) = ("2024-03-30T18:15:00Z", "2024-04-01T18:15:00Z");
        check(&asked(r#""clicks""#, r#""day""#, from, to, "Asia/Kathmandu"), "campaign_minute");
        // Without a group by time, the zone plays no part.
        check(
            &asked(r#""clicks""#, "", "2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z", "Asia/Kathmandu"),
            "campaign_day",
        );
    }

    #[test]
    fn what_no_rollup_holds_comes_from_raw_events() {
        let (may, june) = ("2024-05-01T00:00:00Z", "2024-06-01T00:00:00Z");
        check(&asked(r#""clicks""#, r#""placement_id""#, may, june, "UTC"), "events");
        check(&asked(r#""clicks""#, r#""country","gender""#, may, june, "UTC"), "events");
        check(&asked(r#""clicks""#, "", may, "2024-05-01T00:00:30Z", "UTC"), "events");
        check(&asked(r#""users""#, r#""minute""#, may, june, "UTC"), "events");
    }
}
