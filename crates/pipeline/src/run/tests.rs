use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use tally_journal::{DiskJournal, DiskOptions, MemoryJournal, Record};
use tally_model::{
    Cell, Cells, Class, Event, Fact, Grain, Judged, Kind, ManualClock, Reason, Verdict, View, encode_record,
    partition_of, record_kept,
};
use uuid::Uuid;

use super::*;
use crate::{Batch, PersonsClick, Sighting, SinkError};

/// A lake in memory that outlives the pipelines that write to it, and fails where it is told to.
#[derive(Default)]
struct Store {
    versions: BTreeMap<i64, Vec<Judged>>,
    counted: i64,
    cells: Vec<Cell>,
    committed: Positions,
    fail_next: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    BeforeEvents,
    AnswerLost,
    BeforeCells,
    CrashBeforeCells,
}

#[derive(Clone, Default)]
struct TestSink(Arc<Mutex<Store>>);

impl TestSink {
    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }

    fn verdicts(&self, class: Class) -> usize {
        self.store().versions.values().flatten().filter(|judged| judged.verdict.class() == class).count()
    }

    fn cell_total(&self, grain: Grain, view: View) -> u64 {
        let store = self.store();
        store.cells.iter().filter(|c| c.key.grain == grain && c.key.view == view).map(|c| c.counts.received()).sum()
    }

    fn fault(&self, fault: Fault) -> bool {
        let mut store = self.store();
        let hit = store.fail_next == Some(fault);
        if hit {
            store.fail_next = None;
        }
        hit
    }
}

fn away<T>() -> Result<T, SinkError> {
    Err(SinkError::Retry("the store is away".into()))
}

impl Sink for TestSink {
    type Rows = Vec<Judged>;

    fn committed(&self) -> Positions {
        self.store().committed.clone()
    }

    async fn sightings(
        &mut self,
        _: Wanted,
        each: &mut (dyn FnMut(Sighting) + Send),
    ) -> Result<Vec<(Partition, i64)>, SinkError> {
        let mut times = BTreeMap::new();
        for judged in self.store().versions.values().flatten() {
            let time = times.entry(judged.partition).or_insert(0);
            *time = judged.judged_at_s.max(*time);
            if judged.verdict.remembers_id() {
                let Judged { partition, judged_at_s, event, .. } = judged;
                let click = PersonsClick::of(event).filter(|_| judged.verdict == Verdict::Counted);
                each(Sighting { partition: *partition, id: event.id, judged_at_s: *judged_at_s, click });
            }
        }
        Ok(times.into_iter().collect())
    }

    async fn commit_events(&mut self, batch: &mut Batch<Self::Rows>) -> Result<i64, SinkError> {
        if self.fault(Fault::BeforeEvents) {
            return away();
        }
        let mut store = self.store();
        let latest = store.versions.keys().last().copied().unwrap_or(0);
        if store.committed == batch.upto {
            return Ok(latest);
        }
        store.versions.insert(latest + 1, batch.rows.clone());
        store.committed = batch.upto.clone();
        drop(store);
        if self.fault(Fault::AnswerLost) { away() } else { Ok(latest + 1) }
    }

    async fn commit_cells(&mut self, version: i64, cells: &Cells) -> Result<(), SinkError> {
        if self.fault(Fault::BeforeCells) {
            return away();
        }
        if self.fault(Fault::CrashBeforeCells) {
            return Err(SinkError::Fatal("killed".into()));
        }
        let mut store = self.store();
        if store.counted < version {
            store.counted = version;
            store.cells.extend(cells.iter().map(|cell| cell.to_cell()));
        }
        Ok(())
    }

    async fn versions_to_count(&mut self) -> Result<Vec<i64>, SinkError> {
        let store = self.store();
        Ok(store.versions.keys().copied().filter(|version| *version > store.counted).collect())
    }

