//! The lake from outside: batches in, figures out, restarts and compaction in between.

mod cells;
mod files;
mod moments;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tally_lake::{CompactionSettings, EventRows, FirstSighting, Lake, WantedSightings};
use tally_model::analysis::{Funnel, HeatMap, Step};
use tally_model::report::{Answer, Report, ReportRequest};
use tally_model::{Country, Device, Dimension, Event, Judged, Kind, ManualClock, Positions, Reason, Region, Verdict};
use tally_pipeline::RollupBuilder;
use uuid::Uuid;

const T0_US: i64 = 1_700_000_000_000_000;
const MINUTE_US: i64 = 60_000_000;

fn judged(offset: u64, id: u128, at_us: i64, verdict: Verdict) -> Judged {
    let mut event =
        Event::new(Uuid::from_u128(id), Kind::Click, at_us, if id.is_multiple_of(2) { "even" } else { "odd" }, "ad");
    event.received_at_us = T0_US + offset as i64 * 1_000;
    event.country = Country::parse(["DE", "US", "JP"][(id % 3) as usize]);
    event.region = Region::of(event.country);
    event.user_hash = Some((id % 50) as u64);
    event.cost_micros = 1_000;
    event.currency = Some("EUR".to_owned());
    event.segments = vec!["s".to_owned(), format!("s{}", id % 2)];
    let judged_at_s = event.received_at_us / 1_000_000;
    Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict }
}

async fn open(folder: &Path) -> Lake {
    Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap()
}

fn positions(next: u64) -> Positions {
    Positions::from_offsets(vec![next])
}

/// Commits events at the offsets after `from`, rollups included.
async fn commit(lake: &Lake, rows: &[Judged]) -> i64 {
    let from = rows[0].offset;
    let version = lake
        .commit_events(&mut EventRows::from_iter(rows), &positions(from), &positions(from + rows.len() as u64))
        .await
        .unwrap();
    count(lake, version, rows).await;
    version
}

async fn count(lake: &Lake, version: i64, rows: &[Judged]) {
    let mut rollups = RollupBuilder::default();
    rows.iter().for_each(|row| rollups.add(&row.fact()));
    lake.commit_cells(version, &rollups.finish()).await.unwrap();
}

async fn ask(lake: &Lake, request: Value) -> Answer {
    let request: ReportRequest = serde_json::from_value(request).unwrap();
    lake.queries().report(&Report::try_from(&request).unwrap()).await.unwrap()
}

fn all_time(metrics: &[&str], group_by: &[&str]) -> Value {
    json!({"metrics": metrics, "group_by": group_by, "from": "2023-11-01T00:00:00Z", "to": "2023-12-01T00:00:00Z"})
}

fn events(from: u64, n: u64) -> Vec<Judged> {
    (from..from + n)
        .map(|offset| judged(offset, u128::from(offset), T0_US + offset as i64 * MINUTE_US, Verdict::Counted))
        .collect()
}

