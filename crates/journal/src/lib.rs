//! The durable log. It sees bytes, a partition and an offset; what an event is, it does not know.
//!
//! A record is handed over with [`Journal::append`] and is durable once its [`Receipt`] resolves. Readers see durable
//! records only, each partition in the order of its offsets.

mod disk;
mod memory;
mod receipt;

use std::time::Duration;

use bytes::Bytes;
use tally_model::{Offset, Partition, Positions};

pub use disk::{DiskJournal, DiskOptions, SyncReport};
pub use memory::MemoryJournal;
pub use receipt::Receipt;

/// Bytes to keep, and the partition that somebody else chose for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: Partition,
    pub bytes: Bytes,
}

/// A durable record and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub partition: Partition,
    pub offset: Offset,
    pub bytes: Bytes,
}

pub trait Journal: Send + Sync + 'static {
    /// How many partitions there are; fixed when the journal was made.
    fn partitions(&self) -> u16;

    /// Hands records over, in order and all together: they become durable in one commit or not at all.
    /// Does not block; a full queue is an error at once.
    fn append(&self, records: Vec<Record>) -> Result<Receipt, JournalError>;

    /// Reads from these positions on. Offsets that were trimmed away are an error.
    fn reader(&self, from: &Positions) -> Result<Box<dyn Reader>, JournalError>;

    /// The first offset still held, per partition.
    fn start(&self) -> Positions;

    /// The offset that the next durable record will get, per partition.
    fn end(&self) -> Positions;

    /// Everything below these positions is safe elsewhere: it may go, beyond what is held for replay.
    fn release(&self, below: &Positions) -> Result<(), JournalError>;

    /// Whether it still takes records.
    fn health(&self) -> Result<(), JournalError>;

    /// Writes and syncs what was handed over, then takes no more.
    fn close(&self);
}

pub trait Reader: Send {
    /// The next durable records, at most `records_max`; waits up to `wait` for the first, then gives none.
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Stored>, JournalError>;
}

/// What went wrong, split by what the caller would do about it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum JournalError {
    /// Try again later; nothing was kept.
    #[error("the journal's queue is full ({queued_bytes} bytes wait for the disk); retry after a moment")]
    Full { queued_bytes: usize },
    /// A write or sync failed: nothing after it can be trusted, so nothing more is taken until a restart.
    #[error("the journal stopped after a failed write: {cause}; mend the disk and restart")]
    Poisoned { cause: String },
    #[error("the journal is closed")]
    Closed,
    /// A record is larger than a segment can hold.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The reader asked for what is no longer held.
    #[error("partition {partition} starts at offset {start}, {wanted} was trimmed; restore the journal or start later")]
    Trimmed { partition: Partition, wanted: Offset, start: Offset },
    /// Damage that is not a torn tail. Never skipped silently.
    #[error("the journal is damaged: {what}")]
    Corrupt { what: String },
    /// Another process has the folder.
    #[error("the data folder is in use by another process ({what}); stop it first")]
    Locked { what: String },
    #[error("cannot {doing}: {cause}")]
    Io { doing: String, cause: String },
}
