//! Distinct users: an estimate that adds up, whatever cells the users are spread over.

use std::borrow::Cow;

use datasketches::hll::{HllSketch, HllType, HllUnion};

const LG_REGISTERS: u8 = 12;
const REGISTERS: usize = 1 << LG_REGISTERS;
/// Of a stored sketch that has registers, before them: the numbers that its estimate is made of.
const HEADER_BYTES: usize = 40;

/// An estimate of distinct users: HyperLogLog with 4,096 registers (Apache DataSketches, HLL_4).
#[derive(Debug, Clone)]
pub struct Users {
    union: HllUnion,
    /// Whether the union is known to hold registers, and no list of users any more.
    has_registers: bool,
    /// The greatest of each register over sketches that are not in the union yet. The library sums up all registers after each
    /// sketch that it takes in, and only the last sum is asked for.
    ahead: Option<Box<[u8; REGISTERS]>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the stored sketch of distinct users cannot be read: {0}")]
pub struct SketchError(String);

impl Users {
    /// Relative standard error of a merged sketch, 1.04 / sqrt(4096) (Flajolet et al. 2007, "HyperLogLog").
    pub const RELATIVE_STANDARD_ERROR: f64 = 0.016_25;

    pub fn add(&mut self, user_hash: u64) {
        self.union.update_value(user_hash);
    }

    /// What [`to_bytes`](Self::to_bytes) gives for these users, without a union in between.
    pub fn bytes_of(user_hashes: impl IntoIterator<Item = u64>) -> Vec<u8> {
        #[allow(clippy::expect_used, reason = "12 is within the library's range of 4 to 21")]
        let mut sketch = HllSketch::new(LG_REGISTERS, HllType::Hll4).expect("a valid register count");
        user_hashes.into_iter().for_each(|user_hash| sketch.update(user_hash));
        sketch.serialize()
    }

    pub fn merge(&mut self, other: &Users) {
        self.union.update(&other.sketch());
    }

    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), SketchError> {
        let registers = Registers::in_bytes(bytes);
        match registers {
            Some(registers) if self.has_registers => {
                registers.raise(self.ahead.get_or_insert_with(|| Box::new([0; REGISTERS])));
            }
            _ => {
                let sketch = HllSketch::deserialize(bytes).map_err(|error| SketchError(error.to_string()))?;
                self.union.update(&sketch);
                self.has_registers |= registers.is_some();
            }
        }
        Ok(())
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.sketch().serialize()
    }

    pub fn estimate(&self) -> f64 {
        self.whole().estimate()
    }

    fn sketch(&self) -> HllSketch {
        self.whole().to_sketch(HllType::Hll4)
    }

    fn whole(&self) -> Cow<'_, HllUnion> {
        let ahead = self.ahead.as_ref().and_then(|ahead| HllSketch::deserialize(&stored(ahead)).ok());
        let Some(ahead) = ahead else { return Cow::Borrowed(&self.union) };
        let mut whole = self.union.clone();
        whole.update(&ahead);
        Cow::Owned(whole)
    }
}

impl Default for Users {
    fn default() -> Self {
        #[allow(clippy::expect_used, reason = "12 is within the library's range of 4 to 21")]
        let union = HllUnion::new(LG_REGISTERS).expect("a valid register count");
        Self { union, has_registers: false, ahead: None }
    }
}

/// The registers of a stored sketch (Apache DataSketches, `HLL_4` in its compact form): four bits each above the least of them,
/// and those that four bits do not hold after all others.
#[derive(Clone, Copy)]
struct Registers<'a> {
    least: u8,
    pairs: &'a [u8],
    /// A register's place in the lowest bits of each, its value in the highest six.
    large: &'a [u8],
}

