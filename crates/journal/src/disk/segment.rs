//! A segment: one preallocated file of blocks, named by its id. Its first block has no records and gives the positions
//! that it starts at.
//!
//! A file gets its segment name only after that first block is synced, so a segment without one is damage.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;

use tally_model::Positions;

use super::block::{self, Tag};
use super::storage::{Storage, StoredFile};
use crate::JournalError;

const SEGMENT_SUFFIX: &str = ".segment";
const SPARE_SUFFIX: &str = ".spare";

/// A segment that holds blocks, as readers and trimming see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub tag: Tag,
    pub start: Positions,
    /// Where the durable blocks end.
    pub durable_bytes: u64,
}

/// A file of the right length that holds no data, ready to become the next segment.
pub struct Spare {
    pub name: String,
    pub file: Arc<dyn StoredFile>,
}

pub fn name(id: u64) -> String {
    format!("{id:020}{SEGMENT_SUFFIX}")
}

pub fn spare_name(number: u64) -> String {
    format!("{number:020}{SPARE_SUFFIX}")
}

/// The ids of the segments in a folder, ascending, and the names of spares.
pub fn list(storage: &dyn Storage) -> io::Result<(Vec<u64>, Vec<String>)> {
    let mut ids = Vec::new();
    let mut spares = Vec::new();
    for name in storage.list()? {
        if let Some(id) = name.strip_suffix(SEGMENT_SUFFIX).and_then(|id| id.parse().ok()) {
            ids.push(id);
        } else if name.ends_with(SPARE_SUFFIX) {
            spares.push(name);
        }
    }
    ids.sort_unstable();
    Ok((ids, spares))
}

/// Makes a spare into the segment `id`, on disk before it returns.
pub fn begin(storage: &dyn Storage, spare: &Spare, id: u64, start: &Positions) -> Result<Segment, JournalError> {
    let tag = Tag { segment: id, salt: RandomState::new().build_hasher().finish() as u32 };
    let mut header = Vec::new();
    block::encode(&mut header, tag, start, [].iter());
    let begun = spare
        .file
        .write_all_at(&header, 0)
        .and_then(|()| spare.file.sync())
        .and_then(|()| storage.rename(&spare.name, &name(id)))
        .and_then(|()| storage.sync());
    match begun {
        Ok(()) => Ok(Segment { tag, start: start.clone(), durable_bytes: header.len() as u64 }),
        Err(error) => Err(io_error(format!("begin journal segment `{}`", storage.path(&name(id)).display()), &error)),
    }
}

pub fn io_error(doing: String, error: &io::Error) -> JournalError {
    JournalError::Io { doing, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::spares::zeroed;
    use super::super::storage::OsFolder;
    use super::*;

    #[test]
    fn each_life_of_a_segment_has_a_salt_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let storage = OsFolder::new(folder.path());
        let salts = [1, 2].map(|id| {
            let spare = zeroed(&storage, spare_name(id), 4096).unwrap();
            begin(&storage, &spare, id, &Positions::start(1)).unwrap().tag.salt
        });
        assert_ne!(salts[0], salts[1]);
    }
}
