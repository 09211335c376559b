//! Counting days again: what was wrong is found, told and mended, in one step, beside a writer.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tally_lake::{CompactionSettings, EventRows, Lake, LakeError, Rebuild};
use tally_model::report::{Report, ReportRequest};
use tally_model::{Days, Device, Event, Judged, Kind, ManualClock, Positions, RebuildReport, Verdict};
use tally_pipeline::RollupBuilder;
use uuid::Uuid;

/// 2023-11-14, in the evening.
const T0_US: i64 = 1_700_000_000_000_000;
const DAY_US: i64 = 86_400_000_000;

/// An event of each of some days, seven for each campaign.
fn events(from: u64, days: &[i64]) -> Vec<Judged> {
    let offsets = from..from + days.len() as u64 * 14;
    let row = |offset: u64| {
        let day = days[(offset % days.len() as u64) as usize];
        let campaign = if offset.is_multiple_of(2) { "even" } else { "odd" };
        let id = Uuid::from_u128(u128::from(offset));
        let mut event = Event::new(id, Kind::Click, T0_US + day * DAY_US + offset as i64, campaign, "ad");
        event.received_at_us = T0_US + offset as i64;
        event.user_hash = Some(offset);
        event.cost_micros = 5;
        let judged_at_s = event.received_at_us / 1_000_000;
        Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict: Verdict::Counted }
    };
    offsets.map(row).collect()
}

async fn open(folder: &Path) -> Lake {
    Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap()
}

/// Commits a batch whose rollups hold only the events that are kept.
async fn commit(lake: &Lake, rows: &[Judged], keep: impl Fn(&Judged) -> bool) {
    let next = |offset| Positions::from_offsets(vec![offset]);
    let from = rows[0].offset;
    let version = lake
        .commit_events(&mut EventRows::from_iter(rows), &next(from), &next(from + rows.len() as u64))
        .await
        .unwrap();
    let mut rollups = RollupBuilder::default();
    rows.iter().filter(|row| keep(row)).for_each(|row| rollups.add(&row.fact()));
    lake.commit_cells(version, &rollups.finish()).await.unwrap();
}

async fn count(rebuild: &mut Rebuild) {
    for day in rebuild.days() {
        let mut rollups = RollupBuilder::default();
        rebuild.facts(day, &mut |fact| rollups.add(fact)).await.unwrap();
        rebuild.count(day, &[rollups.finish()]).await.unwrap();
    }
}

async fn rebuild(lake: &Lake, from: &str, to: &str) -> Result<RebuildReport, LakeError> {
    let mut rebuild = lake.rebuild(Days::parse(from, to).unwrap()).await?;
    count(&mut rebuild).await;
    rebuild.commit().await
}

async fn clicks_of_november(lake: &Lake) -> i64 {
    let request = json!({"metrics": ["clicks"], "from": "2023-11-01T00:00:00Z", "to": "2023-12-01T00:00:00Z"});
    let request: ReportRequest = serde_json::from_value(request).unwrap();
    lake.queries().report(&Report::try_from(&request).unwrap()).await.unwrap().rows[0][0].as_i64().unwrap()
}

async fn differences(lake: &Lake) -> u64 {
    lake.queries().check(true, 86_400).await.unwrap().found.differences_total
}

#[tokio::test]
async fn a_wrong_day_is_told_cell_by_cell_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, &events(0, &[-20, 0, 1]), |row| row.offset != 8).await;
    assert!(differences(&lake).await > 0);

    // Offset 8 is of the 15th: a rebuild of other days mends its month, and not the day.
    let report = rebuild(&lake, "2023-11-14", "2023-11-15").await.unwrap();
    assert!(report.replaced);
    assert_eq!(report.months, "2023-11-01 to 2023-12-01");
    let places: Vec<_> = report.found.differences.iter().map(|difference| difference.place.as_str()).collect();
    assert_eq!(places.len(), 4 * 2, "clicks and cost of the month, in each view: {places:#?}");
    let wrong = report.found.differences.iter().find(|d| d.place.starts_with("campaign_month")).unwrap();
    let told =
        "campaign_month campaign_id=even currency=null ad_id=ad variant=null bucket=2023-11-01T00:00:00Z: clicks";
    assert_eq!((wrong.place.as_str(), wrong.expected, wrong.found), (told, 14, 13));

    let report = rebuild(&lake, "2023-11-15", "2023-11-16").await.unwrap();
    assert_eq!(report.found.differences_total, 4 * 3 * 2, "minute, hour and day: {:#?}", report.found);
    assert_eq!(differences(&lake).await, 0);
    assert_eq!(differences(&open(folder.path()).await).await, 0, "for whoever opens it later, too");
}

#[tokio::test]
async fn where_nothing_differed_nothing_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, &events(0, &[0, 1, 40]), |_| true).await;
    let before = lake.view().sizes();
    let report = rebuild(&lake, "2023-11-01", "2024-01-01").await.unwrap();
    assert_eq!((report.replaced, report.found.differences_total), (false, 0));
    assert_eq!(report.cells, 4 * (3 * 2 * 3 + 2 * 2), "views, grains below the month, campaigns, days; and months");
    assert_eq!(lake.view().sizes(), before);
}

