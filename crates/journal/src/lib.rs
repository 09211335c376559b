//! The durable log. It sees bytes, a partition and an offset; what an event is, it does not know.
//!
//! A record is handed over with [`Journal::append`] and is durable once its [`Receipt`] resolves. Readers see durable
//! records only, each partition in the order of its offsets. A journal that stopped (closed, or poisoned by a failed
//! write) still gives readers everything durable, and after that says why it stopped.

mod disk;
mod memory;
mod receipt;

use std::time::Duration;

use bytes::Bytes;
use tally_model::{Offset, Partition, Positions};

pub use disk::{Claim, DiskJournal, DiskOptions, OsFolder, Stepped, Stepper, Storage, StoredFile, SyncReport};
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
    /// Does not block; a full queue is an error at once, and then nothing was kept.
    fn append(&self, records: Vec<Record>) -> Result<Receipt, JournalError>;

    /// Reads from these positions on. Offsets that were trimmed away are an error.
    fn reader(&self, from: &Positions) -> Result<Box<dyn Reader>, JournalError>;

    /// The first offset still held, per partition.
    fn start(&self) -> Positions;

    /// The offset that the next durable record will get, per partition.
    fn end(&self) -> Positions;

    /// Everything below these positions is safe elsewhere: it may go, beyond what is held for replay.
    fn release(&self, below: &Positions) -> Result<(), JournalError>;

    /// How full it is: of what may wait for the disk, and of what may wait to be released, the larger part that does. From 1 on
    /// an append may be refused.
    fn fullness(&self) -> f64;

    /// Whether it still takes records.
    fn health(&self) -> Result<(), JournalError>;

    /// Writes and syncs what was handed over, then takes no more.
    fn close(&self);
}

pub trait Reader: Send {
    /// The next durable records, at most `records_max`; waits up to `wait` for the first, then gives none.
    /// Once the journal has stopped and every durable record was read, the error that stopped it.
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Stored>, JournalError>;
}

/// What went wrong, split by what the caller would do about it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum JournalError {
    /// Try again later; nothing was kept.
    #[error("the journal's queue is full ({queued_bytes} bytes wait for the disk); retry after a moment")]
    Full { queued_bytes: usize },
    /// Try again later; nothing was kept.
    #[error(
        "{unreleased_bytes} bytes of the journal wait to be counted, which is all that may; retry after some seconds"
    )]
    Behind { unreleased_bytes: u64 },
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
    /// Nothing was kept. Where an append gets this (no room for the next segment), it may be tried again later:
    /// the journal goes on by itself once there is space.
    #[error("cannot {doing}: {cause}")]
    Io { doing: String, cause: String },
}

fn check_partitions(records: &[Record], partitions: u16) -> Result<(), JournalError> {
    let Some(stray) = records.iter().find(|record| record.partition >= partitions) else { return Ok(()) };
    let doing = format!("append to partition {}", stray.partition);
    Err(JournalError::Io { doing, cause: format!("the journal has {partitions} partitions, numbered from 0") })
}

/// A reader may start where records are held, or at the very end.
fn check_positions(from: &Positions, start: &Positions, end: &Positions) -> Result<(), JournalError> {
    for (partition, start) in start.iter() {
        let wanted = from.next(partition);
        if wanted < start {
            return Err(JournalError::Trimmed { partition, wanted, start });
        }
    }
    // Whoever asks has seen records that are not here: offsets would be given twice, for different records.
    if let Some((partition, wanted)) = from.iter().find(|(partition, wanted)| *wanted > end.next(*partition)) {
        let end = end.next(partition);
        let what = format!(
            "partition {partition} ends at offset {end}, but a reader has read up to {wanted}: records were lost or \
             the journal was replaced; restore it, or start the reader's own data afresh"
        );
        return Err(JournalError::Corrupt { what });
    }
    Ok(())
}
