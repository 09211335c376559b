use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::watched::{Step, Watched};
use super::*;

/// A journal's options whose sync waits as long as the gate is held.
fn gated(folder: &Path) -> (DiskOptions, Arc<Mutex<()>>) {
    let gate = Arc::new(Mutex::new(()));
    let inside = Arc::clone(&gate);
    let before = move |step| {
        let _pass = (step == Step::Sync).then(|| inside.lock().unwrap());
        Ok(())
    };
    (Watched::options(folder, before), gate)
}

fn failing(folder: &Path) -> (DiskOptions, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let inside = Arc::clone(&broken);
    let before = move |step| match step == Step::Sync && inside.load(Ordering::SeqCst) {
        true => Err(io::Error::other("injected")),
        false => Ok(()),
    };
    (Watched::options(folder, before), broken)
}

#[test]
fn acknowledged_records_survive_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let mut lengths = 1..=120;
    for _ in 0..3 {
        let journal = open(folder.path());
        lengths.by_ref().take(40).for_each(|length| put(&journal, length as u16 % 2, length));
        drop(journal);
    }
    let journal = open(folder.path());
    let stored = read_all(&journal, &journal.start());
    assert_eq!(journal.end(), Positions::from_offsets(vec![60, 60]));
    assert_eq!(places(&stored), (0..120).map(|n| ((n + 1) as u16 % 2, n / 2)).collect::<Vec<_>>());
    assert_genuine(&stored);
    assert!(segments(folder.path()).len() > 2, "the test is meant to roll");
}

#[test]
fn records_of_concurrent_appends_get_dense_offsets_in_the_order_of_each_append() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    thread::scope(|scope| {
        for writer in 0..8u8 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..50u8 {
                    let pair = vec![record(0, [writer, n, 0]), record(1, [writer, n]), record(0, [writer, n, 1])];
                    journal.append(pair).unwrap().wait().unwrap();
                }
            });
        }
    });
    let stored = read_all(&journal, &journal.start());
    let mut next = Positions::start(2);
    let mut written = [0; 8];
    for append in stored.chunks(3) {
        let [writer, n, ..] = append[0].bytes[..] else { panic!("not ours") };
        assert_eq!(n, written[usize::from(writer)], "appends of one thread stay in order");
        written[usize::from(writer)] += 1;
        let expected = [record(0, [writer, n, 0]), record(1, [writer, n]), record(0, [writer, n, 1])];
        for (stored, expected) in append.iter().zip(expected) {
            assert_eq!((stored.partition, &stored.bytes), (expected.partition, &expected.bytes));
            assert_eq!(stored.offset, next.next(stored.partition), "offsets are dense");
            next.advance(stored.partition, stored.offset + 1);
        }
    }
    assert_eq!(next, Positions::from_offsets(vec![800, 400]));
}

#[tokio::test]
async fn a_receipt_can_be_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    journal.append(vec![record(0, "a")]).unwrap().await.unwrap();
    journal.append(vec![]).unwrap().await.unwrap();
    assert_eq!(journal.end(), Positions::from_offsets(vec![1, 0]));
}

#[test]
fn nothing_is_acknowledged_or_readable_before_its_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (options, gate) = gated(folder.path());
    let journal = DiskJournal::open(options).unwrap();
    let held = gate.lock().unwrap();
    let mut receipt = Box::pin(journal.append(vec![record(0, "a")]).unwrap());
    let mut reader = journal.reader(&journal.start()).unwrap();
    assert_eq!(reader.read(1, Duration::from_millis(50)).unwrap(), []);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(receipt.as_mut().poll(&mut context).is_pending());
    assert_eq!(journal.end(), Positions::start(2));
    drop(held);
    assert_eq!(reader.read(1, Duration::from_secs(60)).unwrap().len(), 1);
}

#[test]
fn what_arrives_during_a_sync_goes_into_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (options, gate) = gated(folder.path());
    let (reports, groups) = std::sync::mpsc::channel();
    let on_sync = Box::new(move |report: &SyncReport| reports.send(report.records).unwrap());
    let journal = DiskJournal::open(DiskOptions { on_sync, ..options }).unwrap();
    let held = gate.lock().unwrap();
    let first = journal.append(vec![record(0, "a")]).unwrap();
    // Taken by the writer, which now waits at the gate.
    eventually("the first is taken", || journal.shared.queue.is_taken());
    let rest: Vec<_> = (0..20).map(|_| journal.append(vec![record(1, "b")]).unwrap()).collect();
    drop(held);
    first.wait().unwrap();
    rest.into_iter().for_each(|receipt| receipt.wait().unwrap());
    assert_eq!(groups.try_iter().collect::<Vec<_>>(), [1, 20]);
}

