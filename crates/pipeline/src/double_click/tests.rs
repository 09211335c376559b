use proptest::prelude::*;

use super::*;

const SECOND_US: i64 = 1_000_000;
const WINDOW_MS: u64 = 10_000;

fn click(user_hash: u64, ad_id: &str, second: i64) -> PersonsClick {
    PersonsClick::new(user_hash, "campaign", ad_id, second * SECOND_US)
}

/// Judges as the pipeline does: what is no double click counts.
fn counts(clicks: &mut DoubleClicks, click: PersonsClick, judged_at_s: i64) -> bool {
    clicks.move_on_to(judged_at_s);
    let counts = !clicks.is_double(&click);
    if counts {
        clicks.counted(&click, judged_at_s);
    }
    counts
}

#[test]
fn a_second_click_within_the_window_of_one_that_counted_is_double_before_or_after_it() {
    for base in [0, 5, 9, 15, -7] {
        let mut clicks = DoubleClicks::new(WINDOW_MS);
        assert!(counts(&mut clicks, click(1, "ad", base), 100));
        for (second, expected) in
            [(base, false), (base + 9, false), (base - 9, false), (base + 10, true), (base - 10, true)]
        {
            assert_eq!(!clicks.is_double(&click(1, "ad", second)), expected, "{second} after {base}");
        }
    }
}

#[test]
fn another_person_or_another_ad_is_no_double_click() {
    let mut clicks = DoubleClicks::new(WINDOW_MS);
    assert!(counts(&mut clicks, click(1, "ad", 0), 100));
    assert!(counts(&mut clicks, click(2, "ad", 0), 100));
    assert!(counts(&mut clicks, click(1, "other", 0), 100));
    assert!(counts(&mut clicks, PersonsClick::new(1, "another", "ad", 0), 100));
}

#[test]
fn the_window_runs_from_the_click_that_counted_not_from_the_one_that_did_not() {
    let mut clicks = DoubleClicks::new(WINDOW_MS);
    let counted: Vec<i64> = (0..40).step_by(4).filter(|at| counts(&mut clicks, click(1, "ad", *at), 100)).collect();
    assert_eq!(counted, [0, 12, 24, 36]);
}

#[test]
fn a_window_of_zero_turns_it_off() {
    let mut clicks = DoubleClicks::new(0);
    assert!((0..3).all(|_| counts(&mut clicks, click(1, "ad", 0), 100)));
    assert_eq!((clicks.len(), clicks.memory_s()), (0, 0));
}

#[test]
fn a_click_is_forgotten_after_ten_minutes_of_the_logs_time() {
    let mut clicks = DoubleClicks::new(WINDOW_MS);
    assert!(counts(&mut clicks, click(1, "ad", 0), 1_000));
    assert!(!counts(&mut clicks, click(1, "ad", 0), 1_000 + MEMORY_S - 1));
    assert!(counts(&mut clicks, click(1, "ad", 0), 1_000 + MEMORY_S));
    assert_eq!(clicks.len(), 1, "the old one is gone");
}

#[test]
fn clicks_beyond_the_bound_are_forgotten_by_whole_seconds() {
    let mut clicks = DoubleClicks::new(WINDOW_MS);
    for n in 0..CLICKS_MAX as u64 + 1 {
        clicks.counted(&click(n, "ad", 0), 1_000 + (n % 4) as i64);
    }
    assert_eq!(clicks.len(), CLICKS_MAX * 3 / 4);
    assert!(!clicks.is_double(&click(0, "ad", 0)), "second 1000 is forgotten");
    assert!(clicks.is_double(&click(1, "ad", 0)), "second 1001 is not");

    let mut told = ToldClicks::default();
    for n in (0..CLICKS_MAX as u64 + 1).rev() {
        told.tell(click(n, "ad", 0), 1_000 + (n % 4) as i64);
    }
    let restored = DoubleClicks::restored(WINDOW_MS, told, 1_003);
    assert_eq!((restored.len(), restored.forgotten_upto_s), (clicks.len(), clicks.forgotten_upto_s));
}

proptest! {
    /// Equal to looking through all clicks, wherever it is stopped and told again what counted, in whatever order.
    #[test]
    fn a_restart_decides_the_same(
        log in prop::collection::vec((0u64..3, 0i64..60, 0i64..1_500), 1..150),
        stop_at in 0usize..150,
    ) {
        let mut clicks = DoubleClicks::new(WINDOW_MS);
        let mut log_time_s = 0;
        let mut counted: Vec<(u64, i64, i64)> = Vec::new();
        for (at, (user, second, judged_at_s)) in log.iter().copied().enumerate() {
            if at == stop_at {
                let mut told = ToldClicks::default();
                for (user, second, judged_at_s) in counted.iter().rev() {
                    told.tell(click(*user, "ad", *second), *judged_at_s);
                }
                clicks = DoubleClicks::restored(WINDOW_MS, told, log_time_s);
            }
            log_time_s = log_time_s.max(judged_at_s);
            let is_double = counted.iter().any(|(known, then, judged_at_s)| {
                *known == user && (then - second).abs() < 10 && *judged_at_s > log_time_s - MEMORY_S
            });
            clicks.move_on_to(log_time_s);
            // A partition may be behind the log's time.
            prop_assert_eq!(clicks.is_double(&click(user, "ad", second)), is_double, "record {}", at);
            if !is_double {
                counted.push((user, second, judged_at_s));
                clicks.counted(&click(user, "ad", second), judged_at_s);
            }
        }
    }
}