#[tokio::test]
async fn figures_are_the_same_from_every_source() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = events(0, 300);
    rows.push(judged(300, 7, T0_US, Verdict::Not(Reason::SameId)));
    rows.push(judged(301, 1_001, T0_US, Verdict::Not(Reason::DeclaredBot)));
    commit(&lake, &rows).await;

    let metrics = ["clicks", "duplicate_clicks", "invalid_clicks", "gross_clicks", "cost_micros", "ctr"];
    let from_rollup = ask(&lake, all_time(&metrics, &["campaign_id"])).await;
    assert_eq!(from_rollup.meta.source, "campaign_month");
    let expected = json!([["even", 150, 0, 0, 150, 150_000, null], ["odd", 150, 1, 1, 152, 150_000, null]]);
    assert_eq!(json!(from_rollup.rows), expected);

    // A second off the grid leaves only raw events.
    let mut request = all_time(&metrics, &["campaign_id"]);
    request["from"] = json!("2023-11-01T00:00:01Z");
    let from_raw = ask(&lake, request).await;
    assert_eq!((from_raw.meta.source.as_str(), json!(from_raw.rows)), ("events", expected));

    let by_day = ask(&lake, all_time(&["clicks"], &["day"])).await;
    assert_eq!(by_day.meta.source, "campaign_day");
    let mut local = all_time(&["clicks", "users"], &["hour"]);
    local["time_zone"] = json!("Asia/Kolkata");
    let by_local_hour = ask(&lake, local).await;
    assert_eq!(by_local_hour.rows.iter().map(|row| row[1].as_i64().unwrap()).sum::<i64>(), 300);
    assert!(by_local_hour.rows[0][0].as_str().unwrap().ends_with(":00:00+05:30"), "{:?}", by_local_hour.rows[0]);

    let users = ask(&lake, all_time(&["users"], &[])).await;
    assert_eq!(users.rows, [[json!(50)]]);
    assert!(users.meta.users_error.is_some());
    let segments = ask(&lake, all_time(&["clicks"], &["segment"])).await;
    assert_eq!(json!(segments.rows), json!([["s", 300], ["s0", 150], ["s1", 150]]));
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn gaps_in_a_series_are_filled_for_each_group_that_has_any_row() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    // 2023-11-14T22:13:20Z and two days later, of two campaigns.
    let two_days_us = 2 * 24 * 60 * MINUTE_US;
    commit(&lake, &[judged(0, 2, T0_US, Verdict::Counted), judged(1, 3, T0_US + two_days_us, Verdict::Counted)]).await;
    let mut request = all_time(&["clicks", "ctr"], &["campaign_id", "day"]);
    (request["from"], request["to"]) = (json!("2023-11-14T00:00:00Z"), json!("2023-11-17T00:00:00Z"));
    assert_eq!(ask(&lake, request.clone()).await.rows.len(), 2);
    request["fill"] = json!("zero");
    let expected = json!([
        ["even", "2023-11-14", 1, null],
        ["even", "2023-11-15", 0, null],
        ["even", "2023-11-16", 0, null],
        ["odd", "2023-11-14", 0, null],
        ["odd", "2023-11-15", 0, null],
        ["odd", "2023-11-16", 1, null],
    ]);
    assert_eq!(json!(ask(&lake, request).await.rows), expected);

    // The day on which clocks go back in Berlin has 25 hours, filled or not.
    let mut hours = all_time(&["clicks"], &["hour"]);
    (hours["from"], hours["to"]) = (json!("2023-10-28T22:00:00Z"), json!("2023-10-29T23:00:00Z"));
    (hours["time_zone"], hours["fill"]) = (json!("Europe/Berlin"), json!("null"));
    let hours = ask(&lake, hours).await;
    assert_eq!((hours.rows.len(), &hours.rows[0][1]), (25, &Value::Null));
}

