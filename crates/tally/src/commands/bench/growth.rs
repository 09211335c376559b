//! What an event costs as more and more of them are there: the server's CPU and memory, by tenths of the work.

use std::time::Duration;

use anyhow::Result;

use super::child::ServerProcess;
use crate::commands::query::grouped;
use crate::commands::say;

const SAMPLED_EVERY: Duration = Duration::from_millis(500);
const TENTHS: u64 = 10;
/// With fewer looks than this at each tenth, what is between two of them is chance.
const SAMPLES_A_TENTH_MIN: usize = 5;

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// Committed so far.
    events: u64,
    cpu_s: f64,
    memory_bytes: u64,
    /// For ids, which grow up to a bound of their own.
    ids_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Growth(Vec<Sample>);

/// A tenth of the work. What is taken in ahead of being counted costs the tenth that is counted meanwhile: the last ones, when all is
/// in, look cheaper than they are.
#[derive(Debug, PartialEq)]
struct Tenth {
    events: u64,
    cpu_us_an_event: f64,
    memory_bytes_max: u64,
    ids_bytes: u64,
}

impl Growth {
    /// Looks at the server again and again, until it is dropped.
    pub async fn watch(&mut self, server: &ServerProcess) -> Result<()> {
        loop {
            let (cpu_s, memory_bytes) = (server.cpu_seconds()?, server.memory_bytes()?);
            let metrics = server.metrics().await?;
            let ids_bytes = metrics.ids_bytes()?;
            self.0.push(Sample { events: metrics.counted(), cpu_s, memory_bytes, ids_bytes });
            tokio::time::sleep(SAMPLED_EVERY).await;
        }
    }

    /// Nothing where there was too little to look at.
    pub fn tell(&self) {
        let tenths = self.tenths();
        if !tenths.is_empty() {
            say(format!("\n{:>14} {:>14} {:>14} {:>14}", "events so far", "CPU us/event", "memory MB", "ids of that"));
        }
        for tenth in tenths {
            let (events, memory) = (grouped(tenth.events as i64), tenth.memory_bytes_max as f64 / 1e6);
            let ids = tenth.ids_bytes as f64 / 1e6;
            say(format!("{events:>14} {:>14.2} {memory:>14.0} {ids:>14.0}", tenth.cpu_us_an_event));
        }
    }

    fn tenths(&self) -> Vec<Tenth> {
        let all = self.0.last().map_or(0, |last| last.events);
        if self.0.iter().filter(|sample| sample.events > 0).count() < SAMPLES_A_TENTH_MIN * TENTHS as usize {
            return Vec::new();
        }
        let mut from = 0;
        let tenth = |nth| {
            let to = from + self.0[from..].iter().position(|sample| sample.events * TENTHS >= all * nth)?;
            let (first, last) = (self.0[from], self.0[to]);
            let memory_bytes_max = self.0[from..=to].iter().map(|sample| sample.memory_bytes).max()?;
            from = to;
            let cpu_us_an_event = (last.cpu_s - first.cpu_s) * 1e6 / (last.events - first.events).max(1) as f64;
            Some(Tenth { events: last.events, cpu_us_an_event, memory_bytes_max, ids_bytes: last.ids_bytes })
        };
        (1..=TENTHS).filter_map(tenth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_shows_in_the_tenth_in_which_it_does() {
        // Twice as dear from the middle on; the memory that is held for a moment counts.
        let sample = |n: u64| Sample {
            events: n * 1_000,
            cpu_s: (n + n.saturating_sub(50)) as f64 * 0.01,
            memory_bytes: if n == 73 { 900 } else { 100 },
            ids_bytes: n,
        };
        let tenths = Growth((0..=100).map(sample).collect()).tenths();
        let costs: Vec<f64> = tenths.iter().map(|tenth| tenth.cpu_us_an_event.round()).collect();
        assert_eq!(costs, [10.0, 10.0, 10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0, 20.0]);
        let memory: Vec<u64> = tenths.iter().map(|tenth| tenth.memory_bytes_max).collect();
        assert_eq!(memory, [100, 100, 100, 100, 100, 100, 100, 900, 100, 100]);
        let last = tenths.last().unwrap();
        assert_eq!((last.events, last.ids_bytes), (100_000, 100));
    }

    #[test]
    fn little_work_is_not_cut_into_tenths() {
        let sample = |n: u64| Sample { events: n, ..Sample::default() };
        assert_eq!(Growth((0..20).map(sample).collect()).tenths(), []);
        assert_eq!(Growth::default().tenths(), []);
    }
}