#[test]
fn a_full_queue_answers_full_until_the_disk_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let (options, gate) = gated(folder.path());
    let journal = DiskJournal::open(DiskOptions { queue_bytes_max: 1000, ..options }).unwrap();
    let held = gate.lock().unwrap();
    // 106 bytes each, with the header of a record.
    let receipts: Vec<_> = (0..9).map(|_| journal.append(vec![record(0, [0; 100])]).unwrap()).collect();
    assert_eq!(journal.append(vec![record(0, [0; 100])]).err(), Some(JournalError::Full { queued_bytes: 954 }));
    drop(held);
    receipts.into_iter().for_each(|receipt| receipt.wait().unwrap());
    put(&journal, 0, 100);
    assert_eq!(journal.end().next(0), 10);
}

#[test]
fn a_log_that_nobody_releases_takes_no_more_than_it_may_and_goes_on_once_somebody_does() {
    let folder = tempfile::tempdir().unwrap();
    let options = DiskOptions { unreleased_bytes_max: 20_000, retain_bytes: 1 << 30, ..options(folder.path()) };
    let journal = DiskJournal::open(options).unwrap();
    let mut taken = 0;
    let refused = loop {
        match journal.append(vec![record(0, [0; 1_000])]) {
            Ok(receipt) => receipt.wait().unwrap(),
            Err(error) => break error,
        }
        taken += 1;
    };
    assert_eq!(refused, JournalError::Behind { unreleased_bytes: journal.unreleased_bytes() });
    assert!((10..=20).contains(&taken) && journal.fullness() >= 1.0, "{taken} were taken");
    journal.release(&journal.end()).unwrap();
    assert!(journal.fullness() < 0.3, "what is kept for replay is still counted: {}", journal.fullness());
    put(&journal, 0, 1_000);
    drop(journal);
    let options = DiskOptions { unreleased_bytes_max: 20_000, ..self::options(folder.path()) };
    let journal = DiskJournal::open(options).unwrap();
    assert_eq!(journal.fullness(), 0.0, "what is there for replay only would be in the way of a start");
    put(&journal, 0, 1_000);
    journal.release(&journal.start()).unwrap();
    assert!(journal.fullness() >= 1.0, "nothing of it is released, as it turns out");
}

#[test]
fn an_append_larger_than_a_segment_is_too_large_and_the_largest_fits() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let Err(JournalError::TooLarge { bytes_max, .. }) = journal.append(vec![record(0, vec![0; 5000])]) else {
        panic!("5000 bytes must not fit into 4096")
    };
    put(&journal, 1, bytes_max - 6);
    put(&journal, 1, bytes_max - 6);
    assert!(matches!(journal.append(vec![record(0, vec![0; bytes_max - 5])]), Err(JournalError::TooLarge { .. })));
    assert_genuine(&read_all(&journal, &journal.start()));
}

#[test]
fn a_reader_that_is_behind_gets_groups_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let journal =
        DiskJournal::open(DiskOptions { segment_bytes: 8 << 20, retain_bytes: u64::MAX, ..options(folder.path()) })
            .unwrap();
    let lengths = [10, 3 << 20, 20, (2 << 20) + 1, 1 << 20, 7 << 20, 30];
    lengths.into_iter().for_each(|length| put(&journal, 0, length));
    let stored = read_all(&journal, &journal.start());
    assert_eq!(stored.iter().map(|stored| stored.bytes.len()).collect::<Vec<_>>(), lengths);
    assert_genuine(&stored);
}

