//! A real journal as it lies on disk, and what may be made of a damaged copy of it. The format is read here by its
//! description and not by the journal's code, which is what is on trial.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use tally_journal::{Journal, Record, Stored};

use super::{PARTITIONS, open, read_all};
use crate::memory_storage::{Files, MemoryStorage};

pub const HEADER_BYTES: usize = 40;
pub const MAGIC: [u8; 4] = *b"TLYJ";
const ALIGN: usize = 8;
/// The length of a block, how many records it has, and the tag that tells one life of a segment from another.
const LENGTH_AT: usize = 12;
const RECORDS_AT: usize = 16;
const TAG: Range<usize> = 20..32;

pub struct Written {
    pub files: Files,
    pub records: Vec<Stored>,
    blocks: Vec<Block>,
}

/// A block as it was written; the first of each segment has no records.
struct Block {
    file: String,
    range: Range<usize>,
    records: usize,
}

/// What may be made of a damaged copy.
pub struct Verdict {
    /// Whether a block has a right checksum over bytes that were never written: no damage does that.
    pub forged: bool,
    /// Whether what is whole ends at one place, with no whole block after it, and every segment says where it starts.
    pub may_open: bool,
    /// The records before that place.
    pub records: usize,
    /// Whether nothing is wrong but the end of the last segment.
    pub must_open: bool,
}

impl Written {
    /// Made once: the salts differ from one run to the next, and nothing else does.
    pub fn get() -> &'static Self {
        static WRITTEN: OnceLock<Written> = OnceLock::new();
        WRITTEN.get_or_init(Self::new)
    }

    fn new() -> Self {
        let storage = MemoryStorage::default();
        let (journal, mut stepper) = open(&storage).expect("an empty storage can be opened");
        for n in 0..24_u16 {
            // From none to a hundred bytes, one to three in a block.
            let contents = |i: u16| format!("{n}.{i};").repeat(usize::from((n * 7 + i * 3) % 20));
            let record = |i| Record { partition: (n + i) % PARTITIONS, bytes: Bytes::from(contents(i)) };
            let receipt = journal.append((0..=n % 3).map(record).collect()).expect("an open journal takes records");
            stepper.step();
            receipt.wait().expect("nothing is wrong with this storage");
        }
        let records = read_all(&journal);
        drop((journal, stepper));
        let mut files = storage.files();
        files.retain(|name, _| name.ends_with(".segment"));
        assert!(files.len() > 2, "a journal of {} segments shows nothing about several", files.len());
        let blocks = files.iter().flat_map(|(name, bytes)| blocks(name, bytes)).collect();
        Self { files, records, blocks }
    }

    pub fn verdict(&self, files: &Files) -> Verdict {
        let is_whole = |block: &Block| {
            let found = files.get(&block.file).and_then(|bytes| bytes.get(block.range.clone()));
            found == Some(&self.files[&block.file][block.range.clone()])
        };
        let whole = self.blocks.iter().take_while(|block| is_whole(block)).count();
        let (before, after) = self.blocks.split_at(whole);
        let exists = |block: &Block| files.contains_key(&block.file);
        let may_open =
            !after.iter().any(is_whole) && !after.iter().any(|block| block.range.start == 0 && exists(block));
        // Only the last segment that is there may end in anything but whole blocks.
        let last = files.keys().next_back();
        let tail_only = after.iter().all(|block| !exists(block) || Some(&block.file) == last);
        let mut forged = false;
        let mut displaced = false;
        for (name, bytes) in files {
            for at in (0..bytes.len()).step_by(ALIGN) {
                let Some(block) = valid_at(bytes, at) else { continue };
                let original = self.blocks.iter().find(|known| self.files[&known.file][known.range.clone()] == *block);
                forged |= original.is_none();
                displaced |= original.is_some_and(|known| known.file == *name && known.range.start != at);
            }
        }
        let records = before.iter().map(|block| block.records).sum();
        Verdict { forged, may_open, records, must_open: may_open && tail_only && !displaced }
    }
}

pub fn segment_name(id: u64) -> String {
    format!("{id:020}.segment")
}

pub fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + HEADER_BYTES)?;
    number_at(bytes, at + LENGTH_AT)
}

/// Over everything after the checksum itself.
pub fn crc_of(block: &[u8]) -> u32 {
    crc32c::crc32c(&block[4..])
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn blocks(name: &str, bytes: &[u8]) -> Vec<Block> {
    let tag = &bytes[TAG];
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(block) = valid_at(bytes, at)
        && block[TAG] == *tag
    {
        let records = number_at(bytes, at + RECORDS_AT).unwrap_or_default();
        blocks.push(Block { file: name.to_owned(), range: at..at + block.len(), records });
        at += block.len();
    }
    blocks
}

/// The bytes from here on that have a right checksum, if any have.
fn valid_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = length_at(bytes, at)?;
    let block = bytes.get(at..at + length).filter(|block| block.len() >= HEADER_BYTES)?;
    (block[4..8] == MAGIC && number_at(block, 0) == Some(crc_of(block) as usize)).then_some(block)
}
