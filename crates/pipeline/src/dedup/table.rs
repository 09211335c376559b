//! The ids in memory: 16 bytes a slot, compared on all 128 bits, without tombstones and without a pause to grow.
//!
//! The upper bits of a key say where it stands and need not be stored; in their place a slot has the time, as a code. The
//! uppermost choose a shard, which is searched, swept and written to disk as a whole; the next ones a bucket of it. What a code
//! means, and when it is dead, is the caller's to know.

mod shard;

use std::hint::black_box;

pub(super) use shard::{CODE_MAX, SHARD_BITS};
use shard::{Shard, Spare};

/// At a hundred million keys a shard has about 25,000: few enough to be sorted between two reads of the journal.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Shard>,
    spare: Spare,
    keys: usize,
    bytes: usize,
}

impl Table {
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, spare: Spare::new(), keys: 0, bytes: SHARDS * size_of::<Shard>() }
    }

    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// The code that a key has.
    #[inline]
    pub fn find(&self, key: u128) -> Option<u32> {
        self.shards[shard_of(key)].find(key)
    }

    /// Asks for the memory that these keys need, all at once, so that later one does not wait for one after the other.
    pub fn touch(&self, keys: &[u128]) {
        let mut sum = 0;
        for key in keys {
            if let Some([first, second]) = self.shards[shard_of(*key)].buckets(*key) {
                sum ^= first.touch() ^ second.touch();
            }
        }
        black_box(sum);
    }

    /// Gives a key that is here another code.
    pub fn replace(&mut self, key: u128, code: u32) {
        self.shards[shard_of(key)].replace(key, code);
    }

    /// Takes in a key that is not here.
    #[inline]
    pub fn insert(&mut self, key: u128, code: u32) {
        let shard = &mut self.shards[shard_of(key)];
        let before = shard.bytes();
        shard.insert(key, code, &mut self.spare);
        self.keys += 1;
        self.bytes += shard.bytes() - before;
    }

    /// Takes the dead out of one shard, and gives back the memory that it no longer needs. Most are told by their code; the key
    /// takes longer.
    pub fn sweep(&mut self, number: usize, is_dead: impl Fn(u32, &dyn Fn() -> u128) -> bool) {
        let shard = &mut self.shards[number];
        let before = shard.bytes();
        let died = shard.sweep(&mut self.spare, |code, slot_key| is_dead(code, &|| with_shard(number, slot_key())));
        self.keys -= died;
        self.bytes = self.bytes + shard.bytes() - before;
    }

    /// The keys of a shard with their codes, in no order. Shards stand in the order of their keys.
    pub fn shard(&self, number: usize) -> impl Iterator<Item = (u128, u32)> + '_ {
        self.shards[number].keys().map(move |(slot_key, code)| (with_shard(number, slot_key), code))
    }
}

#[inline]
pub(super) fn shard_of(key: u128) -> usize {
    (key >> (128 - SHARD_BITS)) as usize
}

/// The whole key, of which a shard knows all but its own number.
#[inline]
fn with_shard(number: usize, slot_key: u128) -> u128 {
    (number as u128) << (128 - SHARD_BITS) | slot_key
}

#[cfg(test)]
mod tests;
