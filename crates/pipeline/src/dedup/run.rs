//! A run: the ids that were first seen within a span of time, in the order of their keys, in a file. Written once, read a block
//! at a time, and deleted when all of its ids have expired.
//!
//! The file is a row of 4 KiB blocks, each with its checksum; then what is needed to search them (the first key of every
//! block, and filters), with what the run covers; then a trailer that says where that is. It is a cache of what `events` holds.

mod format;
mod writer;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tally_model::Positions;

pub(super) use writer::RunWriter;

use super::filter::Filter;
#[cfg(test)]
use super::filter::Spoilt;
use super::table::shard_of;
use format::{BLOCK_BYTES, Block};

/// What must be the same for a run to be of use: else its ids mean something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub ttl_s: u64,
    pub unit_s: i64,
    pub partitions: u16,
}

/// What a run says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub rules: Rules,
    /// Of the [`super::mix::Mix`] that its keys were made with.
    pub seed: u128,
    /// It has every id first seen from here..
    pub from_s: i64,
    /// ..until before here, by the time of each partition.
    pub upto_s: i64,
    /// How far the log was judged when the run was finished: it is true of a log that is committed up to there.
    pub judged: Positions,
    pub ids: u64,
}

#[derive(Debug)]
pub(super) struct Run {
    pub head: Head,
    path: PathBuf,
    file: File,
    /// In memory only while ids of this run may be asked for here.
    search: Option<Search>,
    #[cfg(test)]
    pub spoilt: Option<Spoilt>,
}

/// What leads to a block.
#[derive(Debug)]
pub(super) struct Search {
    /// The upper half of the first key of each block.
    firsts: Vec<u64>,
    /// With the first shard that each is about.
    filters: Vec<(u32, Filter)>,
}

impl Search {
    fn bytes(&self) -> u64 {
        let filters = self.filters.iter().map(|(_, filter)| size_of_val(filter) + filter.fingerprints().len());
        (self.firsts.len() * 8 + filters.sum::<usize>()) as u64
    }

    #[inline]
    fn may_hold(&self, key: u128) -> bool {
        let shard = shard_of(key) as u32;
        let after = self.filters.partition_point(|(first, _)| *first <= shard);
        after > 0 && self.filters[after - 1].1.may_hold(upper_half(key))
    }
}

#[inline]
fn upper_half(key: u128) -> u64 {
    (key >> 64) as u64
}

impl Run {
    /// Checks all but the blocks, which are checked when read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let (head, search) = format::read_tail(&file)?;
        Ok(Self {
            head,
            path: path.to_owned(),
            file,
            search: Some(search),
            #[cfg(test)]
            spoilt: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of memory.
    pub fn bytes(&self) -> u64 {
        self.search.as_ref().map_or(0, Search::bytes)
    }

    /// Makes it ready to be asked.
    pub fn load(&mut self) -> io::Result<()> {
        if self.search.is_none() {
            self.search = Some(format::read_tail(&self.file)?.1);
        }
        Ok(())
    }

    pub fn unload(&mut self) {
        self.search = None;
    }

    /// False is sure.
    #[inline]
    pub fn may_hold(&self, key: u128) -> bool {
        #[cfg(test)]
        if self.spoilt.is_some_and(|spoilt| spoilt.says_maybe(upper_half(key))) {
            return true;
        }
        self.search.as_ref().is_none_or(|search| search.may_hold(key))
    }

    /// When the id of this key was first seen, if it was in this run's span. Reads one block; two where keys share their upper half.
    pub fn find(&self, key: u128) -> io::Result<Option<i64>> {
        let Some(search) = &self.search else {
            return Err(io::Error::other("it was asked before it was loaded"));
        };
        let half = upper_half(key);
        let first = search.firsts.partition_point(|first| *first < half).saturating_sub(1);
        let candidates = search.firsts.iter().enumerate().skip(first).take_while(|(_, first)| **first <= half);
        for (number, _) in candidates {
            let mut bytes = [0; BLOCK_BYTES];
            self.file.read_exact_at(&mut bytes, (number * BLOCK_BYTES) as u64)?;
            if let Some(first_seen_s) = Block::check(&bytes)?.find(key) {
                return Ok(Some(first_seen_s));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