#[tokio::test]
async fn people_are_followed_from_step_to_step_and_clicks_to_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = Vec::new();
    let mut add = |user: u64, kind: Kind, minute: i64, xy: Option<(f32, f32)>, verdict: Verdict| {
        let offset = rows.len() as u64;
        let mut row = judged(offset, 2 * u128::from(offset), T0_US + minute * MINUTE_US, verdict);
        (row.event.kind, row.event.user_hash) = (kind, Some(user));
        (row.event.x, row.event.y) = xy.unzip();
        row.event.variant = Some(if user < 3 { "a" } else { "b" }.to_owned());
        rows.push(row);
    };
    for user in 1..=4 {
        add(user, Kind::Impression, 0, None, Verdict::Counted);
    }
    add(1, Kind::Click, 5, Some((0.0, 0.99)), Verdict::Counted);
    add(1, Kind::Conversion, 9, None, Verdict::Counted);
    add(2, Kind::Click, 11, Some((1.0, 1.0)), Verdict::Counted);
    add(3, Kind::Click, 5, None, Verdict::Counted);
    add(4, Kind::Click, 5, Some((0.5, 0.5)), Verdict::Not(Reason::DeclaredBot));
    commit(&lake, &rows).await;

    let report = |request: Value| Report::try_from(&serde_json::from_value::<ReportRequest>(request).unwrap()).unwrap();
    let funnel = Funnel {
        about: report(all_time(&["clicks"], &[])),
        steps: vec![Kind::Impression, Kind::Click, Kind::Conversion],
        window_us: 10 * MINUTE_US,
        segment: Dimension::parse("variant"),
    };
    let answer = lake.queries().funnel(&funnel).await.unwrap();
    let users = |steps: &[Step]| steps.iter().map(|step| step.users).collect::<Vec<_>>();
    assert_eq!(users(&answer.steps), [4, 2, 1], "one click came too late, and a robot's is none");
    let segments: Vec<_> = answer.segments.iter().map(|s| (s.value.as_deref(), users(&s.steps))).collect();
    assert_eq!(segments, [(Some("a"), vec![2, 1, 1]), (Some("b"), vec![2, 1, 0])]);

    let heat_map = HeatMap { about: report(all_time(&["clicks"], &[])), columns: 2, rows: 4 };
    let answer = lake.queries().heat_map(&heat_map).await.unwrap();
    assert_eq!((answer.clicks, answer.without_position), (2, 1));
    let bins: Vec<_> = answer.bins.iter().map(|bin| (bin.column, bin.row, bin.clicks, bin.share)).collect();
    assert_eq!(bins, [(0, 3, 1, 0.5), (1, 3, 1, 0.5)]);
}

#[tokio::test]
async fn filters_keep_what_they_say_and_unknown_values_stay_with_not_in() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = events(0, 90);
    rows[8].event.country = None;
    commit(&lake, &rows).await;
    let clicks = async |op: &str, values: Value, field: &str| {
        let mut request = all_time(&["clicks"], &[]);
        request["filters"] = json!([{"field": field, "op": op, "values": values}]);
        ask(&lake, request).await.rows[0][0].as_i64().unwrap()
    };
    assert_eq!(clicks("in", json!(["DE"]), "country").await, 30);
    assert_eq!(clicks("not_in", json!(["DE"]), "country").await, 60);
    assert_eq!(clicks("in", json!(["DE", null]), "country").await, 31);
    assert_eq!(clicks("not_in", json!([null]), "country").await, 89);
    assert_eq!(clicks("in", json!(["s1"]), "segment").await, 45);
    assert_eq!(clicks("in", json!(["nobody"]), "campaign_id").await, 0);
}

