use std::sync::atomic::{AtomicBool, Ordering};

use super::watched::{Step, Watched};
use super::*;

#[test]
fn released_segments_are_recycled_and_their_old_records_never_return() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    for n in 0..200 {
        put(&journal, n % 2, 300);
        journal.release(&journal.end()).unwrap();
        assert!(segments(folder.path()).len() <= 4, "files pile up: {:?}", segments(folder.path()));
    }
    let (start, end) = (journal.start(), journal.end());
    assert_eq!(end.total(), 200);
    let stored = read_all(&journal, &start);
    assert_genuine(&stored);
    assert_eq!(stored.len() as u64, end.total() - start.total());
    drop(journal);
    let journal = open(folder.path());
    assert_eq!((journal.start(), journal.end()), (start, end));
    assert_eq!(read_all(&journal, &journal.start()), stored);
}

#[test]
fn a_new_segment_is_made_from_an_old_one() {
    let folder = tempfile::tempdir().unwrap();
    // Step by step: by themselves, the threads may zero a spare before the old segment is let go.
    let (journal, mut stepper) = DiskJournal::open_stepped(options(folder.path())).unwrap();
    // The last segment stays half full.
    for n in 0..205 {
        let receipt = journal.append(vec![record(n % 2, vec![b'x'; 300])]).unwrap();
        stepper.step();
        receipt.wait().unwrap();
        journal.release(&journal.end()).unwrap();
    }
    let last = journal.shared.log.last().unwrap();
    let bytes = fs::read(segment_path(folder.path(), last.tag.segment)).unwrap();
    // Behind its own blocks there is something: the remains of an earlier life.
    assert!(bytes[last.durable_bytes as usize..].iter().any(|byte| *byte != 0));
}

#[test]
fn a_segment_of_another_length_is_not_recycled() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    (0..60).for_each(|n| put(&journal, n % 2, 300));
    drop(journal);
    let journal = DiskJournal::open(DiskOptions { segment_bytes: 8192, ..options(folder.path()) }).unwrap();
    for n in 0..60 {
        put(&journal, n % 2, 300);
        journal.release(&journal.end()).unwrap();
    }
    drop(journal);
    for id in segments(folder.path()) {
        assert_eq!(fs::metadata(segment_path(folder.path(), id)).unwrap().len(), 8192, "segment {id}");
    }
}

#[test]
fn what_is_not_released_in_every_partition_stays() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    (0..60).for_each(|n| put(&journal, n % 2, 300));
    journal.release(&Positions::from_offsets(vec![30, 3])).unwrap();
    assert_eq!(journal.start(), Positions::start(2));
    journal.release(&Positions::from_offsets(vec![30, 20])).unwrap();
    let start = journal.start();
    assert!(start.next(1) > 0 && start.next(1) <= 20, "{start:?}");
    assert_eq!(read_all(&journal, &start).len() as u64, 60 - start.total());
}

#[test]
fn what_is_retained_stays_for_replay() {
    let folder = tempfile::tempdir().unwrap();
    let journal = DiskJournal::open(DiskOptions { retain_bytes: 10_000, ..options(folder.path()) }).unwrap();
    (0..100).for_each(|n| put(&journal, n % 2, 300));
    journal.release(&journal.end()).unwrap();
    let stored = read_all(&journal, &journal.start());
    let bytes: usize = stored.iter().map(|stored| stored.bytes.len()).sum();
    assert!((8_000..16_000).contains(&bytes), "kept {bytes}");
}

#[test]
fn a_reader_that_fell_behind_what_is_held_is_told_and_gets_no_wrong_record() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    (0..60).for_each(|n| put(&journal, n % 2, 300));
    let mut behind = journal.reader(&journal.start()).unwrap();
    assert_eq!(places(&behind.read(1, Duration::ZERO).unwrap()), [(0, 0)]);
    for n in 0..100 {
        put(&journal, n % 2, 300);
        journal.release(&journal.end()).unwrap();
    }
    let mut given = Vec::new();
    let error = loop {
        match behind.read(1, Duration::ZERO) {
            Ok(some) => given.extend(some),
            Err(error) => break error,
        }
    };
    assert_genuine(&given);
    assert!(given.len() < 20, "it held at most what it had read ahead");
    let start = journal.start();
    assert!(
        matches!(error, JournalError::Trimmed { partition, start: at, .. } if at == start.next(partition)),
        "{error}"
    );
    assert!(matches!(journal.reader(&Positions::start(2)), Err(JournalError::Trimmed { .. })));
}

