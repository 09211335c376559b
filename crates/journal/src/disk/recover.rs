//! What the folder holds: every whole block is kept, a torn tail is cut, anything else that is broken is refused.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tally_model::Positions;
use tracing::{info, warn};

use super::block::{self, ALIGN, Block, Damage, HEADER_BYTES, Tag, VERSION};
use super::segment::{self, Segment, io_error};
use super::storage::{Storage, StoredFile};
use crate::JournalError;

/// The segments found, oldest first, and the file of the last one. All empty for a new journal.
pub struct Recovered {
    pub segments: VecDeque<Segment>,
    pub end: Positions,
    pub file: Option<Arc<dyn StoredFile>>,
}

/// What a segment holds from its first block on.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    pub end: Positions,
    pub durable_bytes: usize,
    pub last_block_at: usize,
}

/// A broken block with a valid one after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap {
    pub broken_at: usize,
    pub valid_at: usize,
}

pub fn recover(storage: &dyn Storage, partitions: u16) -> Result<Recovered, JournalError> {
    let folder = storage.path("");
    let (ids, spares) = segment::list(storage).map_err(|error| failed("list", &folder, &error))?;
    for spare in spares {
        storage.remove(&spare).map_err(|error| failed("remove", &storage.path(&spare), &error))?;
    }
    let mut recovered = Recovered { segments: VecDeque::new(), end: Positions::start(partitions), file: None };
    for (at, &id) in ids.iter().enumerate() {
        let path = storage.path(&segment::name(id));
        if let Some(previous) = recovered.segments.back()
            && previous.tag.segment + 1 != id
        {
            let missing = storage.path(&segment::name(previous.tag.segment + 1));
            return Err(corrupt(&missing, 0, "the segment is missing, though later ones are there"));
        }
        let file = storage.open(&segment::name(id)).map_err(|error| failed("open", &path, &error))?;
        let bytes = read_all(file.as_ref()).map_err(|error| failed("read", &path, &error))?;

        let first = first_block(&path, id, &bytes, partitions)?;
        if at > 0 && first.base != recovered.end {
            let previous = storage.path(&segment::name(id - 1));
            let held = recovered.segments.back().map_or(0, |segment| segment.durable_bytes);
            let what = format!("no valid block, though `{}` goes on after more of them", path.display());
            return Err(corrupt(&previous, held, &what));
        }
        let scan = scan(&bytes, &first).map_err(|gap| {
            let what = format!("a broken block with a valid one after it, at byte {}", gap.valid_at);
            corrupt(&path, gap.broken_at as u64, &what)
        })?;
        if at + 1 == ids.len() {
            settle(&path, file.as_ref(), &bytes, &first, &scan)?;
            recovered.file = Some(file);
        }
        let durable_bytes = scan.durable_bytes as u64;
        recovered.segments.push_back(Segment { tag: first.tag, start: first.base, durable_bytes });
        recovered.end = scan.end;
    }
    // A rename may have happened without having been synced.
    storage.sync().map_err(|error| failed("sync", &folder, &error))?;
    info!(segments = ids.len(), records = recovered.end.total(), "journal recovered");
    Ok(recovered)
}

fn read_all(file: &dyn StoredFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The block that says where a segment starts. It was synced before the file got its name, so it must be there.
fn first_block(path: &Path, id: u64, bytes: &[u8], partitions: u16) -> Result<Block, JournalError> {
    let first = match block::decode(bytes) {
        Ok(first) if first.tag.segment == id && first.records.is_empty() => first,
        Ok(_) => return Err(corrupt(path, 0, "the first block belongs to another segment")),
        Err(Damage::Bytes) => return Err(corrupt(path, 0, "the first block is broken")),
        Err(Damage::Version(version)) => {
            let cause = format!("it has format {version}, this program knows {VERSION}; use the program that wrote it");
            return Err(JournalError::Io { doing: format!("open journal segment `{}`", path.display()), cause });
        }
    };
    let made_with = first.base.partitions();
    if made_with != partitions {
        return Err(JournalError::Io {
            doing: format!("open journal segment `{}` with {partitions} partitions", path.display()),
            cause: format!(
                "it was made with {made_with}; set the partitions back to {made_with}, or move the folder away to \
                 start an empty journal"
            ),
        });
    }
    Ok(first)
}

/// Walks over the valid blocks. If one is found beyond the first broken one, the damage is not a torn tail.
pub fn scan(bytes: &[u8], first: &Block) -> Result<Scan, Gap> {
    let mut scan = Scan { end: first.end.clone(), durable_bytes: first.length, last_block_at: 0 };
    while let Some(block) = valid(bytes, scan.durable_bytes, first.tag)
        && block.base == scan.end
        && !block.records.is_empty()
    {
        scan.last_block_at = scan.durable_bytes;
        scan.durable_bytes += block.length;
        scan.end = block.end;
    }
    let broken_at = scan.durable_bytes;
    match (broken_at..bytes.len()).step_by(ALIGN).find(|at| valid(bytes, *at, first.tag).is_some()) {
        Some(valid_at) => Err(Gap { broken_at, valid_at }),
        None => Ok(scan),
    }
}

fn valid(bytes: &[u8], at: usize, tag: Tag) -> Option<Block> {
    let bytes = bytes.get(at..)?;
    block::peek(bytes).filter(|header| header.tag == tag)?;
    block::decode(bytes).ok()
}

/// Makes the last segment's tail what it was found to be, on disk.
fn settle(path: &Path, file: &dyn StoredFile, bytes: &[u8], first: &Block, scan: &Scan) -> Result<(), JournalError> {
    let tail = &bytes[scan.durable_bytes..bytes.len().min(scan.durable_bytes + HEADER_BYTES)];
    if block::peek(tail).is_some_and(|header| header.tag == first.tag) {
        warn!(segment = %path.display(), at = scan.durable_bytes, "torn tail cut; it was never acknowledged");
    }
    // The last block may be in the page cache only: of a process that died before its sync, or whose sync failed, after
    // which the kernel takes the pages for clean. Written once more, they are dirty and this sync is an honest one.
    let last = &bytes[scan.last_block_at..scan.durable_bytes];
    file.write_all_at(last, scan.last_block_at as u64)
        .and_then(|()| file.write_all_at(&[0; HEADER_BYTES][..tail.len()], scan.durable_bytes as u64))
        .and_then(|()| file.sync())
        .map_err(|error| failed("settle the end of", path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> JournalError {
    io_error(format!("{what} `{}`", path.display()), error)
}

pub fn corrupt(path: &Path, at: u64, what: &str) -> JournalError {
    let path = path.display();
    let what = format!(
        "`{path}` at byte {at}: {what}; restore the folder from a copy, or move it away to start an empty journal"
    );
    JournalError::Corrupt { what }
}

#[cfg(test)]
mod tests;
