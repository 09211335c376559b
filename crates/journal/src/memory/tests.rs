use std::thread;

use bytes::Bytes;

use super::*;

fn record(partition: u16, bytes: &'static str) -> Record {
    Record { partition, bytes: Bytes::from(bytes) }
}

fn texts(stored: &[Stored]) -> Vec<(u16, u64, &str)> {
    stored.iter().map(|s| (s.partition, s.offset, std::str::from_utf8(&s.bytes).unwrap())).collect()
}

#[test]
fn offsets_are_dense_in_each_partition() {
    let journal = MemoryJournal::new(2);
    journal.append(vec![record(0, "a"), record(1, "b"), record(0, "c")]).unwrap().wait().unwrap();
    let mut reader = journal.reader(&journal.start()).unwrap();
    let stored = reader.read(10, Duration::ZERO).unwrap();
    assert_eq!(texts(&stored), [(0, 0, "a"), (1, 0, "b"), (0, 1, "c")]);
    assert_eq!(journal.end(), Positions::from_offsets(vec![2, 1]));
}

#[test]
fn a_reader_starts_where_it_was_told_in_each_partition() {
    let journal = MemoryJournal::new(2);
    journal.append(vec![record(0, "a"), record(1, "b"), record(0, "c"), record(1, "d")]).unwrap().wait().unwrap();
    let mut reader = journal.reader(&Positions::from_offsets(vec![2, 1])).unwrap();
    assert_eq!(texts(&reader.read(10, Duration::ZERO).unwrap()), [(1, 1, "d")]);
}

#[test]
fn a_waiting_reader_wakes_for_a_record() {
    let journal = Arc::new(MemoryJournal::new(1));
    let mut reader = journal.reader(&journal.start()).unwrap();
    let appending = Arc::clone(&journal);
    let thread = thread::spawn(move || appending.append(vec![record(0, "late")]).unwrap().wait().unwrap());
    assert_eq!(reader.read(1, Duration::from_secs(60)).unwrap().len(), 1);
    thread.join().unwrap();
    assert_eq!(reader.read(1, Duration::ZERO).unwrap(), []);
}

#[test]
fn what_is_released_is_trimmed_and_a_reader_below_it_is_told() {
    let journal = MemoryJournal::new(1);
    let mut behind = journal.reader(&journal.start()).unwrap();
    journal.append(vec![record(0, "a"), record(0, "b"), record(0, "c")]).unwrap().wait().unwrap();
    journal.release(&Positions::from_offsets(vec![2])).unwrap();
    let trimmed = JournalError::Trimmed { partition: 0, wanted: 0, start: 2 };
    assert_eq!(behind.read(1, Duration::ZERO), Err(trimmed.clone()));
    assert_eq!(journal.reader(&Positions::start(1)).err(), Some(trimmed));
    let mut reader = journal.reader(&journal.start()).unwrap();
    assert_eq!(texts(&reader.read(9, Duration::ZERO).unwrap()), [(0, 2, "c")]);
}

#[test]
fn a_closed_journal_gives_what_it_has_and_then_says_so() {
    let journal = MemoryJournal::new(1);
    journal.append(vec![record(0, "a")]).unwrap().wait().unwrap();
    journal.close();
    assert_eq!(journal.append(vec![record(0, "b")]).err(), Some(JournalError::Closed));
    let mut reader = journal.reader(&journal.start()).unwrap();
    assert_eq!(reader.read(9, Duration::ZERO).unwrap().len(), 1);
    assert_eq!(reader.read(9, Duration::from_secs(60)), Err(JournalError::Closed));
}

#[test]
fn a_partition_that_does_not_exist_is_refused() {
    let journal = MemoryJournal::new(2);
    assert!(matches!(journal.append(vec![record(2, "a")]), Err(JournalError::Io { .. })));
}