#[test]
fn a_failed_sync_poisons_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (options, broken) = failing(folder.path());
    let journal = DiskJournal::open(options).unwrap();
    put(&journal, 0, 10);
    broken.store(true, Ordering::SeqCst);
    let lost = journal.append(vec![record(0, "never acknowledged")]).unwrap().wait().unwrap_err();
    assert!(matches!(&lost, JournalError::Poisoned { cause } if cause.contains("injected")), "{lost}");
    broken.store(false, Ordering::SeqCst);
    eventually("stopped", || journal.health() == Err(lost.clone()));
    assert_eq!(journal.append(vec![record(0, "later")]).err(), Some(lost.clone()));
    // Readers get what is durable, and then the reason.
    let mut reader = journal.reader(&journal.start()).unwrap();
    assert_eq!(places(&reader.read(9, Duration::from_secs(60)).unwrap()), [(0, 0)]);
    assert_eq!(reader.read(9, Duration::from_secs(60)), Err(lost));
    assert_eq!(journal.end().next(0), 1);
    drop(journal);

    let journal = open(folder.path());
    put(&journal, 1, 10);
    assert_eq!(places(&read_all(&journal, &journal.start())).first(), Some(&(0, 0)));
}

#[test]
fn a_segment_that_cannot_be_begun_poisons() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let inside = Arc::clone(&broken);
    let before = move |step| match step == Step::SyncSpare && inside.load(Ordering::SeqCst) {
        true => Err(io::Error::other("injected")),
        false => Ok(()),
    };
    let journal = DiskJournal::open(Watched::options(folder.path(), before)).unwrap();
    eventually("a spare is ready", || journal.shared.spares.is_ready());
    broken.store(true, Ordering::SeqCst);
    let mut kept = 0;
    let lost = loop {
        match journal.append(vec![record(0, contents(0, kept, 500))]).and_then(Receipt::wait) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&lost, JournalError::Poisoned { cause } if cause.contains("begin")), "{lost}");
    drop(journal);
    assert_eq!(open(folder.path()).end().next(0), kept, "what was acknowledged is there, and nothing else");
}

#[test]
fn a_sync_that_fails_while_others_wait_acknowledges_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (options, broken) = failing(folder.path());
    let journal = DiskJournal::open(options).unwrap();
    let acknowledged = AtomicU64::new(0);
    thread::scope(|scope| {
        for partition in [0, 1, 0, 1] {
            let (journal, acknowledged) = (&journal, &acknowledged);
            scope.spawn(move || {
                while let Ok(receipt) = journal.append(vec![record(partition, "x")])
                    && receipt.wait().is_ok()
                {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        eventually("some went in", || acknowledged.load(Ordering::SeqCst) > 20);
        broken.store(true, Ordering::SeqCst);
    });
    assert_eq!(journal.end().total(), acknowledged.load(Ordering::SeqCst));
    assert!(matches!(journal.health(), Err(JournalError::Poisoned { .. })));
}

#[test]
fn closing_keeps_everything_that_was_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let receipts: Vec<_> = (0..100).map(|_| journal.append(vec![record(0, [7; 90])]).unwrap()).collect();
    journal.close();
    receipts.into_iter().for_each(|receipt| receipt.wait().unwrap());
    assert_eq!(journal.append(vec![record(0, "late")]).err(), Some(JournalError::Closed));
    assert_eq!(journal.health(), Err(JournalError::Closed));
    assert_eq!(read_all(&journal, &journal.start()).len(), 100);
    assert!(matches!(DiskJournal::open(options(folder.path())), Err(JournalError::Locked { .. })), "still being read");
    drop(journal);
    assert_eq!(open(folder.path()).end().next(0), 100);
}

#[test]
fn a_second_opener_is_locked_out() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    assert!(matches!(DiskJournal::open(options(folder.path())), Err(JournalError::Locked { .. })));
    drop(journal);
    open(folder.path());
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_space_and_poisons_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let spare = |number| folder.path().join(segment::spare_name(number));
    eventually("the first spare is ready", || journal.shared.spares.is_ready());
    // Folders in the place of the next spares: creating those fails, as it does on a full disk.
    (2..30).for_each(|number| fs::create_dir(spare(number)).unwrap());
    let mut kept = 0;
    let refused = loop {
        match journal.append(vec![record(0, contents(0, kept, 500))]).and_then(Receipt::wait) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, JournalError::Io { doing, .. } if doing.contains("prepare")), "{refused}");
    assert!(kept > 7, "two segments were there");
    assert_eq!(journal.health().unwrap_err(), refused);

    (2..30).for_each(|number| fs::remove_dir(spare(number)).unwrap());
    eventually("goes on by itself", || journal.health().is_ok());
    put(&journal, 0, 500);
    let stored = read_all(&journal, &journal.start());
    assert_eq!(stored.len() as u64, kept + 1);
    assert_genuine(&stored);
}
