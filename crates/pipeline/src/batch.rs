//! A run of judged events, ready to be committed as one.

use tally_model::{Cell, Judged, Positions};

/// All records between two positions, judged; and what they add to the rollups.
#[derive(Debug, Default)]
pub struct Batch {
    pub from: Positions,
    pub upto: Positions,
    pub events: Vec<Judged>,
    pub cells: Vec<Cell>,
}
