//! Event ids as uniform keys, one to one: no two ids share a key, so comparing keys is comparing ids.
//!
//! Ids are chosen by clients, and may count up or be chosen to collide. Mixed with a secret, they cannot aim at a place.

/// A bijection of 128 bits that a seed chooses: two multiplications by secret odd numbers, with the halves folded after each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    offset: u128,
    factors: [u128; 2],
    inverses: [u128; 2],
}

impl Mix {
    pub fn new(seed: u128) -> Self {
        let mut state = (seed >> 64) as u64 ^ (seed as u64).rotate_left(32);
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let mut factor = || (u128::from(next()) << 64 | u128::from(next())) ^ seed | 1;
        let factors = [factor(), factor()];
        Self { offset: seed, factors, inverses: factors.map(inverse) }
    }

    #[inline]
    pub fn key(&self, id: u128) -> u128 {
        fold(fold((id ^ self.offset).wrapping_mul(self.factors[0])).wrapping_mul(self.factors[1]))
    }

    #[inline]
    pub fn id(&self, key: u128) -> u128 {
        fold(fold(key).wrapping_mul(self.inverses[1])).wrapping_mul(self.inverses[0]) ^ self.offset
    }
}

/// Its own inverse, since the upper half stays.
#[inline]
fn fold(x: u128) -> u128 {
    x ^ (x >> 64)
}

/// Of an odd number, modulo 2^128: Newton's iteration doubles the right bits each time, from three.
fn inverse(odd: u128) -> u128 {
    (0..6).fold(odd, |inverse, _| inverse.wrapping_mul(2u128.wrapping_sub(odd.wrapping_mul(inverse))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_leads_back_to_its_id(seed: u128, id: u128) {
            let mix = Mix::new(seed);
            prop_assert_eq!(mix.id(mix.key(id)), id);
        }
    }

    #[test]
    fn ids_that_count_up_spread_evenly_over_the_upper_and_the_lower_bits() {
        for (step, seed) in [(1u128, 0u128), (1, 7), (1 << 64, 7), (1 << 110, 7)] {
            let mix = Mix::new(seed);
            let (mut upper, mut lower) = ([0u32; 16], [0u32; 16]);
            for n in 0..16_000u128 {
                let key = mix.key(n.wrapping_mul(step));
                upper[(key >> 124) as usize] += 1;
                lower[(key & 15) as usize] += 1;
            }
            assert!(upper.iter().chain(&lower).all(|n| (800..1_200).contains(n)), "{step}: {upper:?} {lower:?}");
        }
    }
}
