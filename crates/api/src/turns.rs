//! Whose turn it is. Light questions and heavy ones stand in lines of their own, so that a report from rollups never waits for
//! fifty over raw events.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ApiError;
use crate::metrics::Counted;

/// What a question takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Sums that are there already, or a few rows.
    Light,
    /// Raw events, perhaps all of them.
    Heavy,
}

/// Questions of a kind that run at once; others wait. More would only slow each other, and capture, down.
const LIGHT_RUNNING_MAX: usize = 8;
const HEAVY_RUNNING_MAX: usize = 2;
/// Questions of a kind that wait. One more is told to come back.
const LIGHT_WAITING_MAX: usize = 4_000;
const HEAVY_WAITING_MAX: usize = 200;
/// How long a question waits for its turn before it is told to come back. Who asks for much has more patience.
const LIGHT_WAIT: Duration = Duration::from_secs(30);
const HEAVY_WAIT: Duration = Duration::from_secs(300);

pub(crate) struct Turns {
    light: Line,
    heavy: Line,
    waiting: Gauge,
}

struct Line {
    running: Semaphore,
    waiting: Semaphore,
    wait: Duration,
}

impl Turns {
    pub fn new(waiting: Gauge) -> Self {
        let line =
            |running, waiting, wait| Line { running: Semaphore::new(running), waiting: Semaphore::new(waiting), wait };
        let light = line(LIGHT_RUNNING_MAX, LIGHT_WAITING_MAX, LIGHT_WAIT);
        let heavy = line(HEAVY_RUNNING_MAX, HEAVY_WAITING_MAX, HEAVY_WAIT);
        Self { light, heavy, waiting }
    }

    /// Held while the question runs.
    pub async fn take(&self, work: Work) -> Result<SemaphorePermit<'_>, ApiError> {
        let line = match work {
            Work::Light => &self.light,
            Work::Heavy => &self.heavy,
        };
        if let Ok(turn) = line.running.try_acquire() {
            return Ok(turn);
        }
        let _place = line.waiting.try_acquire().map_err(|_| ApiError::Busy)?;
        let _counted = Counted::new(&self.waiting);
        let turn = tokio::time::timeout(line.wait, line.running.acquire()).await;
        turn.map_err(|_| ApiError::Busy)?.map_err(|_| ApiError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_light_question_has_its_turn_while_heavy_ones_wait() {
        let waiting = Gauge::default();
        let turns = Turns::new(waiting.clone());
        let mut running = Vec::new();
        for _ in 0..HEAVY_RUNNING_MAX {
            running.push(turns.take(Work::Heavy).await.unwrap());
        }
        let mut next = Box::pin(turns.take(Work::Heavy));
        assert!(futures::poll!(&mut next).is_pending());
        assert_eq!(waiting.get(), 1);
        assert!(turns.take(Work::Light).await.is_ok());
        running.pop();
        assert!(next.await.is_ok());
        assert_eq!(waiting.get(), 0);
    }

    #[tokio::test]
    async fn no_more_wait_than_may_and_who_goes_away_leaves_the_place() {
        let turns = Turns::new(Gauge::default());
        let _running = [turns.take(Work::Heavy).await.unwrap(), turns.take(Work::Heavy).await.unwrap()];
        let mut line: Vec<_> = (0..HEAVY_WAITING_MAX).map(|_| Box::pin(turns.take(Work::Heavy))).collect();
        for question in &mut line {
            assert!(futures::poll!(question).is_pending());
        }
        assert!(matches!(turns.take(Work::Heavy).await, Err(ApiError::Busy)));
        line.pop();
        assert!(futures::poll!(Box::pin(turns.take(Work::Heavy))).is_pending());
        assert_eq!(turns.waiting.get(), i64::try_from(line.len()).unwrap());
    }
}