    async fn facts(&mut self, version: i64, each: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<(), SinkError> {
        self.store().versions[&version].iter().for_each(|judged| each(&judged.fact()));
        Ok(())
    }
}

async fn append(journal: &impl Journal, ids: impl IntoIterator<Item = u128>) {
    let records = ids.into_iter().map(|id| {
        let event = Event::new(Uuid::from_u128(id), Kind::Click, 1_700_000_000_000_000, "c", "a");
        Record { partition: partition_of(event.id, 4), bytes: Bytes::from(encode_record(&event)) }
    });
    journal.append(records.collect()).unwrap().await.unwrap();
}

fn pipeline(journal: Arc<dyn Journal>, sink: &TestSink) -> (Pipeline<TestSink>, watch::Receiver<Progress>) {
    let progress = watch::Sender::new(Progress::default());
    let seen = progress.subscribe();
    let pipeline = Pipeline {
        journal,
        sink: sink.clone(),
        clock: Arc::new(ManualClock::at_us(1_700_000_001_000_000)),
        settings: PipelineSettings {
            commit_after: Duration::from_millis(20),
            commit_events_max: 10,
            dedup_ttl_s: 86_400,
            double_click_ms: 10_000,
        },
        dedup: DedupOptions { folder: None, memory_bytes_max: u64::MAX, seed: 7 },
        metrics: PipelineMetrics::register(&mut Registry::default()),
        progress,
        urgency: Arc::default(),
    };
    (pipeline, seen)
}

async fn run(journal: &Arc<MemoryJournal>, sink: &TestSink) -> (Result<(), PipelineError>, Progress) {
    let (pipeline, seen) = pipeline(journal.clone(), sink);
    let ended = pipeline.run().await;
    let last = seen.borrow().clone();
    (ended, last)
}

/// A journal that holds the records and is closed: a pipeline on it runs to its end.
async fn closed_journal(ids: impl IntoIterator<Item = u128>) -> Arc<MemoryJournal> {
    let journal = Arc::new(MemoryJournal::new(4));
    append(journal.as_ref(), ids).await;
    journal.close();
    journal
}

#[tokio::test]
async fn everything_in_the_journal_is_judged_counted_and_rolled_up_once() {
    let journal = closed_journal((0..100).chain(50..60)).await;
    let sink = TestSink::default();
    let (ended, progress) = run(&journal, &sink).await;
    ended.unwrap();
    assert_eq!((sink.verdicts(Class::Counted), sink.verdicts(Class::Duplicate)), (100, 10));
    for grain in Grain::ALL {
        for view in View::ALL {
            assert_eq!(sink.cell_total(grain, view), 110, "{view:?} by {grain:?}");
        }
    }
    assert_eq!(progress.committed, journal.end());
    assert_eq!(progress.watermark_us, 1_700_000_001_000_000);
}

#[tokio::test]
async fn a_commit_that_fails_is_tried_again_and_a_lost_answer_counts_nothing_twice() {
    for fault in [Fault::BeforeEvents, Fault::AnswerLost, Fault::BeforeCells] {
        let sink = TestSink::default();
        sink.store().fail_next = Some(fault);
        run(&closed_journal(0..35).await, &sink).await.0.unwrap();
        assert_eq!(sink.verdicts(Class::Counted), 35, "{fault:?}");
        assert_eq!(sink.cell_total(Grain::Day, View::Geo), 35, "{fault:?}");
    }
}

#[tokio::test]
async fn a_crash_between_events_and_rollups_is_made_good_at_the_next_start() {
    let journal = closed_journal((0..35).chain(0..35)).await;
    let sink = TestSink::default();
    sink.store().fail_next = Some(Fault::CrashBeforeCells);
    assert!(run(&journal, &sink).await.0.is_err());
    assert_eq!((sink.cell_total(Grain::Day, View::Geo), sink.store().versions.len()), (0, 1));
    run(&journal, &sink).await.0.unwrap();
    assert_eq!((sink.verdicts(Class::Counted), sink.verdicts(Class::Duplicate)), (35, 35));
    assert_eq!(sink.cell_total(Grain::Minute, View::Campaign), 70);
}

#[tokio::test]
async fn a_double_click_in_another_partition_and_another_life_is_one_click() {
    let journal = Arc::new(MemoryJournal::new(4));
    let sink = TestSink::default();
    let click = |id: u128, second: i64| {
        let mut event = Event::new(Uuid::from_u128(id), Kind::Click, 1_700_000_000_000_000, "c", "a");
        (event.user_hash, event.occurred_at_us) = (Some(7), event.occurred_at_us + second * 1_000_000);
        Record { partition: partition_of(event.id, 4), bytes: Bytes::from(encode_record(&event)) }
    };
    let first_life: Vec<Record> = (0..8).map(|n| click(n, n as i64)).collect();
    assert!(first_life.iter().any(|record| record.partition != first_life[0].partition));
    journal.append(first_life).unwrap().await.unwrap();
    journal.close();
    run(&journal, &sink).await.0.unwrap();
    assert_eq!((sink.verdicts(Class::Counted), sink.verdicts(Class::Duplicate)), (1, 7));

    let journal = Arc::new(MemoryJournal::new(4));
    journal.append((0..8).map(|n| click(n, n as i64)).collect()).unwrap().await.unwrap();
    journal.append(vec![click(8, 9), click(9, 10), click(10, 19), click(11, 20)]).unwrap().await.unwrap();
    journal.close();
    run(&journal, &sink).await.0.unwrap();
    let store = sink.store();
    let counted: Vec<u128> = store
        .versions
        .values()
        .flatten()
        .filter(|judged| judged.verdict == Verdict::Counted)
        .map(|judged| judged.event.id.as_u128())
        .collect();
    assert_eq!(counted, [0, 9, 11]);
    let reasons = store.versions.values().flatten().filter_map(|judged| judged.verdict.reason());
    assert!(reasons.into_iter().all(|reason| reason == Reason::DoubleClick));
}

#[tokio::test]
async fn a_journal_that_is_behind_the_lake_is_refused() {
    let sink = TestSink::default();
    run(&closed_journal(0..35).await, &sink).await.0.unwrap();
    let (ended, _) = run(&closed_journal(0..3).await, &sink).await;
    assert!(matches!(ended, Err(PipelineError::JournalBehind { .. })), "{ended:?}");
}

/// Appends bytes that no event was made of.
async fn append_poison(journal: &MemoryJournal, partition: Partition, bytes: &'static [u8]) {
    let record = Record { partition, bytes: Bytes::from_static(bytes) };
    journal.append(vec![record]).unwrap().await.unwrap();
}

const POISON: [&[u8]; 3] = [&[], &[99, 1], &[1, 1, 2, 3]];

#[tokio::test]
async fn records_that_are_no_events_are_quarantined_and_block_nothing() {
    let journal = Arc::new(MemoryJournal::new(4));
    append(journal.as_ref(), 0..20).await;
    for bytes in POISON {
        append_poison(&journal, 2, bytes).await;
    }
    append(journal.as_ref(), 10..30).await;
    journal.close();
    let sink = TestSink::default();
    run(&journal, &sink).await.0.unwrap();
    let verdicts = [Class::Counted, Class::Duplicate, Class::Quarantined].map(|class| sink.verdicts(class));
    assert_eq!(verdicts, [30, 10, 3]);
    assert_eq!(sink.store().committed, journal.end(), "every offset is in");
    assert_eq!(sink.cell_total(Grain::Minute, View::Campaign), 43, "and in the rollups");
    let store = sink.store();
    let rows: Vec<_> =
        store.versions.values().flatten().filter(|row| row.verdict == Verdict::Not(Reason::Undecodable)).collect();
    for (row, bytes) in rows.iter().zip(POISON) {
        assert_eq!(row.partition, 2);
        assert_eq!(record_kept(row.event.props.as_deref().unwrap()).as_deref(), Some(bytes), "the record is kept");
        assert_eq!(row.event.received_at_us, 1_700_000_000_000_000, "at the partition's time");
    }
}

#[tokio::test]
async fn a_restart_after_poison_decides_as_an_unbroken_run() {
    let rows = |sink: &TestSink| -> Vec<_> {
        let row =
            |judged: &Judged| (judged.partition, judged.offset, judged.judged_at_s, judged.event.id, judged.verdict);
        let mut rows: Vec<_> = sink.store().versions.values().flatten().map(row).collect();
        rows.sort_by_key(|(partition, offset, ..)| (*partition, *offset));
        rows
    };
    let poisoned = async || {
        let journal = Arc::new(MemoryJournal::new(4));
        // Also as the first of its partition, which has no time yet then.
        append_poison(&journal, 1, POISON[1]).await;
        append(journal.as_ref(), 0..35).await;
        append_poison(&journal, 3, POISON[2]).await;
        append(journal.as_ref(), 0..35).await;
        journal.close();
        journal
    };
    let (unbroken, restarted) = (TestSink::default(), TestSink::default());
    run(&poisoned().await, &unbroken).await.0.unwrap();
    restarted.store().fail_next = Some(Fault::CrashBeforeCells);
    let journal = poisoned().await;
    assert!(run(&journal, &restarted).await.0.is_err());
    run(&journal, &restarted).await.0.unwrap();
    assert_eq!(rows(&restarted), rows(&unbroken));
    assert_eq!(restarted.verdicts(Class::Quarantined), 2);
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_for_a_while_is_read_later() {
    let folder = tempfile::tempdir().unwrap();
    let journal = DiskJournal::open(DiskOptions::new(folder.path(), 4)).unwrap();
    append(journal.as_ref(), 0..35).await;
    // A folder in the segment's place: it is there, and cannot be opened.
    let segment = folder.path().join("00000000000000000001.segment");
    let aside = folder.path().join("aside");
    std::fs::rename(&segment, &aside).unwrap();
    std::fs::create_dir(&segment).unwrap();
    let sink = TestSink::default();
    let (pipeline, _) = pipeline(journal.clone(), &sink);
    let retries = pipeline.metrics.read_retries.clone();
    let mending = async {
        while retries.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::fs::remove_dir(&segment).unwrap();
        std::fs::rename(&aside, &segment).unwrap();
        tokio::task::spawn_blocking(move || journal.close()).await.unwrap();
        Ok(())
    };
    // Ends early with an error, should the pipeline give up.
    tokio::try_join!(pipeline.run(), mending).unwrap();
    assert_eq!(sink.verdicts(Class::Counted), 35);
}

/// Ids of half a day, one after the other, so that there is a step of upkeep for each.
async fn append_half_a_day(journal: &MemoryJournal, ids: std::ops::Range<u128>) {
    for id in ids {
        let mut event = Event::new(Uuid::from_u128(id), Kind::Click, 1_700_000_000_000_000, "c", "a");
        event.received_at_us += id as i64 * 10_000_000;
        let record = Record { partition: partition_of(event.id, 4), bytes: Bytes::from(encode_record(&event)) };
        journal.append(vec![record]).unwrap().await.unwrap();
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_ids_that_is_damaged_makes_judging_begin_again_and_nothing_is_counted_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, sink) = (Arc::new(MemoryJournal::new(4)), TestSink::default());
    let metrics = PipelineMetrics::register(&mut Registry::default());
    let pipeline = Pipeline {
        dedup: DedupOptions { folder: Some(folder.path().to_owned()), memory_bytes_max: 0, seed: 7 },
        metrics: metrics.clone(),
        ..pipeline(journal.clone(), &sink).0
    };
    let sending = async {
        append_half_a_day(&journal, 0..4_000).await;
        let mut damaged = 0;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "run") {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[100] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "no ids were written to disk");
        append(journal.as_ref(), 0..100).await;
        journal.close();
    };
    let (ended, ()) = tokio::join!(pipeline.run(), sending);
    ended.unwrap();
    assert_eq!((sink.verdicts(Class::Counted), sink.verdicts(Class::Duplicate)), (4_000, 100));
    assert!(metrics.dedup_restarts.get() > 0, "the damage was not noticed");
}