#[test]
fn a_segment_recycled_between_a_readers_look_at_the_log_and_its_read_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    put(&journal, 0, 300);
    put(&journal, 0, 300);
    let before = journal.shared.log.last().unwrap();
    let mut reader = DiskReader::new(Arc::clone(&journal.shared), &journal.start()).unwrap();
    assert_eq!(reader.read(10, Duration::ZERO).unwrap().len(), 2);
    // Blocks are of one length, so that those of the next life begin where those of this one did.
    for _ in 0..200 {
        put(&journal, 0, 300);
        journal.release(&journal.end()).unwrap();
    }
    assert!(!journal.shared.log.holds(before.tag.segment));
    reader.read_blocks(u64::from(SEGMENT_BYTES)).unwrap();
    assert!(matches!(reader.read(10, Duration::ZERO), Err(JournalError::Trimmed { partition: 0, wanted: 2, .. })));
}

#[test]
fn a_reader_that_has_seen_all_of_a_trimmed_segment_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let mut reader = journal.reader(&journal.start()).unwrap();
    let mut given = Vec::new();
    for n in 0..100 {
        put(&journal, n % 2, 300);
        given.extend(reader.read(10, Duration::from_secs(60)).unwrap());
        journal.release(&journal.end()).unwrap();
    }
    assert_eq!(places(&given), (0..100).map(|n| (n % 2, u64::from(n / 2))).collect::<Vec<_>>());
    assert_genuine(&given);
}

#[test]
fn readers_racing_with_the_recycling_get_right_records_or_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    thread::scope(|scope| {
        for records_max in [1, 3, 50] {
            let journal = &journal;
            scope.spawn(move || {
                let (mut given, mut trimmed) = (0, 0);
                'restart: loop {
                    let Ok(mut reader) = journal.reader(&journal.start()) else { continue };
                    loop {
                        match reader.read(records_max, Duration::from_millis(1)) {
                            Ok(stored) => {
                                assert_genuine(&stored);
                                given += stored.len();
                            }
                            Err(JournalError::Trimmed { .. }) => {
                                trimmed += 1;
                                continue 'restart;
                            }
                            Err(JournalError::Closed) => break 'restart,
                            Err(error) => panic!("{error}"),
                        }
                        thread::yield_now();
                    }
                }
                assert!(given > 0, "read nothing, trimmed {trimmed} times");
            });
        }
        let mut receipts = Vec::new();
        for n in 0..3000 {
            let offset = n / 2;
            let partition = (n % 2) as u16;
            receipts.push(journal.append(vec![record(partition, contents(partition, offset, 250))]).unwrap());
            if n % 5 == 0 {
                receipts.drain(..).for_each(|receipt| receipt.wait().unwrap());
                journal.release(&journal.end()).unwrap();
            }
        }
        journal.close();
    });
    assert_eq!(journal.end().total(), 3000);
}

#[test]
fn a_reader_ahead_of_the_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    put(&journal, 0, 10);
    assert!(journal.reader(&Positions::from_offsets(vec![1, 0])).is_ok());
    let ahead = journal.reader(&Positions::from_offsets(vec![2, 0]));
    assert!(matches!(ahead, Err(JournalError::Corrupt { .. })));
}

#[test]
fn a_segment_that_cannot_be_recycled_for_want_of_file_descriptors_is_recycled_once_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let starved = Arc::new(AtomicBool::new(false));
    let inside = Arc::clone(&starved);
    let before = move |step| match step == Step::Open && inside.load(Ordering::SeqCst) {
        true => Err(io::Error::from_raw_os_error(24)),
        false => Ok(()),
    };
    let journal = DiskJournal::open(Watched::options(folder.path(), before)).unwrap();
    (0..60).for_each(|n| put(&journal, n % 2, 300));
    eventually("a spare is ready", || journal.shared.spares.is_ready());
    starved.store(true, Ordering::SeqCst);
    journal.release(&journal.end()).unwrap();
    eventually("recycling failed", || journal.shared.spares.is_failing());
    let kept = segments(folder.path());
    assert_eq!(kept[0], 1, "nothing has gone: {kept:?}");

    starved.store(false, Ordering::SeqCst);
    eventually("the released segments have gone", || segments(folder.path()).len() == 1);
    put(&journal, 0, 300);
    drop(journal);
    // The next start refuses a log with a gap in it.
    assert_eq!(open(folder.path()).end().total(), 61);
}