impl<'a> Registers<'a> {
    /// None for sketches of few users, which list them, and for what is not written as ours are: the library reads those.
    fn in_bytes(bytes: &'a [u8]) -> Option<Self> {
        // Ints of the header, version, family, registers, unused, "compact" with or without "out of order", least, mode.
        let &[10, 1, 7, LG_REGISTERS, _, 8 | 24, least, 2] = bytes.first_chunk::<8>()? else { return None };
        let (header, registers) = bytes.split_at_checked(HEADER_BYTES)?;
        let (pairs, large) = registers.split_at_checked(REGISTERS / 2)?;
        let count = u32::from_le_bytes(*header.last_chunk()?);
        (least < 64 && u32::try_from(large.len() / 4) == Ok(count)).then_some(Self { least, pairs, large })
    }

    fn raise(&self, ahead: &mut [u8; REGISTERS]) {
        for (registers, pair) in ahead.as_chunks_mut::<2>().0.iter_mut().zip(self.pairs) {
            let [first, second] = [pair & 0xf, pair >> 4];
            *registers = [registers[0].max(first + self.least), registers[1].max(second + self.least)];
        }
        for large in self.large.as_chunks::<4>().0 {
            let large = u32::from_le_bytes(*large);
            let register = &mut ahead[large as usize % REGISTERS];
            *register = (*register).max((large >> 26) as u8);
        }
    }
}

/// Registers as the library reads them (`HLL_8`). The sums of the header are not looked at where a union takes them in.
fn stored(registers: &[u8; REGISTERS]) -> Vec<u8> {
    let mut bytes = vec![10, 1, 7, LG_REGISTERS, 0, 16, 0, 10];
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend_from_slice(registers);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the library makes of the same sketches, one after the other.
    fn merged_by_library(sketches: &[Vec<u8>]) -> HllUnion {
        let mut union = HllUnion::new(LG_REGISTERS).unwrap();
        sketches.iter().for_each(|bytes| union.update(&HllSketch::deserialize(bytes).unwrap()));
        union
    }

    fn users(seed: u64, count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |user| (seed << 32).wrapping_add(user).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn check(sketches: &[Vec<u8>]) {
        let mut merged = Users::default();
        sketches.iter().for_each(|bytes| merged.merge_bytes(bytes).unwrap());
        let expected = merged_by_library(sketches);
        assert_eq!(merged.estimate().to_bits(), expected.estimate().to_bits());
        assert_eq!(merged.to_bytes(), expected.to_sketch(HllType::Hll4).serialize());
        let bytes = merged.to_bytes();
        merged.merge_bytes(&bytes).unwrap();
        let twice = merged_by_library(&[bytes.clone(), bytes]);
        assert_eq!(merged.estimate().to_bits(), twice.estimate().to_bits(), "what is in already changes nothing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Lists, sets and registers in any order, some of them merged before.
        #[test]
        fn sketches_merge_to_what_the_library_makes_of_them(
            sizes in prop::collection::vec((0u64..4, 0u64..3_000), 1..8),
        ) {
            let sketches: Vec<_> = sizes.iter().map(|(seed, count)| Users::bytes_of(users(*seed, *count))).collect();
            check(&sketches);
            let pairs = sketches.chunks(2).map(|pair| merged_by_library(pair).to_sketch(HllType::Hll4).serialize());
            check(&pairs.collect::<Vec<_>>());
        }
    }

    /// So many users that some registers do not fit into four bits, and the least is above zero.
    #[test]
    fn sketches_of_many_users_merge_to_what_the_library_makes_of_them() {
        let sketches: Vec<_> = (1..5).map(|seed| Users::bytes_of(users(seed, seed * 100_000))).collect();
        assert!(sketches.iter().any(|bytes| bytes.len() > HEADER_BYTES + REGISTERS / 2 && bytes[6] > 0));
        check(&sketches);
    }

    #[test]
    fn what_is_no_sketch_is_an_error_whatever_came_before() {
        let whole = Users::bytes_of(users(1, 5_000));
        let mut merged = Users::default();
        merged.merge_bytes(&whole).unwrap();
        for cut in [0, 7, HEADER_BYTES, whole.len() - 1] {
            assert!(merged.merge_bytes(&whole[..cut]).is_err(), "{cut} bytes");
        }
    }
}
