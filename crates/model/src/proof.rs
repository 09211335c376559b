//! What Tally can prove of its figures: that everything received has one verdict, and the life of a single event.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use crate::Class;

/// Differences that are told one by one; more are only counted.
const DIFFERENCES_TOLD: usize = 100;

/// What a check found. No differences mean that everything holds.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct CheckReport {
    pub events_version: i64,
    pub recounted: bool,
    /// Records that the journal handed over: the sum of the committed offsets.
    pub received: u64,
    #[schema(value_type = BTreeMap<String, KindCount>)]
    pub kinds: BTreeMap<&'static str, KindCount>,
    /// Rollup cells compared with raw events (all grains and views).
    pub cells_compared: u64,
    #[serde(flatten)]
    pub found: Differences,
}

/// received = counted + duplicate + invalid_givt + invalid_sivt + quarantined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct KindCount {
    pub received: i64,
    pub counted: i64,
    pub duplicate: i64,
    pub invalid_givt: i64,
    pub invalid_sivt: i64,
    pub quarantined: i64,
}

impl KindCount {
    pub fn of_class(&mut self, class: Class) -> &mut i64 {
        match class {
            Class::Counted => &mut self.counted,
            Class::Duplicate => &mut self.duplicate,
            Class::InvalidGivt => &mut self.invalid_givt,
            Class::InvalidSivt => &mut self.invalid_sivt,
            Class::Quarantined => &mut self.quarantined,
        }
    }

    pub fn classes_sum(&self) -> i64 {
        self.counted + self.duplicate + self.invalid_givt + self.invalid_sivt + self.quarantined
    }
}

/// What counting a range of days again found and replaced.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RebuildReport {
    pub days: String,
    /// The months whose own cells were counted again with them.
    pub months: String,
    pub events_version: i64,
    /// Cells that were counted from raw events.
    pub cells: u64,
    /// Whether there was anything to replace, and it was.
    pub replaced: bool,
    /// `expected` is what the raw events say, and the cell now; `found` is what it said before.
    #[serde(flatten)]
    pub found: Differences,
}

/// Two lakes beside each other, row by row and cell by cell.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub events: TableComparison,
    pub cells: TableComparison,
    pub attributions: TableComparison,
}

impl Comparison {
    pub fn is_identical(&self) -> bool {
        self.events.is_identical() && self.cells.is_identical() && self.attributions.is_identical()
    }
}

/// One table of two lakes: ours and the other's.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableComparison {
    pub rows: [u64; 2],
    /// SHA-256 over all rows in the order of their keys: equal where, and only where, all rows are.
    pub digests: [String; 2],
    /// The first differences, as sentences.
    pub differences: Vec<String>,
    pub differences_total: u64,
}

impl TableComparison {
    pub fn is_identical(&self) -> bool {
        self.differences_total == 0 && self.digests[0] == self.digests[1]
    }

    /// Notes a difference.
    pub fn differs(&mut self, how: impl FnOnce() -> String) {
        self.differences_total += 1;
        if self.differences.len() < DIFFERENCES_TOLD {
            self.differences.push(how());
        }
    }
}

/// Differences, the first of them one by one.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Differences {
    pub differences: Vec<Difference>,
    pub differences_total: u64,
}

impl Differences {
    /// Takes over what another check found.
    pub fn add(&mut self, other: Differences) {
        self.differences_total += other.differences_total;
        let room = DIFFERENCES_TOLD.saturating_sub(self.differences.len());
        self.differences.extend(other.differences.into_iter().take(room));
    }

    pub fn expect(&mut self, place: impl FnOnce() -> String, expected: i64, found: i64) {
        if expected != found {
            self.differences_total += 1;
            if self.differences.len() < DIFFERENCES_TOLD {
                self.differences.push(Difference { place: place(), expected, found });
            }
        }
    }
}

/// One thing that does not hold: where, what the raw events or the log say, and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Difference {
    pub place: String,
    pub expected: i64,
    pub found: i64,
}

impl CheckReport {
    pub fn holds(&self) -> bool {
        self.found.differences_total == 0
    }

    /// Notes a difference, if the two are not equal.
    pub fn expect(&mut self, place: impl FnOnce() -> String, expected: i64, found: i64) {
        self.found.expect(place, expected, found);
    }
}

/// An event in quarantine, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quarantined {
    pub event_id: String,
    pub partition: i32,
    pub offset: i64,
    pub received_at: String,
    pub occurred_at: String,
    pub kind: String,
    pub campaign_id: String,
    pub reason: String,
    /// The same as a sentence, with what is known of this event.
    pub why: String,
}

/// All sightings of an id, in the order of the log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Life {
    pub event_id: String,
    pub events_version: i64,
    pub sightings: Vec<LifeEvent>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LifeEvent {
    pub partition: i32,
    pub offset: i64,
    pub received_at: String,
    pub occurred_at: String,
    pub kind: String,
    pub verdict: String,
    pub reason: Option<String>,
    /// Where the sighting stands that this one repeats.
    pub duplicate_of_offset: Option<i64>,
    /// The data file that holds it.
    pub file: String,
    /// The other columns, without hashes of people.
    #[schema(value_type = BTreeMap<String, Json>)]
    pub fields: Map<String, Json>,
    /// The rollup cells that it is counted in, by its verdict.
    pub cells: Vec<LifeCell>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LifeCell {
    pub rollup: String,
    pub bucket: String,
    #[schema(value_type = BTreeMap<String, Json>)]
    pub values: Map<String, Json>,
}
