//! The journal over damaged segments. The first byte says how the rest is taken:
//!
//! - as damage to a real journal of several segments. It must open with genuine records that form a prefix of what was
//!   written and end where no untouched block follows, or refuse as corrupt; and it must open where all that is wrong is
//!   the tail;
//! - as a segment of its own, plain, or with its checksums made right, so that what they guard is reached. It may open or
//!   refuse, but what it gives must stand in the file, and be there again after the next append.

mod damage;
mod written;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tally_journal::{DiskJournal, DiskOptions, Journal, JournalError, Record, Stepper, Stored};

use crate::memory_storage::{Files, MemoryStorage};
use damage::Damage;
use written::{HEADER_BYTES, Written, crc_of, length_at, segment_name};

const PARTITIONS: u16 = 2;
/// Small, so that a few records make several segments and any byte of them is within reach.
const SEGMENT_BYTES: u32 = 1024;

pub fn check(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 3 {
        0 => check_damaged(&Damage::parse(rest)),
        1 => check_foreign(rest.to_vec()),
        _ => check_foreign(sealed(rest.to_vec())),
    }
}

fn check_damaged(damage: &[Damage]) {
    let written = Written::get();
    let mut files = written.files.clone();
    for damage in damage {
        damage.apply(&mut files, &written.files);
    }
    let verdict = written.verdict(&files);
    let storage = MemoryStorage::holding(&files);
    match open(&storage) {
        Ok((journal, stepper)) => {
            let stored = read_all(&journal);
            assert_eq!(journal.end().total(), stored.len() as u64, "the end is not where the records end");
            if !verdict.forged {
                assert!(verdict.may_open, "opened with {} records over a hole: {damage:?}", stored.len());
                assert_eq!(stored, written.records[..verdict.records], "not what was written: {damage:?}");
            }
            check_goes_on(&storage, journal, stepper, stored);
        }
        Err(error) if verdict.forged => drop(error),
        Err(error) => {
            assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
            assert!(!verdict.must_open, "a torn tail was refused: {error}; {damage:?}");
        }
    }
}

fn check_foreign(bytes: Vec<u8>) {
    let storage = MemoryStorage::holding(&Files::from([(segment_name(1), bytes.clone())]));
    let Ok((journal, stepper)) = open(&storage) else { return };
    let (start, end) = (journal.start(), journal.end());
    let stored = read_all(&journal);
    let mut next = start;
    for record in &stored {
        assert_eq!(record.offset, next.next(record.partition), "offsets of partition {} have a gap", record.partition);
        next.advance(record.partition, record.offset + 1);
        let is_there = record.bytes.is_empty() || bytes.windows(record.bytes.len()).any(|bytes| bytes == record.bytes);
        assert!(is_there, "a record that is not in the file");
    }
    assert_eq!(next, end, "the end is not where the records end");
    check_goes_on(&storage, journal, stepper, stored);
}

/// What was found stays, and what is appended follows it, also after the next start.
fn check_goes_on(storage: &MemoryStorage, journal: Arc<DiskJournal>, mut stepper: Stepper, mut stored: Vec<Stored>) {
    let record = Record { partition: 1, bytes: Bytes::from_static(b"written after the damage") };
    let offset = journal.end().next(record.partition);
    let receipt = journal.append(vec![record.clone()]).expect("an open journal takes records");
    stepper.step();
    receipt.wait().expect("nothing is wrong with this storage");
    stored.push(Stored { partition: record.partition, offset, bytes: record.bytes });
    assert_eq!(read_all(&journal), stored, "before the restart");
    drop((journal, stepper));
    let (journal, _stepper) = open(storage).expect("what was open can be opened again");
    assert_eq!(read_all(&journal), stored, "after the restart");
}

fn open(storage: &MemoryStorage) -> Result<(Arc<DiskJournal>, Stepper), JournalError> {
    let options = DiskOptions::on(Arc::new(storage.clone()), PARTITIONS);
    DiskJournal::open_stepped(DiskOptions { segment_bytes: SEGMENT_BYTES, ..options })
}

fn read_all(journal: &DiskJournal) -> Vec<Stored> {
    let mut reader = journal.reader(&journal.start()).expect("the start can be read from");
    let mut all = Vec::new();
    loop {
        // A few at a time, so that calls end within blocks as well.
        let some = reader.read(3, Duration::ZERO).expect("what recovery took can be read");
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// The same bytes with the magic and checksum of each block made right, as far as their lengths lead.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(length) = length_at(&bytes, at)
        && length >= HEADER_BYTES
        && at + length <= bytes.len()
    {
        bytes[at + 4..at + 8].copy_from_slice(&written::MAGIC);
        let crc = crc_of(&bytes[at..at + length]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += length;
    }
    bytes
}
