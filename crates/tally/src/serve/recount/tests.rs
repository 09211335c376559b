use tally_model::{Device, Event, Judged, Kind, ManualClock, Positions, Verdict};
use tally_pipeline::RollupBuilder;
use tempfile::TempDir;

use super::*;
use crate::rebuild::rebuild;
use tally_model::Days;

/// 2023-11-14T22:13:20Z.
const T0_US: i64 = 1_700_000_000_000_000;
const HOUR_MS: i64 = 3_600_000;

struct Night {
    lake: Lake,
    clock: Arc<ManualClock>,
    recount: Recount,
    _folder: TempDir,
}

impl Night {
    async fn falls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_us(T0_US));
        let lake = Lake::open(folder.path(), 1, clock.clone()).await.unwrap();
        let metrics = RecountMetrics::register(&mut Registry::default());
        let recount = Recount::new(lake.clone(), clock.clone(), 3 * 3_600, 86_400, metrics);
        Self { lake, clock, recount, _folder: folder }
    }

    /// A click of so many days ago, at an offset; in the rollups or forgotten there.
    async fn click(&self, offset: u64, days_ago: i64, is_counted: bool) {
        let at_us = T0_US - days_ago * DAY_US;
        let mut event = Event::new(uuid::Uuid::from_u128(u128::from(offset)), Kind::Click, at_us, "c", "a");
        event.received_at_us = self.clock.now_us();
        let judged_at_s = event.received_at_us / SECOND_US;
        let row = Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict: Verdict::Counted };
        let next = |offset| Positions::from_offsets(vec![offset]);
        let rows = std::slice::from_ref(&row);
        let version =
            self.lake.commit_events(&mut rows.iter().collect(), &next(offset), &next(offset + 1)).await.unwrap();
        let mut rollups = RollupBuilder::default();
        if is_counted {
            rollups.add(&row.fact());
        }
        self.lake.commit_cells(version, &rollups.finish()).await.unwrap();
    }

    async fn hours_pass(&mut self, hours: i64) {
        self.clock.advance_ms(hours * HOUR_MS);
        self.recount.look().await;
    }

    fn runs_and_differences(&self) -> (u64, i64) {
        (self.recount.metrics.runs.get(), self.recount.metrics.differences.get())
    }

    async fn touched(&self) -> Vec<String> {
        self.lake.touched().await.unwrap().days.iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn it_runs_once_a_night_over_the_days_that_events_came_in_for() {
    let mut night = Night::falls().await;
    night.click(0, 0, true).await;
    night.click(1, 40, true).await;
    assert_eq!(night.touched().await, ["2023-10-05 to 2023-10-06", "2023-11-14 to 2023-11-15"]);
    night.hours_pass(4).await;
    assert_eq!(night.runs_and_differences(), (0, 0), "it is ten past two");
    night.hours_pass(1).await;
    assert_eq!(night.runs_and_differences(), (1, 0));
    assert_eq!(night.recount.metrics.last_run_seconds.get(), (T0_US / SECOND_US) as f64 + 5.0 * 3_600.0);
    assert!(night.touched().await.is_empty());
    night.hours_pass(1).await;
    assert_eq!(night.runs_and_differences(), (1, 0));

    night.click(2, 3, true).await;
    assert_eq!(night.touched().await, ["2023-11-11 to 2023-11-12"], "a late one, and nothing else");
    night.hours_pass(23).await;
    assert_eq!(night.runs_and_differences(), (2, 0));
}

#[tokio::test]
async fn a_difference_is_an_alarm_each_night_until_it_is_mended() {
    let mut night = Night::falls().await;
    night.click(0, 0, true).await;
    night.hours_pass(5).await;
    night.click(1, 2, false).await;
    night.hours_pass(24).await;
    assert_eq!(night.runs_and_differences(), (2, 4 * 3), "a click in the minute, hour and day of each view");
    night.hours_pass(24).await;
    assert_eq!(night.runs_and_differences(), (3, 12), "the days are looked at again");
    let days = Days::parse("2023-11-12", "2023-11-13").unwrap();
    assert!(rebuild(&night.lake, days).await.unwrap().replaced);
    night.hours_pass(24).await;
    assert_eq!(night.runs_and_differences(), (4, 0));
    assert!(night.touched().await.is_empty());
}

#[test]
fn the_next_time_is_always_ahead() {
    let (midnight, at_s) = (T0_US - T0_US.rem_euclid(DAY_US), 10);
    let at_us = midnight + at_s * SECOND_US;
    assert_eq!(next_us(midnight, at_s), at_us);
    assert_eq!(next_us(at_us - 1, at_s), at_us);
    assert_eq!(next_us(at_us, at_s), at_us + DAY_US);
}
