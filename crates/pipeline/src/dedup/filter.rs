//! What says "surely new" in front of a file of ids, in a little over a byte an id: binary fuse filters
//! (Graf and Lemire 2022, "Binary Fuse Filters"). A filter that says "maybe" wrongly costs a read and decides nothing.

use std::io;

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter as _, FilterRef};

/// Keys of one filter: it is built in one go, so this bounds the memory and the pause (some 20 ms) that it takes.
pub(super) const FILTER_KEYS: usize = 1 << 18;

/// Over the upper halves of keys, which are uniform.
#[derive(Debug)]
pub(super) struct Filter {
    descriptor: [u8; Self::DESCRIPTOR_BYTES],
    fingerprints: Box<[u8]>,
}

impl Filter {
    pub const DESCRIPTOR_BYTES: usize = BinaryFuse8::DESCRIPTOR_LEN;

    /// `halves` must be in order and without repeats.
    pub fn build(halves: &[u64]) -> io::Result<Self> {
        let built = BinaryFuse8::try_from(halves).map_err(io::Error::other)?;
        let mut descriptor = [0; Self::DESCRIPTOR_BYTES];
        built.dma_copy_descriptor_to(&mut descriptor);
        Ok(Self { descriptor, fingerprints: built.fingerprints })
    }

    /// As [`Filter::descriptor`] and [`Filter::fingerprints`] gave it, behind a checksum.
    pub fn of(descriptor: [u8; Self::DESCRIPTOR_BYTES], fingerprints: &[u8]) -> Self {
        Self { descriptor, fingerprints: fingerprints.into() }
    }

    pub fn descriptor(&self) -> &[u8; Self::DESCRIPTOR_BYTES] {
        &self.descriptor
    }

    pub fn fingerprints(&self) -> &[u8] {
        &self.fingerprints
    }

    /// False is sure.
    #[inline]
    pub fn may_hold(&self, half: u64) -> bool {
        BinaryFuse8Ref::from_dma(&self.descriptor, &self.fingerprints).contains(&half)
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
            let filter = Filter::build(&held).unwrap();
            let filter = Filter::of(*filter.descriptor(), filter.fingerprints());
            assert!(held.iter().all(|half| filter.may_hold(*half)), "of {n}");
            let wrong = (0..10_000u64).filter(|n| filter.may_hold(n ^ 0xABCD << 40)).count();
            assert!(wrong < 100, "{wrong} of 10,000 wrong with {n} keys");
        }
    }
}
