//! The ids in memory: 16 bytes a slot, compared on all 128 bits, without tombstones and without a pause to grow.
//!
//! The upper bits of a key choose one of many small shards and need not be stored; in their place a slot has the time, as a
//! code. A shard is a row of buckets, and a key stands in one of two of them. A shard grows by an eighth when both are full,
//! which moves some hundred keys. What a code means, and when it is dead, is the caller's to know.

use std::hint::black_box;

/// Shards at 100 million keys have about 380 keys each, which fit the first level of cache while they grow.
pub(super) const SHARD_BITS: u32 = 18;
pub(super) const SHARDS: usize = 1 << SHARD_BITS;
const CODE_BITS: u32 = SHARD_BITS;
/// Codes run from 1 to this; 0 is an empty slot.
pub(super) const CODE_MAX: u32 = (1 << CODE_BITS) - 1;
const BUCKET_SLOTS: usize = 8;
/// Slots per key that a shard is made with when it shrinks: 7 of 8.
const SHRUNK_LOAD: (usize, usize) = (7, 8);

/// Two lines of cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Bucket([u128; BUCKET_SLOTS]);

const EMPTY: Bucket = Bucket([0; BUCKET_SLOTS]);

type Shard = Option<Box<[Bucket]>>;

#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Shard>,
    keys: usize,
    buckets: usize,
}

impl Table {
    pub fn new() -> Self {
        Self { shards: vec![None; SHARDS], keys: 0, buckets: 0 }
    }

    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn bytes(&self) -> u64 {
        (self.shards.len() * size_of::<Shard>() + self.buckets * size_of::<Bucket>()) as u64
    }

    /// The code that a key has.
    #[inline]
    pub fn find(&self, key: u128) -> Option<u32> {
        let buckets = self.shards[shard_of(key)].as_deref()?;
        let (first, second) = places(remainder(key), buckets.len());
        slot_in(&buckets[first], key).or_else(|| slot_in(&buckets[second], key)).map(|(_, code)| code)
    }

    /// Asks for the memory that these keys need, all at once, so that later one does not wait for one after the other.
    #[inline]
    pub fn touch(&self, keys: &[u128]) {
        let mut sum = 0u64;
        for key in keys {
            if let Some(buckets) = self.shards[shard_of(*key)].as_deref() {
                let (first, second) = places(remainder(*key), buckets.len());
                for bucket in [&buckets[first].0, &buckets[second].0] {
                    sum ^= bucket[0] as u64 ^ bucket[BUCKET_SLOTS / 2] as u64;
                }
            }
        }
        black_box(sum);
    }

    /// Gives a key that is here another code.
    pub fn replace(&mut self, key: u128, code: u32) {
        let Some(buckets) = self.shards[shard_of(key)].as_deref_mut() else { return };
        let (first, second) = places(remainder(key), buckets.len());
        for bucket in [first, second] {
            if let Some((slot, _)) = slot_in(&buckets[bucket], key) {
                buckets[bucket].0[slot] = slot_of(key, code);
                return;
            }
        }
    }

    /// Takes in a key that is not here. Where there is no room, the dead make some.
    pub fn insert(&mut self, key: u128, code: u32, is_dead: impl Fn(u128, u32) -> bool) {
        let number = shard_of(key);
        let shard = &mut self.shards[number];
        let slot = slot_of(key, code);
        self.keys += 1;
        if let Some(buckets) = shard.as_deref_mut() {
            if place(buckets, slot) {
                return;
            }
            let (first, second) = places(slot >> CODE_BITS, buckets.len());
            let died = clear_dead(number, &mut buckets[first], &is_dead)
                + if second == first { 0 } else { clear_dead(number, &mut buckets[second], &is_dead) };
            self.keys -= died;
            if (died > 0 && place(buckets, slot)) || (make_room(buckets, first, second) && place(buckets, slot)) {
                return;
            }
        }
        let slots: Vec<u128> = slots(shard.as_deref()).chain([slot]).collect();
        let before = shard.as_deref().map_or(0, <[Bucket]>::len);
        let grown = filled(&slots, before + (before / 8).max(1));
        self.buckets += grown.len() - before;
        *shard = Some(grown);
    }

