//! A uniform sample of raw events: those with the smallest draws.

use serde_json::{Map, Value};

use crate::report::Report;

/// How many events, and which draw.
#[derive(Debug, Clone)]
pub struct Sample {
    pub about: Report,
    pub size: usize,
    pub seed: u64,
}

#[derive(Debug, Clone)]
pub struct SampleAnswer {
    /// In the order of their draws; fields that an event does not have are left out.
    pub rows: Vec<Map<String, Value>>,
    /// Events that it was drawn from.
    pub matching: u64,
    /// The version of `events` that all of it is as of.
    pub table_version: i64,
}

/// An event's draw, by its place in the log: no two places have the same, and no sender chooses it. The events with the smallest
/// draws are a uniform sample of any set that they are in, so samples of parts merge into one of the whole, and the same seed
/// gives the same.
pub fn draw(seed: u64, partition: i32, offset: i64) -> u64 {
    let place = (u64::from(partition as u32) << 48) ^ offset as u64;
    mixed(mixed(place) ^ mixed(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)))
}

/// The last steps of SplitMix64 (Steele, Lea, Flood 2014), which no two numbers come out of alike.
fn mixed(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of 4 partitions of 250 events are drawn.
    fn drawn(seed: u64, size: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..1_000).collect();
        all.sort_by_key(|n| draw(seed, (n / 250) as i32, (n % 250) as i64));
        all.truncate(size);
        all
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_one_others() {
        assert_eq!(drawn(7, 50), drawn(7, 50));
        let both = drawn(7, 50).iter().filter(|n| drawn(8, 50).contains(n)).count();
        assert!(both < 15, "{both} of 50 are in both samples; 2.5 are to be expected");
    }

    /// 50 of 1,000 for each of 2,000 seeds: each event is drawn 100 times, give or take 9.7. Chi-square of all together.
    #[test]
    fn every_event_has_the_same_chance() {
        let mut times = vec![0_u32; 1_000];
        (0..2_000).for_each(|seed| drawn(seed, 50).iter().for_each(|n| times[*n] += 1));
        let chi_square: f64 = times.iter().map(|n| (f64::from(*n) - 100.0).powi(2) / 95.0).sum();
        // 999 degrees of freedom have a deviation of 45: five of them.
        assert!((775.0..1_225.0).contains(&chi_square), "{chi_square}");
    }
}
