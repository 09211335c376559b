//! Chance, in integers only, so that a seed means the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub struct Dice(ChaCha8Rng);

/// How often something happens, in parts of 2^32.
#[derive(Clone, Copy)]
pub struct Chance(u64);

impl Chance {
    pub fn of(fraction: f64) -> Self {
        // A product with a power of two is exact, and the cast cuts off: no platform has a say.
        Self((fraction * 4_294_967_296.0) as u64)
    }

    pub fn times(self, percent: u64) -> Self {
        Self(self.0 * percent / 100)
    }
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn happens(&mut self, chance: Chance) -> bool {
        u64::from(self.0.next_u32()) < chance.0
    }

    /// From 0 to one below `n`. Multiply-shift: its bias is below n / 2^32, which no total of ours can show.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    pub fn below_u64(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    pub fn bits(&mut self) -> u128 {
        (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64())
    }

    /// A span that is as likely to lie between `least` and twice that as in any later doubling: many short, few long.
    pub fn span_us(&mut self, least_us: i64, doublings: u32) -> i64 {
        let from_us = least_us << self.below(doublings);
        from_us + self.below_u64(from_us as u64) as i64
    }
}

/// Things drawn in proportion to their weights.
pub struct Weights(Vec<u64>);

impl Weights {
    pub fn of(weights: impl IntoIterator<Item = u64>) -> Self {
        let sums = weights.into_iter().scan(0u64, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self(sums.collect())
    }

    /// The k-th of `n` things weighs 1 / k (Zipf with exponent 1).
    pub fn zipf(n: u32) -> Self {
        Self::of((1..=u64::from(n)).map(|rank| (1 << 32) / rank))
    }

    pub fn pick(&self, dice: &mut Dice) -> u32 {
        let point = dice.below_u64(self.0.last().copied().unwrap_or(0));
        self.at(point)
    }

    /// The same from bits that are at hand already.
    pub fn pick_by(&self, bits: u32) -> u32 {
        let total = self.0.last().copied().unwrap_or(0);
        self.at(((u128::from(bits) * u128::from(total)) >> 32) as u64)
    }

    fn at(&self, point: u64) -> u32 {
        self.0.partition_point(|sum| *sum <= point) as u32
    }
}

/// People, the eager first: the eager see about ten times the average (a Zipf-Mandelbrot law, by octaves; a plain Zipf
/// law would give a twentieth of all traffic to one person).
pub struct Crowd {
    octave: u32,
    population: u32,
}

const OCTAVES: u32 = 6;

impl Crowd {
    pub fn of(population: u32) -> Self {
        // Octaves of length q, 2q .. 32q hold 63q people in all.
        Self { octave: population.div_ceil((1 << OCTAVES) - 1), population }
    }

    pub fn pick(&self, dice: &mut Dice) -> u32 {
        let start = self.octave << dice.below(OCTAVES);
        (start - self.octave + dice.below(start)).min(self.population - 1)
    }
}

/// Spreads `n` over all 64-bit values, each to one of its own (the finalizer of SplitMix64).
pub fn mix(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_rolls_the_same_on_every_machine() {
        let mut dice = Dice::new(7);
        // Fixed by the files that others generated: if this changes, their seeds yield other traffic.
        assert_eq!([dice.below(1_000_000), dice.below(1_000_000), dice.below(1_000_000)], [140_003, 157_796, 182_055]);
    }

    #[test]
    fn the_eager_are_few_and_nobody_is_out_of_reach() {
        let (crowd, mut dice) = (Crowd::of(1_000), Dice::new(1));
        let mut seen = vec![0u32; 1_000];
        for _ in 0..100_000 {
            seen[crowd.pick(&mut dice) as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 0), "some people are never drawn");
        assert!((500..2_000).contains(&seen[0]), "the most eager was drawn {} times, the average is 100", seen[0]);
    }

    #[test]
    fn weights_are_kept_to() {
        let (weights, mut dice) = (Weights::of([1, 0, 3]), Dice::new(1));
        let mut seen = [0u32; 3];
        for _ in 0..40_000 {
            seen[weights.pick(&mut dice) as usize] += 1;
        }
        assert!(seen[1] == 0 && (9_000..11_000).contains(&seen[0]), "drawn {seen:?} for weights 1, 0, 3");
    }
}
