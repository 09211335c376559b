//! A segment: one preallocated file of blocks, named by its id. Its first block has no records and gives the positions
//! that it starts at.
//!
//! A file gets its segment name only after that first block is synced, so a segment without one is damage.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tally_model::Positions;

use super::SyncFile;
use super::block::{self, Tag};
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
#[derive(Debug)]
pub struct Spare {
    pub path: PathBuf,
    pub file: File,
}

pub fn path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:020}{SEGMENT_SUFFIX}"))
}

pub fn spare_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{SPARE_SUFFIX}"))
}

/// The ids of the segments in a folder, ascending, and the paths of spares.
pub fn list(folder: &Path) -> io::Result<(Vec<u64>, Vec<PathBuf>)> {
    let mut ids = Vec::new();
    let mut spares = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(id) = name.strip_suffix(SEGMENT_SUFFIX).and_then(|id| id.parse().ok()) {
            ids.push(id);
        } else if name.ends_with(SPARE_SUFFIX) {
            spares.push(path);
        }
    }
    ids.sort_unstable();
    Ok((ids, spares))
}

/// Makes a spare into the segment `id`, on disk before it returns.
pub fn begin(
    folder: &Path,
    spare: &Spare,
    id: u64,
    start: &Positions,
    sync: &SyncFile,
) -> Result<(File, Segment), JournalError> {
    let tag = Tag { segment: id, salt: RandomState::new().build_hasher().finish() as u32 };
    let mut header = Vec::new();
    block::encode(&mut header, tag, start, [].iter());
    let to = path(folder, id);
    let begun = spare
        .file
        .write_all_at(&header, 0)
        .and_then(|()| sync(&spare.file))
        .and_then(|()| fs::rename(&spare.path, &to))
        .and_then(|()| sync_folder(folder))
        .and_then(|()| spare.file.try_clone());
    match begun {
        Ok(file) => Ok((file, Segment { tag, start: start.clone(), durable_bytes: header.len() as u64 })),
        Err(error) => Err(io_error(format!("begin journal segment `{}`", to.display()), &error)),
    }
}

/// Makes what was created, renamed or removed in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub fn io_error(doing: String, error: &io::Error) -> JournalError {
    JournalError::Io { doing, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::spares::zeroed;
    use super::*;

    #[test]
    fn each_life_of_a_segment_has_a_salt_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let sync: SyncFile = Box::new(File::sync_data);
        let salts = [1, 2].map(|id| {
            let spare = zeroed(spare_path(folder.path(), id), 4096).unwrap();
            begin(folder.path(), &spare, id, &Positions::start(1), &sync).unwrap().1.tag.salt
        });
        assert_ne!(salts[0], salts[1]);
    }
}
