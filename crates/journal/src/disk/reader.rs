//! Reads durable blocks in order, with a file handle of its own, and verifies every one.
//!
//! A segment may be trimmed and recycled under a reader that has fallen behind. Then its blocks fail the check (another
//! tag), the log no longer holds the segment, and the reader says so instead of giving wrong records.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tally_model::Positions;

use super::block::{self, HEADER_BYTES, Tag};
use super::log::Beyond;
use super::segment::{self, Segment};
use super::storage::StoredFile;
use super::{Shared, recover};
use crate::{JournalError, Reader, Stored};

/// Read at once, unless a single block is longer.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Bounds what one call gives, and so what it holds in memory.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

pub struct DiskReader {
    shared: Arc<Shared>,
    /// The offset to give next, per partition; blocks may hold earlier ones.
    wanted: Positions,
    place: Place,
    ready: VecDeque<Stored>,
    ready_bytes: usize,
}

/// Where the next block is, and what it must begin with.
struct Place {
    tag: Tag,
    at: u64,
    base: Positions,
    file: Option<Arc<dyn StoredFile>>,
}

impl Place {
    fn start_of(segment: Segment, partitions: u16) -> Self {
        let at = block::overhead_bytes(partitions) as u64;
        Self { tag: segment.tag, at, base: segment.start, file: None }
    }
}

impl DiskReader {
    pub fn new(shared: Arc<Shared>, from: &Positions) -> Result<Self, JournalError> {
        let place = Place::start_of(shared.log.seek(from)?, shared.partitions);
        Ok(Self { shared, wanted: from.clone(), place, ready: VecDeque::new(), ready_bytes: 0 })
    }

    /// One step towards more records; false if there was none for so long.
    fn step(&mut self, wait: Duration) -> Result<bool, JournalError> {
        match self.shared.log.beyond(self.place.tag.segment, self.place.at, wait)? {
            Beyond::Blocks(durable_bytes) => self.read_blocks(durable_bytes)?,
            Beyond::Segment(segment) => self.place = Place::start_of(segment, self.shared.partitions),
            // Nothing is lost yet: everything of it may have been read, or not been wanted.
            Beyond::Trimmed => {
                self.place = Place::start_of(self.shared.log.seek(&self.wanted)?, self.shared.partitions);
            }
            Beyond::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// Takes the blocks from here on, as far as one chunk goes; none if the segment went meanwhile.
    pub fn read_blocks(&mut self, durable_bytes: u64) -> Result<(), JournalError> {
        let left = usize::try_from(durable_bytes - self.place.at).unwrap_or(usize::MAX);
        let mut length = left;
        if left > CHUNK_BYTES {
            let Some(header) = self.fetch(HEADER_BYTES)? else { return self.check_held() };
            length = block_bytes(&header).unwrap_or_default().clamp(CHUNK_BYTES, left);
        }
        let Some(chunk) = self.fetch(length)? else { return self.check_held() };
        let mut taken = 0;
        // A block that the chunk cuts off is read next time, from its beginning.
        while taken == 0 || block_bytes(&chunk[taken..]).is_some_and(|length| taken + length <= chunk.len()) {
            let Some(length) = self.take_block(&chunk.slice(taken..)) else { return self.check_held() };
            taken += length;
        }
        Ok(())
    }

    /// Verifies a block and takes its records; gives its length.
    fn take_block(&mut self, bytes: &Bytes) -> Option<usize> {
        let block = block::decode(bytes).ok()?;
        if block.tag != self.place.tag || block.base != self.place.base {
            return None;
        }
        for placed in block.records {
            if placed.offset >= self.wanted.next(placed.partition) {
                self.wanted.advance(placed.partition, placed.offset + 1);
                self.ready_bytes += placed.bytes.len();
                let bytes = bytes.slice(placed.bytes);
                self.ready.push_back(Stored { partition: placed.partition, offset: placed.offset, bytes });
            }
        }
        self.place.at += block.length as u64;
        self.place.base = block.end;
        Some(block.length)
    }

    /// The next bytes of the segment; none if they are not there (any more).
    fn fetch(&mut self, length: usize) -> Result<Option<Bytes>, JournalError> {
        let name = segment::name(self.place.tag.segment);
        let fetched = match &self.place.file {
            Some(file) => Ok(file),
            None => self.shared.storage.open(&name).map(|file| &*self.place.file.insert(file)),
        }
        .and_then(|file| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, self.place.at).map(|()| Bytes::from(bytes))
        });
        match fetched {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(None),
            Err(error) => {
                let path = self.shared.storage.path(&name);
                Err(segment::io_error(format!("read journal segment `{}`", path.display()), &error))
            }
        }
    }

    /// What stood here was durable. Only if the segment was let go meanwhile, it is right that it has gone.
    fn check_held(&self) -> Result<(), JournalError> {
        if !self.shared.log.holds(self.place.tag.segment) {
            return Ok(());
        }
        // The folder may be in other hands by now.
        if let Some(why) = self.shared.log.stopped() {
            return Err(why);
        }
        let path = self.shared.storage.path(&segment::name(self.place.tag.segment));
        Err(recover::corrupt(&path, self.place.at, "a durable block is broken"))
    }
}

/// What the front of these bytes says about its block's length.
fn block_bytes(bytes: &[u8]) -> Option<usize> {
    block::peek(bytes).map(|header| header.length)
}

impl Reader for DiskReader {
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Stored>, JournalError> {
        let began = Instant::now();
        while self.ready.len() < records_max && self.ready_bytes < READ_BYTES_MAX {
            // Only the first record is worth a wait.
            let wait = if self.ready.is_empty() { wait.saturating_sub(began.elapsed()) } else { Duration::ZERO };
            match self.step(wait) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if self.ready.is_empty() => return Err(error),
                // It comes again with the next call, after what was read before it.
                Err(_) => break,
            }
        }
        let given: Vec<_> = self.ready.drain(..records_max.min(self.ready.len())).collect();
        self.ready_bytes -= given.iter().map(|stored| stored.bytes.len()).sum::<usize>();
        Ok(given)
    }
}
