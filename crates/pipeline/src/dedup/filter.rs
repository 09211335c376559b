//! What says "surely new" in front of a file of ids, in a little over a byte an id: binary fuse filters
//! (Graf and Lemire 2022, "Binary Fuse Filters"). A filter that says "maybe" wrongly costs a read and decides nothing.

use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapMut};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter as _, FilterRef};

/// Keys of one filter: it is built in one go, so this bounds the memory and the pause (some 20 ms) that it takes.
pub(super) const FILTER_KEYS: usize = 1 << 18;
pub(super) const DESCRIPTOR_BYTES: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// Over the upper halves of keys, which are uniform.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter<F = Box<[u8]>> {
    /// The first shard that it is about.
    pub from_shard: u32,
    pub descriptor: [u8; DESCRIPTOR_BYTES],
    pub fingerprints: F,
}

impl Filter {
    /// `halves` must be in order and without repeats.
    pub fn build(from_shard: u32, halves: &[u64]) -> io::Result<Self> {
        let built = BinaryFuse8::try_from(halves).map_err(io::Error::other)?;
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        built.dma_copy_descriptor_to(&mut descriptor);
        Ok(Self { from_shard, descriptor, fingerprints: built.fingerprints })
    }

    pub fn borrowed(&self) -> Filter<&[u8]> {
        Filter { from_shard: self.from_shard, descriptor: self.descriptor, fingerprints: &self.fingerprints }
    }
}

/// All filters of a run. An answer is three reads anywhere in a gigabyte: the fingerprints stand together in large pages, where
/// the system has such, since in small ones most of an answer is the search for pages (see decision 6).
#[derive(Debug)]
pub(super) struct Filters {
    fingerprints: MmapMut,
    filters: Vec<Filter<Range<usize>>>,
}

impl Filters {
    /// In the order of their shards.
    pub fn of<'a>(filters: impl Iterator<Item = Filter<&'a [u8]>> + Clone) -> io::Result<Self> {
        let bytes = filters.clone().map(|filter| filter.fingerprints.len()).sum();
        let mut fingerprints = MmapMut::map_anon(bytes)?;
        #[cfg(target_os = "linux")]
        // A system without large pages serves small ones.
        let _ = fingerprints.advise(Advice::HugePage);
        let mut at = 0;
        let place = |filter: Filter<&[u8]>| {
            let range = at..at + filter.fingerprints.len();
            fingerprints[range.clone()].copy_from_slice(filter.fingerprints);
            at = range.end;
            Filter { from_shard: filter.from_shard, descriptor: filter.descriptor, fingerprints: range }
        };
        let filters = filters.map(place).collect();
        Ok(Self { fingerprints, filters })
    }

    /// Of memory.
    pub fn bytes(&self) -> usize {
        self.fingerprints.len() + size_of_val(self.filters.as_slice())
    }

    /// False is sure.
    #[inline]
    pub fn may_hold(&self, shard: u32, half: u64) -> bool {
        let after = self.filters.partition_point(|filter| filter.from_shard <= shard);
        let Some(filter) = after.checked_sub(1).map(|at| &self.filters[at]) else { return false };
        let fingerprints = &self.fingerprints[filter.fingerprints.clone()];
        BinaryFuse8Ref::from_dma(&filter.descriptor, fingerprints).contains(&half)
    }
}

/// Filters that are wrong on purpose, in the direction that they may be.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spoilt {
    SaysMaybeToAll,
    SaysMaybeToEverySecond,
}

#[cfg(test)]
impl Spoilt {
    pub fn says_maybe(self, half: u64) -> bool {
        self == Self::SaysMaybeToAll || half.is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(n: u64) -> Vec<u64> {
        let mut halves: Vec<u64> = (1..=n).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        halves.sort_unstable();
        halves
    }

    #[test]
    fn a_filter_never_calls_new_what_it_holds_and_rarely_calls_maybe_what_it_does_not() {
        for n in [1, 2, 3, 10, 100, 10_000] {
            let held = halves(n);
            // Two filters, of the lower shards and of the upper ones.
            let built = [Filter::build(0, &held).unwrap(), Filter::build(100, &held).unwrap()];
            let filters = Filters::of(built.iter().map(Filter::borrowed)).unwrap();
            assert!(held.iter().all(|half| filters.may_hold(99, *half) && filters.may_hold(100, *half)), "of {n}");
            let wrong = (0..10_000u64).filter(|n| filters.may_hold(7, n ^ 0xABCD << 40)).count();
            assert!(wrong < 100, "{wrong} of 10,000 wrong with {n} keys");
        }
    }
}
