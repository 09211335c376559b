//! The one thread that writes: takes what waits, writes it as one block, syncs, and only then tells anybody.
//!
//! At most one block is ever unsynced, and recovery relies on it: a broken block that has a valid one after it was
//! once acknowledged.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tally_model::Positions;
use tracing::{debug, error};

use super::block::{self, ALIGN, Tag};
use super::queue::Append;
use super::storage::StoredFile;
use super::{Shared, SyncReport, segment};
use crate::JournalError;

/// Bounds the time of one sync and the size of a block, except where a single append is larger.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Under load a group begins this long after the one before it at the soonest. A disk that syncs in a tenth of that would be asked
/// for thousands of small groups a second, and each costs the CPU that its few events need to be taken in (decision 28).
const BUSY_GROUP_SPACING: Duration = Duration::from_millis(1);
/// Whoever takes so many appends into one group is under load. What follows a smaller one does not wait.
const BUSY_GROUP_APPENDS: usize = 8;

pub struct Writer {
    shared: Arc<Shared>,
    file: Arc<dyn StoredFile>,
    tag: Tag,
    /// Where the next block goes, and where the file ends.
    at: u64,
    capacity: u64,
    /// The base of the next block.
    next: Positions,
    buffer: Vec<u8>,
}

/// Why a group cannot be written.
enum Stall {
    /// Nothing was touched: refuse what waits, and go on.
    NoSpare(JournalError),
    /// Nothing after this can be trusted.
    Broken(JournalError),
}

impl Writer {
    /// Goes on in the last segment of the log.
    pub fn new(
        shared: Arc<Shared>,
        file: Arc<dyn StoredFile>,
        tag: Tag,
        at: u64,
        next: Positions,
    ) -> Result<Self, JournalError> {
        let length = file.len().map_err(|error| segment::io_error("see the journal's length".into(), &error))?;
        Ok(Self { shared, file, tag, at, capacity: whole(length), next, buffer: Vec::new() })
    }

    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _leave = Leave(Arc::clone(&shared));
        let mut soonest: Option<Instant> = None;
        while let Some(first_bytes) = shared.queue.first_bytes() {
            if let Some(soonest) = soonest {
                thread::sleep(soonest.saturating_duration_since(Instant::now()));
            }
            let began = Instant::now();
            let ControlFlow::Continue(appends) = self.write_group(first_bytes) else { return };
            soonest = (appends >= BUSY_GROUP_APPENDS).then(|| began + BUSY_GROUP_SPACING);
        }
    }

    /// Writes one group of those that wait, beginning with an append of this size, and gives how many it took; breaks off when
    /// nothing more can be trusted.
    pub fn write_group(&mut self, first_bytes: usize) -> ControlFlow<(), usize> {
        match self.make_room(first_bytes) {
            Ok(()) => {}
            Err(Stall::NoSpare(why)) => {
                self.shared.queue.refuse(&why);
                return ControlFlow::Continue(0);
            }
            Err(Stall::Broken(why)) => return self.broken(Vec::new(), &why),
        }
        let group = self.shared.queue.take(self.payload_bytes_max().min(first_bytes.max(GROUP_BYTES_MAX)));
        let payload_bytes = group.iter().map(|append| append.payload_bytes).sum();
        if let Err(why) = self.commit(&group) {
            return self.broken(group, &why);
        }
        self.shared.queue.written(payload_bytes);
        let appends = group.len();
        // The last first: who awaits several in order is woken once, and then finds all of them resolved.
        group.into_iter().rev().for_each(|append| append.resolve(Ok(())));
        ControlFlow::Continue(appends)
    }

    fn broken(&self, group: Vec<Append>, why: &JournalError) -> ControlFlow<(), usize> {
        self.shared.poison(group, why);
        ControlFlow::Break(())
    }

    /// What still fits into this segment as one block.
    fn payload_bytes_max(&self) -> usize {
        let overhead = block::overhead_bytes(self.shared.partitions);
        usize::try_from(self.capacity.saturating_sub(self.at)).unwrap_or(usize::MAX).saturating_sub(overhead)
    }

    fn make_room(&mut self, payload_bytes: usize) -> Result<(), Stall> {
        if payload_bytes <= self.payload_bytes_max() {
            return Ok(());
        }
        let shared = &self.shared;
        let spare = shared.spares.take().map_err(Stall::NoSpare)?;
        let id = self.tag.segment + 1;
        let segment = segment::begin(shared.storage.as_ref(), &spare, id, &self.next).map_err(Stall::Broken)?;
        debug!(segment = id, "journal segment begun");
        self.file = spare.file;
        self.tag = segment.tag;
        self.at = segment.durable_bytes;
        self.capacity = whole(u64::from(shared.segment_bytes));
        shared.log.roll(segment);
        Ok(())
    }

    fn commit(&mut self, group: &[Append]) -> Result<(), JournalError> {
        let records = group.iter().flat_map(|append| &append.records);
        let end = block::encode(&mut self.buffer, self.tag, &self.next, records);
        let began = Instant::now();
        let synced = self.file.write_all_at(&self.buffer, self.at).and_then(|()| self.file.sync());
        synced.map_err(|error| {
            let path = self.shared.storage.path(&segment::name(self.tag.segment));
            segment::io_error(format!("write and sync journal segment `{}`", path.display()), &error)
        })?;
        let report = SyncReport {
            records: end.total() - self.next.total(),
            bytes: self.buffer.len() as u64,
            elapsed: began.elapsed(),
        };
        self.at += report.bytes;
        self.next = end;
        self.shared.log.extend(self.at, &self.next);
        (self.shared.on_sync)(&report);
        Ok(())
    }
}

/// Blocks end at multiples of `ALIGN`.
fn whole(bytes: u64) -> u64 {
    bytes - bytes % ALIGN as u64
}

/// However the writer ends, nobody waits for it in vain.
pub struct Leave(pub Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        if thread::panicking() {
            let cause = "the writing thread panicked".to_owned();
            self.0.poison(Vec::new(), &JournalError::Poisoned { cause });
        }
        self.0.log.stop(JournalError::Closed);
    }
}

impl Shared {
    fn poison(&self, group: Vec<Append>, why: &JournalError) {
        let why = match why {
            JournalError::Io { doing, cause } => JournalError::Poisoned { cause: format!("cannot {doing}: {cause}") },
            other => other.clone(),
        };
        error!(error = %why, "journal stopped");
        self.queue.stop(why.clone());
        self.log.stop(why.clone());
        group.into_iter().for_each(|append| append.resolve(Err(why.clone())));
        self.queue.refuse(&why);
    }
}
