//! Two lakes beside each other: the same is the same however it was committed, and anything else is told.

use std::path::Path;
use std::sync::Arc;

use tally_lake::{CompactionSettings, EventRows, Lake};
use tally_model::{Comparison, Device, Event, Judged, Kind, ManualClock, Positions, Reason, Verdict};
use tally_pipeline::RollupBuilder;
use uuid::Uuid;

const T0_US: i64 = 1_700_000_000_000_000;

fn log() -> Vec<Judged> {
    let row = |offset: u64| {
        let id = Uuid::from_u128(u128::from(offset));
        let mut event = Event::new(id, Kind::Click, T0_US + offset as i64 * 7_000_000_000, "c", "a");
        event.received_at_us = T0_US;
        event.user_hash = Some(offset % 10);
        event.x = Some(0.5);
        event.segments = vec!["s".to_owned()];
        let judged_at_s = T0_US / 1_000_000;
        Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict: Verdict::Counted }
    };
    (0..60).map(row).collect()
}

/// A lake that got these rows in batches of so many.
async fn filled(folder: &Path, rows: &[Judged], batch: usize) -> Lake {
    let lake = Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
    for rows in rows.chunks(batch) {
        let next = |offset| Positions::from_offsets(vec![offset]);
        let from = rows[0].offset;
        let version = lake
            .commit_events(&mut EventRows::from_iter(rows), &next(from), &next(from + rows.len() as u64))
            .await
            .unwrap();
        let mut rollups = RollupBuilder::default();
        rows.iter().for_each(|row| rollups.add(&row.fact()));
        lake.commit_cells(version, &rollups.finish()).await.unwrap();
    }
    lake
}

async fn compared_with(change: impl Fn(&mut Vec<Judged>)) -> Comparison {
    let folder = tempfile::tempdir().unwrap();
    let first = filled(&folder.path().join("first"), &log(), 7).await;
    while !first.compact(CompactionSettings { files_min: 2, rows_max: 10_000 }).await.unwrap().is_empty() {}
    let mut changed = log();
    change(&mut changed);
    let second = filled(&folder.path().join("second"), &changed, 60).await;
    first.queries().compare(&second.queries()).await.unwrap()
}

#[tokio::test]
async fn how_batches_and_files_fell_makes_no_difference() {
    let compared = compared_with(|_| {}).await;
    assert!(compared.is_identical(), "{compared:#?}");
    assert_eq!(compared.events.rows, [60, 60]);
    assert!(compared.cells.rows[0] > 500, "{compared:?}");
    assert_eq!(compared.events.digests[0].len(), 64);
}

#[tokio::test]
async fn a_verdict_an_amount_or_a_row_that_differs_is_told_where_it_stands() {
    let told = |compared: &Comparison| compared.events.differences.join("\n");
    let verdict = compared_with(|rows| rows[17].verdict = Verdict::Not(Reason::DeclaredBot)).await;
    let expected = "events partition=0 offset=17: verdict is \"counted\", and \"invalid_givt\"";
    assert!(told(&verdict).contains(expected), "{verdict:#?}");
    assert!(!verdict.is_identical() && verdict.cells.differences_total == 4 * 4 * 2, "{verdict:#?}");

    let amount = compared_with(|rows| rows[3].event.cost_micros = 1).await;
    assert_eq!(told(&amount), "events partition=0 offset=3: cost_micros is \"0\", and \"1\"");

    let missing = compared_with(|rows| rows.truncate(59)).await;
    assert_eq!(told(&missing), "events partition=0 offset=59: only in the first");
    assert_ne!(missing.events.digests[0], missing.events.digests[1]);

    let person = compared_with(|rows| rows[5].event.user_hash = Some(99)).await;
    assert_eq!(told(&person), "events partition=0 offset=5: user_hash is not the same", "and the hash is not told");
}
