//! Chance from one seed: every decision of a run is drawn here, in the order that things happen.

use tally_model::{Entropy, SeededEntropy};

pub struct Chance(SeededEntropy);

impl Chance {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring runs.
        Self(SeededEntropy::new(SeededEntropy::new(seed).bits() as u64))
    }

    pub fn bits(&self) -> u128 {
        self.0.bits()
    }

    /// From 0 to one below `n`.
    pub fn below(&self, n: u64) -> u64 {
        (((self.0.bits() >> 64) * u128::from(n)) >> 64) as u64
    }

    /// From `least` to `most`, both included.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// So many times in a thousand.
    pub fn permille(&self, times: u64) -> bool {
        self.below(1_000) < times
    }

    pub fn one_of<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