    /// Takes the dead out of one shard, and gives back the memory that it no longer needs.
    pub fn sweep(&mut self, number: usize, is_dead: impl Fn(u128, u32) -> bool) {
        let shard = &mut self.shards[number];
        let Some(buckets) = shard.as_deref_mut() else { return };
        let before = buckets.len();
        let died: usize = buckets.iter_mut().map(|bucket| clear_dead(number, bucket, &is_dead)).sum();
        self.keys -= died;
        if died == 0 {
            return;
        }
        let slots: Vec<u128> = slots(Some(buckets)).collect();
        let needed = (slots.len() * SHRUNK_LOAD.1).div_ceil(SHRUNK_LOAD.0 * BUCKET_SLOTS);
        if needed + needed / 4 < before {
            *shard = (needed > 0).then(|| filled(&slots, needed));
            self.buckets -= before - shard.as_deref().map_or(0, <[Bucket]>::len);
        }
    }

    pub fn is_vacant(&self, number: usize) -> bool {
        self.shards[number].is_none()
    }

    /// The keys of a shard with their codes, in no order. Shards stand in the order of their keys.
    pub fn shard(&self, number: usize) -> impl Iterator<Item = (u128, u32)> + '_ {
        slots(self.shards[number].as_deref()).map(move |slot| (slot_key(number, slot), code(slot)))
    }
}

#[inline]
pub(super) fn shard_of(key: u128) -> usize {
    (key >> (128 - SHARD_BITS)) as usize
}

#[inline]
fn slot_of(key: u128, code: u32) -> u128 {
    (key << CODE_BITS) | u128::from(code)
}

#[inline]
fn slot_key(shard: usize, slot: u128) -> u128 {
    ((shard as u128) << (128 - SHARD_BITS)) | (slot >> CODE_BITS)
}

#[inline]
fn code(slot: u128) -> u32 {
    slot as u32 & CODE_MAX
}

/// What a slot has of its key.
#[inline]
fn remainder(key: u128) -> u128 {
    key & (u128::MAX >> SHARD_BITS)
}

