//! Where judged events go. The lake implements it; tests and simulations have one that fails on purpose.

use tally_model::{Cells, EventId, Fact, Partition, Positions};

use crate::{Batch, PersonsClick, Rows};

/// A first sighting that the sink has committed.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    pub partition: Partition,
    pub id: EventId,
    pub judged_at_s: i64,
    /// Where it is a click that counted, of somebody known.
    pub click: Option<PersonsClick>,
}

/// Which sightings are wanted. More of them do no harm.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Ids judged from this second on..
    pub ids_from_s: i64,
    /// ..and not longer than this before the newest of their partition.
    pub ids_for_s: i64,
    /// With the clicks among those judged at most this long before the newest of all.
    pub clicks_for_s: i64,
}

/// What went wrong, split by what the loop does about it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store is away, full or slow: the same call may succeed later.
    #[error("{0}")]
    Retry(String),
    /// Somebody else writes here, or the data is not what it must be. Going on would count wrongly.
    #[error("{0}")]
    Fatal(String),
}

/// What a restart takes up (`committed`, `sightings`, `versions_to_count`) is as of one version, the one that the sink was
/// opened at: a commit that a dead process had sent and that arrives meanwhile must be in all of them, or in none.
pub trait Sink: Send + 'static {
    /// What it commits.
    type Rows: Rows;

    /// Up to where the log is committed.
    fn committed(&self) -> Positions;

    /// Calls `each` with every first sighting that is wanted, and says the time of each partition in seconds.
    fn sightings(
        &mut self,
        wanted: Wanted,
        each: &mut (dyn FnMut(Sighting) + Send),
    ) -> impl Future<Output = Result<Vec<(Partition, i64)>, SinkError>> + Send;

    /// Commits a batch of events together with its positions; gives the table version that holds them. The batch takes no more rows.
    /// Called again with the same batch after `Retry`, it must not commit twice.
    fn commit_events(&mut self, batch: &mut Batch<Self::Rows>) -> impl Future<Output = Result<i64, SinkError>> + Send;

    /// Commits what one version of the events adds to the rollups, once.
    fn commit_cells(&mut self, version: i64, cells: &Cells) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// The versions whose events are not in the rollups yet, oldest first.
    fn versions_to_count(&mut self) -> impl Future<Output = Result<Vec<i64>, SinkError>> + Send;

    /// Calls `each` with every event that a version added.
    fn facts(
        &mut self,
        version: i64,
        each: &mut (dyn FnMut(&Fact<'_>) + Send),
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}
