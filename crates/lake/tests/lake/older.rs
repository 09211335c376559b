//! A lake that an older binary made: it opens, its rows read as they were, and new rows stand beside them.
//!
//! `version_1` was written by the binary before the events had a subdivision, a purpose and signals of privacy: nine clicks on
//! three days, in four partitions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake_core::DeltaTableBuilder;
use deltalake_core::kernel::{DataType, StructField};
use serde_json::json;
use tally_lake::{CompactionSettings, EventRows, Lake};
use tally_model::report::{Report, ReportRequest};
use tally_model::{
    Country, Device, Event, Judged, Kind, ManualClock, Privacy, Purpose, Reason, Region, Subdivision, Verdict,
};
use tally_pipeline::RollupBuilder;
use url::Url;
use uuid::Uuid;

/// 2026-03-01T10:00:00Z, when the first of the old clicks occurred.
const T0_US: i64 = 1_772_359_200_000_000;
const PARTITIONS: u16 = 4;

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn old_lake() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/version_1");
    copied(&fixture, folder.path());
    folder
}

async fn open(folder: &Path) -> Lake {
    Lake::open(folder, PARTITIONS, Arc::new(ManualClock::at_us(T0_US))).await.unwrap()
}

async fn clicks(lake: &Lake, metric: &str) -> i64 {
    let question =
        json!({"metrics": [metric], "from": "2026-01-01T00:00:01Z", "to": "2027-01-01T00:00:00Z", "group_by": []});
    let request: ReportRequest = serde_json::from_value(question).unwrap();
    let answer = lake.queries().report(&Report::try_from(&request).unwrap()).await.unwrap();
    assert_eq!(answer.meta.source, "events");
    answer.rows[0][0].as_i64().unwrap()
}

/// Two clicks with everything that the old binary did not know, one of them in quarantine.
async fn commit_new(lake: &Lake) -> [Uuid; 2] {
    let from = lake.committed().await.unwrap();
    let mut upto = from.clone();
    upto.advance(0, from.next(0) + 2);
    let ids = [77, 78].map(Uuid::from_u128);
    let verdicts = [Verdict::Counted, Verdict::Not(Reason::ClickUnresolved)];
    let rows: Vec<_> = (0..2).map(|n| judged(from.next(0) + n as u64, ids[n], verdicts[n])).collect();
    let version = lake.commit_events(&mut EventRows::from_iter(&rows), &from, &upto).await.unwrap();
    let mut rollups = RollupBuilder::default();
    rows.iter().for_each(|row| rollups.add(&row.fact()));
    lake.commit_cells(version, &rollups.finish()).await.unwrap();
    ids
}

fn judged(offset: u64, id: Uuid, verdict: Verdict) -> Judged {
    let privacy = Privacy { gdpr: Some(true), gdpr_consent: Some("CPXxRfAPX".to_owned()), ..Privacy::default() };
    let event = Event {
        country: Country::parse("DE"),
        region: Region::Eu,
        subdivision: Subdivision::parse("DE-BE"),
        purpose: Some(Purpose::Prefetch),
        privacy: Privacy { gpc: Some(false), ..privacy }.some(),
        ..Event::new(id, Kind::Click, T0_US, "spring", "a1")
    };
    let judged_at_s = event.received_at_us / 1_000_000;
    Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict }
}

#[tokio::test]
async fn an_older_lake_is_read_as_it_was_and_not_written_to() {
    let folder = old_lake();
    let lake = open(folder.path()).await;
    assert_eq!(clicks(&lake, "clicks").await, 9);
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
    let old = Uuid::parse_str("00000000-0000-4000-8000-000000000001").unwrap();
    let life = lake.queries().life(old).await.unwrap();
    assert_eq!((life.sightings.len(), life.sightings[0].fields.get("gdpr")), (1, None));
    let commits = std::fs::read_dir(folder.path().join("events/_delta_log")).unwrap().count();
    assert_eq!(commits, 4, "reading changed the table");
}

#[tokio::test]
async fn new_rows_stand_beside_old_ones_with_all_that_they_say() {
    let folder = old_lake();
    let lake = open(folder.path()).await;
    let [counted, quarantined] = commit_new(&lake).await;
    assert_eq!((clicks(&lake, "clicks").await, clicks(&lake, "gross_clicks").await), (10, 11));
    let life = lake.queries().life(counted).await.unwrap();
    let fields = &life.sightings[0].fields;
    for (field, value) in [
        ("subdivision", json!("DE-BE")),
        ("purpose", json!("prefetch")),
        ("gdpr", json!(true)),
        ("gdpr_consent", json!("CPXxRfAPX")),
        ("gpc", json!(false)),
    ] {
        assert_eq!(fields.get(field), Some(&value), "{field}");
    }
    let (event, _) = lake.queries().quarantined_event(quarantined).await.unwrap().unwrap();
    let mut expected = judged(0, quarantined, Verdict::Counted).event;
    expected.received_at_us = event.received_at_us;
    assert_eq!(event, expected, "a row does not read back as the event that it was made of");
}

#[tokio::test]
async fn old_and_new_files_are_merged_and_nothing_is_lost() {
    let folder = old_lake();
    let lake = open(folder.path()).await;
    let [counted, _] = commit_new(&lake).await;
    let merged = lake.compact(CompactionSettings { files_min: 2, rows_max: 1_000 }).await.unwrap();
    assert!(merged.iter().any(|run| run.table == "events" && run.files_before == 2), "{merged:?}");
    drop(lake);
    let lake = open(folder.path()).await;
    assert_eq!(clicks(&lake, "clicks").await, 10);
    let life = lake.queries().life(counted).await.unwrap();
    assert_eq!(life.sightings[0].fields.get("subdivision"), Some(&json!("DE-BE")));
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn a_table_of_a_newer_binary_is_not_written_to() {
    let folder = old_lake();
    let table = Url::from_directory_path(folder.path().join("events").canonicalize().unwrap()).unwrap();
    let table = DeltaTableBuilder::from_url(table).unwrap().load().await.unwrap();
    table.add_columns().with_fields([StructField::nullable("from_the_future", DataType::STRING)]).await.unwrap();
    let lake = open(folder.path()).await;
    let from = lake.committed().await.unwrap();
    let refused =
        lake.commit_events(&mut EventRows::from_iter(&[judged(0, Uuid::nil(), Verdict::Counted)]), &from, &from).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("`from_the_future` of a newer binary; run that one"), "{refused}");
}
