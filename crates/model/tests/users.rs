//! The estimate of distinct users is as good as it says, however the users are spread over the cells that are merged.
#![allow(clippy::unwrap_used, reason = "tests")]

use tally_model::Users;

/// A user's hash, for each seed another one (SplitMix64).
fn hash(seed: u64, user: u64) -> u64 {
    let z = (seed << 40).wrapping_add(user).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// By how much of the true number an estimate is off that is merged from 20 cells as they are stored, a third of the users being
/// in two of them.
fn error_of(seed: u64, users: u64) -> f64 {
    let mut cells = vec![Users::default(); 20];
    for user in 0..users {
        let hash = hash(seed, user);
        cells[(hash >> 3) as usize % 20].add(hash);
        if user % 3 == 0 {
            cells[(hash >> 13) as usize % 20].add(hash);
        }
    }
    let mut all = Users::default();
    cells.iter().for_each(|cell| all.merge_bytes(&cell.to_bytes()).unwrap());
    (all.estimate() - users as f64) / users as f64
}

/// Every seed within three standard errors, and all together about one off.
fn check(users: u64, seeds: u64) {
    let errors: Vec<f64> = (1..=seeds).map(|seed| error_of(seed, users)).collect();
    let stated = Users::RELATIVE_STANDARD_ERROR;
    let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs()));
    assert!(
        worst <= 3.0 * stated,
        "of {users} users, an estimate is off by {worst}, over three times {stated}: {errors:?}"
    );
    let usual = (errors.iter().map(|error| error * error).sum::<f64>() / seeds as f64).sqrt();
    assert!(usual <= 1.4 * stated, "of {users} users, estimates are off by {usual}, not by {stated}");
}

#[test]
fn ten_users_are_ten() {
    check(10, 50);
    assert!((1..=50).all(|seed| error_of(seed, 10).abs() < 0.05));
}

#[test]
fn a_thousand_users_are_estimated_within_the_stated_error() {
    check(1_000, 50);
}

#[test]
fn a_million_users_are_estimated_within_the_stated_error() {
    check(1_000_000, 12);
}