#[tokio::test]
async fn a_batch_committed_again_is_in_once_and_another_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let rows = events(0, 10);
    let version = lake.commit_events(&mut EventRows::from_iter(&rows), &positions(0), &positions(10)).await.unwrap();
    let again = lake.commit_events(&mut EventRows::from_iter(&rows), &positions(0), &positions(10)).await.unwrap();
    assert_eq!(version, again, "the answer was lost, the commit was not");
    count(&lake, version, &rows).await;
    count(&lake, version, &rows).await;
    assert_eq!(ask(&lake, all_time(&["clicks"], &[])).await.rows, [[json!(10)]]);

    let zombie = open(folder.path()).await;
    commit(&lake, &events(10, 5)).await;
    let refused = zombie.commit_events(&mut EventRows::from_iter(&events(10, 3)), &positions(10), &positions(13)).await;
    assert!(refused.unwrap_err().to_string().contains("another process writes"), "a zombie wrote");
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn a_crash_between_events_and_rollups_is_made_good_and_readers_never_see_it() {
    let folder = tempfile::tempdir().unwrap();
    let rows = events(0, 20);
    {
        let lake = open(folder.path()).await;
        commit(&lake, &rows[..5]).await;
        lake.commit_events(&mut EventRows::from_iter(&rows[5..]), &positions(5), &positions(20)).await.unwrap();
        let mut raw = all_time(&["clicks"], &["placement_id"]);
        raw["limit"] = json!(1);
        assert_eq!(ask(&lake, raw).await.rows, [[Value::Null, json!(5)]], "raw ran ahead of the rollups");
    }
    let lake = open(folder.path()).await;
    let versions = lake.versions_to_count().await.unwrap();
    assert_eq!(versions.len(), 1);
    let mut rollups = RollupBuilder::default();
    lake.facts(versions[0], &mut |fact| rollups.add(fact)).await.unwrap();
    lake.commit_cells(versions[0], &rollups.finish()).await.unwrap();
    assert_eq!(lake.versions_to_count().await.unwrap(), Vec::<i64>::new());
    assert_eq!(ask(&lake, all_time(&["clicks"], &[])).await.rows, [[json!(20)]]);
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn sightings_are_the_first_ones_with_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = events(0, 10);
    rows.push(judged(10, 3, T0_US, Verdict::Not(Reason::SameId)));
    rows.push(judged(11, 77, T0_US, Verdict::Not(Reason::DeclaredBot)));
    rows[4].judged_at_s += 500;
    commit(&lake, &rows).await;
    let mut seen = Vec::new();
    let wanted = WantedSightings { ids_from_s: 0, ids_for_s: 86_400, clicks_for_s: 0 };
    let mut see = |first: FirstSighting<'_>| seen.push((first.partition, first.id.as_u128(), first.judged_at_s));
    let times = lake.sightings(wanted, &mut see).await.unwrap();
    seen.sort_unstable();
    assert_eq!(seen.len(), 11);
    assert!(seen.contains(&(0, 77, T0_US / 1_000_000)));
    assert!(seen.contains(&(0, 4, T0_US / 1_000_000 + 500)));
    assert_eq!(times, [(0, T0_US / 1_000_000 + 500)]);
}

#[tokio::test]
async fn counted_clicks_of_known_people_are_told_as_far_back_as_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let click = |offset: u64, id: u128, at_us: i64, verdict| {
        let mut judged = judged(offset, id, at_us, verdict);
        (judged.event.received_at_us, judged.judged_at_s) = (at_us, at_us / 1_000_000);
        judged.event.user_hash = Some(u64::MAX - 7);
        judged
    };
    commit(&lake, &[click(0, 1, T0_US - 3_600_000_000, Verdict::Counted)]).await;
    let mut rows = vec![
        click(1, 2, T0_US, Verdict::Counted),
        click(2, 3, T0_US, Verdict::Not(Reason::DoubleClick)),
        click(3, 4, T0_US, Verdict::Not(Reason::DeclaredBot)),
        click(4, 5, T0_US, Verdict::Counted),
        click(5, 6, T0_US, Verdict::Counted),
    ];
    rows[3].event.user_hash = None;
    rows[4].event.kind = Kind::Impression;
    commit(&lake, &rows).await;
    for (clicks_for_s, expected) in [(0, vec![]), (600, vec![2]), (7_200, vec![1, 2])] {
        let (mut clicks, mut ids) = (Vec::new(), 0);
        let wanted = WantedSightings { ids_from_s: 0, ids_for_s: 86_400, clicks_for_s };
        let mut see = |first: FirstSighting<'_>| {
            ids += 1;
            if let Some(click) = first.counted_click {
                assert_eq!((click.user_hash, click.campaign_id.is_empty()), (u64::MAX - 7, false));
                clicks.push(first.id.as_u128());
            }
        };
        lake.sightings(wanted, &mut see).await.unwrap();
        clicks.sort_unstable();
        assert_eq!((ids, clicks), (6, expected), "a double click is a first sighting of its id");
    }
    // What is known already is not read, once the time of every partition is.
    let mut ids = Vec::new();
    let wanted = WantedSightings { ids_from_s: T0_US / 1_000_000, ids_for_s: 86_400, clicks_for_s: 600 };
    lake.sightings(wanted, &mut |first| ids.push(first.id.as_u128())).await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_wrong_rollup_is_found_cell_by_cell() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let rows = events(0, 10);
    let version = lake.commit_events(&mut EventRows::from_iter(&rows), &positions(0), &positions(10)).await.unwrap();
    count(&lake, version, &rows[..9]).await;
    let report = lake.queries().check(false, 86_400).await.unwrap();
    assert_eq!(report.found.differences_total, 32, "clicks and cost in each view and grain: {report:?}");
    let report = lake.queries().check(true, 86_400).await.unwrap();
    let places: Vec<&str> = report.found.differences.iter().map(|difference| difference.place.as_str()).collect();
    assert!(
        places.iter().any(|place| place.starts_with("geo_minute campaign_id=odd") && place.ends_with(": clicks")),
        "{places:#?}"
    );
}

