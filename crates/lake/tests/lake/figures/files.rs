//! Files are merged and swept away, and no figure changes.

use super::*;

#[tokio::test]
async fn compaction_changes_files_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    for batch in 0..12 {
        commit(&lake, &events(batch * 10, 10)).await;
    }
    let before = lake.view().sizes();
    let request = all_time(&["clicks", "cost_micros", "users"], &["campaign_id", "country", "day"]);
    let expected = ask(&lake, request.clone()).await.rows;
    let settings = CompactionSettings { files_min: 4, rows_max: 10_000 };
    let mut runs = 0;
    while !lake.compact(settings).await.unwrap().is_empty() {
        runs += 1;
        assert!(runs < 50, "compaction never comes to rest");
        assert_eq!(ask(&lake, request.clone()).await.rows, expected);
        assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
    }
    let after = lake.view().sizes();
    assert!(after[0].files < before[0].files && after[0].rows == before[0].rows, "{before:?} {after:?}");
    assert!(after[1].rows < before[1].rows, "equal cells were not added up: {before:?} {after:?}");
    commit(&lake, &events(120, 10)).await;
    assert!(open(folder.path()).await.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn few_files_are_merged_once_no_more_come_and_a_large_one_not_for_tiny_ones() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at_us(T0_US));
    let lake = Lake::open(folder.path(), 1, clock.clone()).await.unwrap();
    let mut next = 0;
    // Of one day, in as many files as there are regions: three.
    let mut commit_some = async |n: u64| {
        let rows: Vec<Judged> =
            (next..next + n).map(|offset| judged(offset, u128::from(offset), T0_US, Verdict::Counted)).collect();
        next += n;
        commit(&lake, &rows).await;
    };
    let event_files = async || {
        while !lake.compact(CompactionSettings::default()).await.unwrap().is_empty() {}
        lake.view().sizes()[0].files
    };
    for _ in 0..5 {
        commit_some(90).await;
    }
    clock.advance_ms(119_999);
    assert_eq!(event_files().await, 15, "more may come");
    commit_some(90).await;
    clock.advance_ms(119_999);
    assert_eq!(event_files().await, 18, "and it did");
    clock.advance_ms(1);
    assert_eq!(event_files().await, 3);

    for _ in 0..4 {
        commit_some(3).await;
    }
    clock.advance_ms(120_000);
    assert_eq!(event_files().await, 6, "180 rows are not written anew for 4");
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn a_sweep_takes_only_what_was_unused_for_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at_us(T0_US));
    let lake = Lake::open(folder.path(), 1, clock.clone()).await.unwrap();
    for batch in 0..12 {
        commit(&lake, &events(batch * 10, 10)).await;
    }
    let settings = CompactionSettings { files_min: 4, rows_max: 10_000 };
    while !lake.compact(settings).await.unwrap().is_empty() {}
    // Written long ago, unused since just now.
    clock.advance_ms(7_200_000);
    assert_eq!(lake.sweep().await.unwrap(), 0);
    clock.advance_ms(3_599_000);
    assert_eq!(lake.sweep().await.unwrap(), 0);
    clock.advance_ms(1_000);
    assert!(lake.sweep().await.unwrap() >= 20);
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
    assert!(open(folder.path()).await.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn what_is_not_counted_yet_is_not_rearranged() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, &events(0, 4)).await;
    for from in [4, 8, 12, 16] {
        lake.commit_events(&mut EventRows::from_iter(&events(from, 4)), &positions(from), &positions(from + 4))
            .await
            .unwrap();
    }
    lake.compact(CompactionSettings { files_min: 2, rows_max: 10_000 }).await.unwrap();
    let lake = open(folder.path()).await;
    for version in lake.versions_to_count().await.unwrap() {
        let mut rollups = RollupBuilder::default();
        lake.facts(version, &mut |fact| rollups.add(fact)).await.unwrap();
        lake.commit_cells(version, &rollups.finish()).await.unwrap();
    }
    assert_eq!(ask(&lake, all_time(&["clicks"], &[])).await.rows, [[json!(20)]]);
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}
