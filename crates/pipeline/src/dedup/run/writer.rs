//! Writes a run a shard at a time, so that judging goes on meanwhile. Until it is finished it has a name that no start looks at.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tally_model::Positions;

use super::super::filter::{FILTER_KEYS, Filter};
use super::format::{BLOCK_BYTES, BLOCK_IDS, Block, encode_tail};
use super::{Head, Rules, Run, Search, upper_half};

/// Synced in parts as it grows: one sync of gigabytes at the end would hold up judging for seconds.
const SYNC_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(in super::super) struct RunWriter {
    head: Head,
    folder: PathBuf,
    file: BufWriter<File>,
    unsynced_bytes: usize,
    block: Vec<(u128, u32)>,
    firsts: Vec<u64>,
    /// The upper halves of the keys that the next filter is for.
    halves: Vec<u64>,
    halves_from_shard: u32,
    filters: Vec<(u32, Filter)>,
}

impl RunWriter {
    pub const TEMPORARY: &'static str = "unfinished";
    pub const FINISHED: &'static str = "run";

    pub fn create(folder: &Path, rules: Rules, seed: u128, from_s: i64, upto_s: i64) -> io::Result<Self> {
        let head = Head { rules, seed, from_s, upto_s, judged: Positions::default(), ids: 0 };
        Ok(Self {
            file: BufWriter::with_capacity(1 << 18, File::create(temporary(folder, &head))?),
            head,
            folder: folder.to_owned(),
            unsynced_bytes: 0,
            block: Vec::with_capacity(BLOCK_IDS),
            firsts: Vec::new(),
            halves: Vec::new(),
            halves_from_shard: 0,
            filters: Vec::new(),
        })
    }

    /// From when, and until before when, its ids were first seen.
    pub fn span_s(&self) -> (i64, i64) {
        (self.head.from_s, self.head.upto_s)
    }

    pub fn ids(&self) -> u64 {
        self.head.ids
    }

    /// Takes the ids of the next shard, sorted by key.
    pub fn put_shard(&mut self, shard: usize, ids: &[(u128, u32)]) -> io::Result<()> {
        for (key, first_seen_s) in ids {
            self.block.push((*key, *first_seen_s));
            let half = upper_half(*key);
            if self.halves.last() != Some(&half) {
                self.halves.push(half);
            }
            if self.block.len() == BLOCK_IDS {
                self.write_block()?;
            }
        }
        self.head.ids += ids.len() as u64;
        if self.halves.len() >= FILTER_KEYS {
            self.close_filter(shard as u32 + 1)?;
        }
        Ok(())
    }

    /// Gives the file its name, durably. `judged` is how far the log is judged now.
    pub fn finish(mut self, judged: Positions) -> io::Result<Run> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        if !self.halves.is_empty() {
            self.close_filter(u32::MAX)?;
        }
        self.head.judged = judged;
        let blocks_bytes = (self.firsts.len() * BLOCK_BYTES) as u64;
        self.file.write_all(&encode_tail(&self.head, &self.firsts, &self.filters, blocks_bytes))?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let path = self.folder.join(format!("{}.{}", span(&self.head), Self::FINISHED));
        fs::rename(temporary(&self.folder, &self.head), &path)?;
        File::open(&self.folder)?.sync_all()?;
        let search = Search { firsts: self.firsts, filters: self.filters };
        Ok(Run {
            head: self.head,
            file: File::open(&path)?,
            path,
            search: Some(search),
            #[cfg(test)]
            spoilt: None,
        })
    }

    /// Leaves nothing behind.
    pub fn abandon(self) {
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_file(temporary(&self.folder, &self.head));
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.firsts.extend(self.block.first().map(|(key, _)| upper_half(*key)));
        self.file.write_all(&Block::encode(&self.block))?;
        self.block.clear();
        self.unsynced_bytes += BLOCK_BYTES;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.unsynced_bytes = 0;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
        }
        Ok(())
    }

    fn close_filter(&mut self, next_from_shard: u32) -> io::Result<()> {
        self.filters.push((self.halves_from_shard, Filter::build(&self.halves)?));
        self.halves.clear();
        self.halves_from_shard = next_from_shard;
        Ok(())
    }
}

/// Sorts by time.
fn span(head: &Head) -> String {
    format!("{:010}-{:010}", head.from_s, head.upto_s)
}

fn temporary(folder: &Path, head: &Head) -> PathBuf {
    folder.join(format!("{}.{}", span(head), RunWriter::TEMPORARY))
}