#[tokio::test]
async fn an_event_tells_its_life() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, &[judged(0, 42, T0_US, Verdict::Counted), judged(1, 43, T0_US, Verdict::Counted)]).await;
    commit(&lake, &[judged(2, 42, T0_US, Verdict::Not(Reason::SameId))]).await;
    let life = lake.queries().life(Uuid::from_u128(42)).await.unwrap();
    let told: Vec<_> = life.sightings.iter().map(|s| (s.offset, s.verdict.as_str(), s.duplicate_of_offset)).collect();
    assert_eq!(told, [(0, "counted", None), (2, "duplicate", Some(0))]);
    assert_eq!(life.sightings[0].cells.len(), 16);
    assert!(life.sightings[0].file.starts_with("events/event_date=2023-11-14/region="), "{}", life.sightings[0].file);
    assert!(!serde_json::to_string(&life).unwrap().contains("user_hash"));
    assert!(lake.queries().life(Uuid::from_u128(99)).await.unwrap().sightings.is_empty());
}

#[tokio::test]
async fn a_folder_may_have_spaces_umlauts_and_percent_signs() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("with space ümlaut");
    let lake = open(&odd).await;
    commit(&lake, &events(0, 10)).await;
    assert_eq!(ask(&lake, all_time(&["clicks"], &[])).await.rows, [[json!(10)]]);
    assert_eq!(lake.queries().life(Uuid::from_u128(3)).await.unwrap().sightings.len(), 1);
    assert!(open(&odd).await.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn an_id_counted_twice_within_its_time_to_live_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = events(0, 3);
    // The same id, first after ten seconds, then after ten days: only the former is wrong.
    for (row, after_s) in rows.iter_mut().zip([0, 10, 864_000]) {
        row.event.id = Uuid::from_u128(7);
        row.event.received_at_us = T0_US + after_s * 1_000_000;
        row.judged_at_s = row.event.received_at_us / 1_000_000;
    }
    commit(&lake, &rows).await;
    let report = lake.queries().check(true, 86_400).await.unwrap();
    assert_eq!(report.found.differences_total, 1, "{report:?}");
    assert!(report.found.differences[0].place.contains("within the time to live"), "{report:?}");
}

#[tokio::test]
async fn amounts_are_never_told_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = events(0, 20);
    for row in &mut rows {
        row.event.cost_micros = 1 << 60;
    }
    commit(&lake, &rows).await;
    for from in ["2023-11-01T00:00:00Z", "2023-11-01T00:00:01Z"] {
        let mut request = all_time(&["cost_micros"], &[]);
        request["from"] = json!(from);
        let request: ReportRequest = serde_json::from_value(request).unwrap();
        let told = lake.queries().report(&Report::try_from(&request).unwrap()).await;
        assert!(told.unwrap_err().to_string().contains("add up to more than can be told"));
    }
}

#[tokio::test]
async fn mixed_currencies_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = events(0, 4);
    rows[3].event.currency = None;
    commit(&lake, &rows).await;
    for metric in ["cost_micros", "roas"] {
        assert_eq!(ask(&lake, all_time(&[metric], &[])).await.meta.warnings.len(), 1, "{metric}");
        assert_eq!(ask(&lake, all_time(&[metric], &["currency"])).await.meta.warnings.len(), 0, "{metric}");
    }
    assert_eq!(ask(&lake, all_time(&["clicks"], &[])).await.meta.warnings.len(), 0);
}
