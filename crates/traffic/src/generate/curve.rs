//! When each line is sent: evenly, but for the hour of the day.

const HOUR_US: i64 = 3_600_000_000;

/// Traffic by UTC hour: least before dawn, most in the evening (the two busiest regions taken together).
const WEIGHTS: [u64; 24] = [6, 5, 4, 3, 3, 4, 6, 9, 11, 12, 12, 13, 14, 14, 14, 15, 16, 18, 20, 22, 23, 21, 15, 9];

struct Stretch {
    start_us: i64,
    /// Weight times microseconds of all stretches before.
    before: u128,
    weight: u64,
}

pub struct Curve {
    stretches: Vec<Stretch>,
    total: u128,
    lines: u64,
}

impl Curve {
    pub fn new(start_us: i64, duration_s: u64, lines: u64) -> Self {
        let end_us = start_us.saturating_add_unsigned(duration_s.saturating_mul(1_000_000));
        let (mut stretches, mut total, mut from_us) = (Vec::new(), 0u128, start_us);
        while from_us < end_us {
            let hour = from_us.div_euclid(HOUR_US);
            let to_us = ((hour + 1) * HOUR_US).min(end_us);
            let weight = WEIGHTS[hour.rem_euclid(24) as usize];
            stretches.push(Stretch { start_us: from_us, before: total, weight });
            total += u128::from(weight) * (to_us - from_us) as u128;
            from_us = to_us;
        }
        if stretches.is_empty() {
            stretches.push(Stretch { start_us, before: 0, weight: 1 });
        }
        Self { stretches, total, lines: lines.max(1) }
    }

    /// When line `index` is sent. Never earlier than the line before.
    pub fn time_us(&self, index: u64) -> i64 {
        let point = self.total * u128::from(index) / u128::from(self.lines);
        let after = self.stretches.partition_point(|stretch| stretch.before <= point);
        let stretch = &self.stretches[after.saturating_sub(1)];
        stretch.start_us + ((point - stretch.before) / u128::from(stretch.weight)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order_fill_the_span_and_crowd_in_the_evening() {
        let curve = Curve::new(0, 86_400, 24_000);
        let times: Vec<i64> = (0..24_000).map(|index| curve.time_us(index)).collect();
        assert!(times.is_sorted());
        let in_hour = |hour: i64| times.iter().filter(|time| **time / HOUR_US == hour).count();
        assert_eq!(times[0], 0);
        assert!(in_hour(23) > 0 && in_hour(20) > 5 * in_hour(3), "evening {}, night {}", in_hour(20), in_hour(3));
    }

    #[test]
    fn a_span_of_nothing_sends_all_at_once() {
        assert_eq!(Curve::new(5, 0, 10).time_us(9), 5);
    }
}
