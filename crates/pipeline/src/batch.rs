//! A run of judged events, ready to be committed as one.

use tally_model::{Cells, Counts, Judged, Positions};

/// Judged events in the form that a sink commits: taken in one by one, while they stand in the log's memory.
pub trait Rows: Default + Send + 'static {
    fn add(&mut self, judged: &Judged<&str>);
}

/// All records between two positions, judged; and what they add to the rollups.
#[derive(Debug, Default)]
pub struct Batch<R> {
    pub from: Positions,
    pub upto: Positions,
    pub rows: R,
    /// Of all rows together.
    pub counts: Counts,
    pub cells: Cells,
}

impl<R> Batch<R> {
    pub fn events(&self) -> usize {
        self.counts.received() as usize
    }
}

/// For sinks that keep events as they are.
impl Rows for Vec<Judged> {
    fn add(&mut self, judged: &Judged<&str>) {
        self.push(judged.map(|text| (*text).to_owned()));
    }
}