/// The two buckets where a key may stand. They depend on all bits of its remainder: keys that share some do not crowd.
#[inline]
fn places(remainder: u128, buckets: usize) -> (usize, usize) {
    let bits = remainder as u64 ^ ((remainder >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let place = |factor: u64| (((bits.wrapping_mul(factor) >> 32) * buckets as u64) >> 32) as usize;
    (place(0xBF58_476D_1CE4_E5B9), place(0x94D0_49BB_1331_11EB))
}

#[inline]
fn slot_in(bucket: &Bucket, key: u128) -> Option<(usize, u32)> {
    let wanted = key << CODE_BITS;
    let at = bucket.0.iter().position(|slot| (slot ^ wanted) <= u128::from(CODE_MAX) && code(*slot) != 0)?;
    Some((at, code(bucket.0[at])))
}

fn slots(buckets: Option<&[Bucket]>) -> impl Iterator<Item = u128> + '_ {
    buckets.into_iter().flatten().flat_map(|bucket| bucket.0).filter(|slot| *slot != 0)
}

fn room(bucket: &Bucket) -> usize {
    bucket.0.iter().filter(|slot| **slot == 0).count()
}

/// Into the emptier of its two buckets, if one has room.
fn place(buckets: &mut [Bucket], slot: u128) -> bool {
    let (first, second) = places(slot >> CODE_BITS, buckets.len());
    let emptier = if room(&buckets[second]) > room(&buckets[first]) { second } else { first };
    match buckets[emptier].0.iter_mut().find(|free| **free == 0) {
        Some(free) => {
            *free = slot;
            true
        }
        None => false,
    }
}

/// Moves one key of two full buckets to the other place that it has, if there is room.
fn make_room(buckets: &mut [Bucket], first: usize, second: usize) -> bool {
    for full in [first, second] {
        for at in 0..BUCKET_SLOTS {
            let slot = buckets[full].0[at];
            let (one, other) = places(slot >> CODE_BITS, buckets.len());
            let elsewhere = if one == full { other } else { one };
            if let Some(free) = buckets[elsewhere].0.iter().position(|slot| *slot == 0) {
                buckets[elsewhere].0[free] = slot;
                buckets[full].0[at] = 0;
                return true;
            }
        }
    }
    false
}

fn clear_dead(shard: usize, bucket: &mut Bucket, is_dead: impl Fn(u128, u32) -> bool) -> usize {
    let mut died = 0;
    for slot in &mut bucket.0 {
        if *slot != 0 && is_dead(slot_key(shard, *slot), code(*slot)) {
            *slot = 0;
            died += 1;
        }
    }
    died
}

/// A row of at least so many buckets that holds all of these.
fn filled(slots: &[u128], buckets: usize) -> Box<[Bucket]> {
    let mut size = buckets.max(slots.len().div_ceil(BUCKET_SLOTS));
    loop {
        let mut row = vec![EMPTY; size].into_boxed_slice();
        let all_in = slots.iter().all(|slot| {
            let (first, second) = places(slot >> CODE_BITS, size);
            place(&mut row, *slot) || (make_room(&mut row, first, second) && place(&mut row, *slot))
        });
        if all_in {
            return row;
        }
        size += 1 + size / 32;
    }
}

#[cfg(test)]
mod tests {
    use super::super::mix::Mix;
    use super::*;

    const NEVER: fn(u128, u32) -> bool = |_, _| false;

    fn key(n: u128) -> u128 {
        Mix::new(5).key(n)
    }

    #[test]
    fn every_key_is_found_with_its_code_and_no_other_is() {
        let mut table = Table::new();
        for n in 0..200_000u32 {
            assert_eq!(table.find(key(n.into())), None, "{n} before it came");
            table.insert(key(n.into()), n % CODE_MAX + 1, NEVER);
        }
        for n in 0..200_000u32 {
            assert_eq!(table.find(key(n.into())), Some(n % CODE_MAX + 1), "{n}");
        }
        assert_eq!(table.len(), 200_000);
    }

    #[test]
    fn keys_that_differ_in_one_bit_only_are_told_apart() {
        // All bits, also those that are not stored: the shard's, and the ones that choose the buckets.
        let mut table = Table::new();
        let base = key(1);
        table.insert(base, 9, NEVER);
        for bit in 0..128 {
            assert_eq!(table.find(base ^ (1 << bit)), None, "bit {bit}");
        }
        for bit in 0..128 {
            table.insert(base ^ (1 << bit), bit + 1, NEVER);
        }
        for bit in 0..128 {
            assert_eq!(table.find(base ^ (1 << bit)), Some(bit + 1), "bit {bit}");
        }
        assert_eq!(table.find(base), Some(9));
    }

    /// One shard, as full as a hundred million keys make it.
    fn crowded(keys: u128) -> (Table, Vec<u128>) {
        let keys: Vec<u128> = (0..keys).map(|n| (3 << (128 - SHARD_BITS)) | (key(n) >> SHARD_BITS)).collect();
        let mut table = Table::new();
        keys.iter().for_each(|key| table.insert(*key, 1, NEVER));
        (table, keys)
    }

    #[test]
    fn a_crowded_shard_takes_less_than_twenty_bytes_a_key() {
        let directory = Table::new().bytes();
        for n in [200, 380, 1_000, 3_800] {
            let (table, keys) = crowded(n);
            assert!(keys.iter().all(|key| table.find(*key) == Some(1)), "a key of {n} was lost");
            let bytes_per_key = (table.bytes() - directory) as f64 / n as f64;
            assert!(bytes_per_key < 20.0, "{bytes_per_key} bytes a key at {n} keys");
        }
    }

    #[test]
    fn the_dead_make_room_before_a_shard_grows_and_leave_when_swept() {
        let (mut table, keys) = crowded(380);
        let full = table.bytes();
        let is_dead = |_: u128, code: u32| code == 1;
        for n in 10_000..10_300u128 {
            table.insert((3 << (128 - SHARD_BITS)) | (key(n) >> SHARD_BITS), 2, is_dead);
        }
        assert_eq!(table.bytes(), full, "it grew although others were dead");
        table.sweep(3, is_dead);
        assert_eq!((table.len(), table.find(keys[0])), (300, None));
        table.sweep(3, |_, _| true);
        assert_eq!((table.len(), table.bytes()), (0, Table::new().bytes()));
    }

    #[test]
    fn a_replaced_code_is_found() {
        let (mut table, keys) = crowded(380);
        table.replace(keys[17], 5);
        assert_eq!((table.find(keys[17]), table.find(keys[18]), table.len()), (Some(5), Some(1), 380));
    }
}