#[tokio::test]
async fn cells_that_should_not_be_there_go_and_those_of_other_days_stay() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let rows = events(0, &[0, 1, 40]);
    let next = |offset| Positions::from_offsets(vec![offset]);
    let version = lake.commit_events(&mut EventRows::from_iter(&rows), &next(0), &next(42)).await.unwrap();
    let mut rollups = RollupBuilder::default();
    rows.iter().for_each(|row| rollups.add(&row.fact()));
    let mut stray = rows[0].clone();
    stray.event.campaign_id = "nobody's".to_owned();
    rollups.add(&stray.fact());
    lake.commit_cells(version, &rollups.finish()).await.unwrap();

    let report = rebuild(&lake, "2023-11-14", "2023-11-15").await.unwrap();
    assert_eq!(report.found.differences_total, 16 * 2, "click and cost of each cell: {:#?}", report.found);
    assert!(report.found.differences.iter().all(|d| d.place.contains("nobody's") && d.expected == 0));
    assert_eq!(differences(&lake).await, 0);
}

#[tokio::test]
async fn a_late_event_that_comes_during_a_rebuild_is_counted_once_and_readers_see_old_or_new() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, &events(0, &[0, 1]), |row| row.offset != 4).await;
    let mut under_way = lake.rebuild(Days::parse("2023-11-01", "2023-12-01").unwrap()).await.unwrap();
    count(&mut under_way).await;
    assert_eq!(clicks_of_november(&lake).await, 27, "nothing is replaced yet");
    commit(&lake, &events(28, &[0, 1]), |_| true).await;
    assert_eq!(clicks_of_november(&lake).await, 55, "the pipeline goes on");
    let report = under_way.commit().await.unwrap();
    assert!(report.replaced);
    assert_eq!(clicks_of_november(&lake).await, 56);
    assert_eq!(differences(&lake).await, 0);
    commit(&lake, &events(56, &[0, 1]), |_| true).await;
    assert_eq!(differences(&lake).await, 0, "and on");
}

#[tokio::test]
async fn compaction_waits_for_a_rebuild_and_one_by_another_process_makes_it_give_up() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    for batch in 0..4 {
        commit(&lake, &events(batch * 14, &[0]), |row| row.offset != 4).await;
    }
    let settings = CompactionSettings { files_min: 2, rows_max: 10_000 };
    let mut under_way = lake.rebuild(Days::parse("2023-11-14", "2023-11-15").unwrap()).await.unwrap();
    count(&mut under_way).await;
    assert_eq!(lake.compact(settings).await.unwrap(), []);
    assert!(
        !open(folder.path()).await.compact(settings).await.unwrap().is_empty(),
        "another process knows nothing of it"
    );
    let refused = under_way.commit().await.unwrap_err();
    assert!(matches!(refused, LakeError::Fenced { .. }), "{refused}");

    let lake = open(folder.path()).await;
    assert!(rebuild(&lake, "2023-11-14", "2023-11-15").await.unwrap().replaced, "over compacted files");
    assert_eq!(differences(&lake).await, 0);
    for from in [56, 70] {
        commit(&lake, &events(from, &[0]), |_| true).await;
    }
    while !lake.compact(settings).await.unwrap().is_empty() {}
    assert_eq!(differences(&lake).await, 0);
}

#[tokio::test]
async fn a_file_of_rollups_that_is_broken_or_gone_is_made_anew_with_its_months() {
    let folder = tempfile::tempdir().unwrap();
    for gone in [false, true] {
        let place = folder.path().join(gone.to_string());
        let lake = open(&place).await;
        commit(&lake, &events(0, &[0, 1]), |_| true).await;
        let files = std::fs::read_dir(place.join("rollups")).unwrap().flatten().map(|entry| entry.path());
        let file = files.into_iter().find(|path| path.extension().is_some_and(|name| name == "parquet")).unwrap();
        if gone {
            std::fs::remove_file(file).unwrap();
        } else {
            std::fs::write(file, b"not a file of cells any more").unwrap();
        }
        let lake = open(&place).await;
        assert!(lake.queries().check(true, 86_400).await.is_err(), "it is noticed");
        let day_only = lake.rebuild(Days::parse("2023-11-14", "2023-11-15").unwrap()).await;
        let mut day_only = day_only.unwrap();
        let mut refused = Ok(());
        for day in day_only.days() {
            refused = day_only.count(day, &[]).await;
            if refused.is_err() {
                break;
            }
        }
        assert!(refused.is_err(), "what else the file held is not known");
        drop(day_only);
        let report = rebuild(&lake, "2023-11-01", "2023-12-01").await.unwrap();
        assert!(report.replaced && report.found.differences[0].place.contains("cannot be read"), "{report:?}");
        assert_eq!(differences(&lake).await, 0);
    }
}
