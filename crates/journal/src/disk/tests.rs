//! Claims about the journal as a whole. What recovery makes of damaged bytes is claimed in `recover/tests.rs`.

mod damage;
mod durability;
mod model;
mod trimming;
mod watched;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::Stored;

const SEGMENT_BYTES: u32 = 4096;

fn options(folder: &Path) -> DiskOptions {
    DiskOptions { segment_bytes: SEGMENT_BYTES, retain_bytes: 0, ..DiskOptions::new(folder, 2) }
}

fn open(folder: &Path) -> Arc<DiskJournal> {
    DiskJournal::open(options(folder)).unwrap()
}

fn record(partition: u16, bytes: impl Into<Vec<u8>>) -> Record {
    Record { partition, bytes: Bytes::from(bytes.into()) }
}

/// Appends one record of this many bytes whose contents follow from its offset, and waits for it.
fn put(journal: &DiskJournal, partition: u16, length: usize) {
    let offset = journal.end().next(partition);
    journal.append(vec![record(partition, contents(partition, offset, length))]).unwrap().wait().unwrap();
}

fn contents(partition: u16, offset: u64, length: usize) -> Vec<u8> {
    let mark = format!("{partition}:{offset};");
    mark.bytes().cycle().take(length.max(mark.len())).collect()
}

fn assert_genuine(stored: &[Stored]) {
    for Stored { partition, offset, bytes } in stored {
        assert_eq!(&bytes[..], contents(*partition, *offset, bytes.len()), "partition {partition} offset {offset}");
    }
}

fn read_all(journal: &DiskJournal, from: &Positions) -> Vec<Stored> {
    let mut reader = journal.reader(from).unwrap();
    let mut all = Vec::new();
    loop {
        match reader.read(7, Duration::ZERO) {
            Ok(some) if !some.is_empty() => all.extend(some),
            Ok(_) | Err(JournalError::Closed | JournalError::Poisoned { .. }) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

fn places(stored: &[Stored]) -> Vec<(u16, u64)> {
    stored.iter().map(|stored| (stored.partition, stored.offset)).collect()
}

fn segments(folder: &Path) -> Vec<u64> {
    segment::list(&OsFolder::new(folder)).unwrap().0
}

fn segment_path(folder: &Path, id: u64) -> PathBuf {
    folder.join(segment::name(id))
}

/// What the background threads do shows after a while.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "never happened: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
