//! The journal on a local disk: one sequence of segment files for all partitions, so that one sync serves them all and
//! reading gives a total order.
//!
//! In the order that a record travels: [`queue`] holds what was handed over, [`writer`] makes it durable, [`block`] is
//! how it lies on disk, [`segment`] where, [`storage`] what files are, [`spares`] keeps them ready, [`log`] knows what is
//! durable, [`reader`] gives it back, and [`recover`] finds it again after a restart. [`stepper`] takes the threads' place.

mod block;
mod log;
mod queue;
mod reader;
mod recover;
mod segment;
mod spares;
mod stepper;
mod storage;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tally_model::Positions;

use self::log::Log;
use self::queue::{Append, Queue};
use self::reader::DiskReader;
use self::segment::io_error;
use self::spares::Spares;
pub use self::stepper::{Stepped, Stepper};
pub use self::storage::{Claim, OsFolder, Storage, StoredFile};
use self::writer::Writer;
use crate::{Journal, JournalError, Reader, Receipt, Record, check_partitions};

pub struct DiskOptions {
    pub storage: Arc<dyn Storage>,
    /// Fixed when the folder is first opened.
    pub partitions: u16,
    /// The length of one file; also bounds what one append may hold.
    pub segment_bytes: u32,
    /// At least this much of what was released is kept all the same, for replay, if there was as much.
    pub retain_bytes: u64,
    /// Bounds what waits for the disk; beyond it, an append gets [`JournalError::Full`].
    pub queue_bytes_max: usize,
    /// Bounds what is durable and not released; beyond it, an append gets [`JournalError::Behind`].
    pub unreleased_bytes_max: u64,
    /// Told of each group commit, on the writing thread, so it must be quick.
    pub on_sync: Box<dyn Fn(&SyncReport) + Send + Sync>,
}

impl DiskOptions {
    pub fn new(folder: impl Into<PathBuf>, partitions: u16) -> Self {
        Self::on(Arc::new(OsFolder::new(folder)), partitions)
    }

    /// The same in another storage: one that fails on purpose, in tests and simulations.
    pub fn on(storage: Arc<dyn Storage>, partitions: u16) -> Self {
        Self {
            storage,
            partitions,
            segment_bytes: 32 * 1024 * 1024,
            retain_bytes: 1024 * 1024 * 1024,
            queue_bytes_max: 64 * 1024 * 1024,
            unreleased_bytes_max: 8 * 1024 * 1024 * 1024,
            on_sync: Box::new(|_| {}),
        }
    }
}

/// One group commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReport {
    pub records: u64,
    pub bytes: u64,
    /// Of writing and syncing.
    pub elapsed: Duration,
}

/// Closes when dropped.
pub struct DiskJournal {
    shared: Arc<Shared>,
    /// The largest append, as its records lie on disk.
    payload_bytes_max: usize,
    retain_bytes: u64,
    unreleased_bytes_max: u64,
    running: Mutex<Option<Running>>,
    /// Held until this is dropped, never read: whoever has the lock has the folder, also while what was closed is still
    /// read to its end.
    _claim: Claim,
}

/// What the threads, the readers and the front share.
struct Shared {
    storage: Arc<dyn Storage>,
    partitions: u16,
    segment_bytes: u32,
    on_sync: Box<dyn Fn(&SyncReport) + Send + Sync>,
    queue: Queue,
    log: Log,
    spares: Spares,
}

/// What ends with [`Journal::close`].
struct Running {
    writer: JoinHandle<()>,
    preparer: JoinHandle<()>,
}

impl DiskJournal {
    pub fn open(options: DiskOptions) -> Result<Arc<Self>, JournalError> {
        let (journal, writer) = Self::recovered(options)?;
        let shared = &journal.shared;
        let preparing = Arc::clone(shared);
        let preparer = spawn("journal-spares", move || preparing.spares.run())?;
        let writer = spawn("journal-writer", move || writer.run()).inspect_err(|_| shared.spares.stop())?;
        *journal.running() = Some(Running { writer, preparer });
        Ok(Arc::new(journal))
    }

    /// The same without threads: nothing is written but by the stepper's steps, so that a simulation decides when.
    pub fn open_stepped(options: DiskOptions) -> Result<(Arc<Self>, Stepper), JournalError> {
        let (journal, writer) = Self::recovered(options)?;
        let stepper = Stepper::new(Arc::clone(&journal.shared), writer);
        Ok((Arc::new(journal), stepper))
    }

    fn recovered(options: DiskOptions) -> Result<(Self, Writer), JournalError> {
        let DiskOptions { storage, partitions, segment_bytes, on_sync, .. } = options;
        let DiskOptions { retain_bytes, queue_bytes_max, unreleased_bytes_max, .. } = options;
        // A segment takes its own first block and at least one more.
        let overhead = 2 * block::overhead_bytes(partitions) + block::ALIGN;
        let payload_bytes_max = (segment_bytes as usize).saturating_sub(overhead).min(queue_bytes_max);
        if partitions == 0 || payload_bytes_max == 0 {
            let doing = format!("open a journal of {partitions} partitions in segments of {segment_bytes} bytes");
            return Err(JournalError::Io { doing, cause: "there is no room for a record; raise both".into() });
        }
        let claim = storage.claim()?;
        let mut recovered = recover::recover(storage.as_ref(), partitions)?;
        let (file, last) = match (recovered.file.take(), recovered.segments.back()) {
            (Some(file), Some(last)) => (file, last.clone()),
            _ => {
                let spare = spares::zeroed(storage.as_ref(), segment::spare_name(0), segment_bytes);
                let spare = spare.map_err(|error| JournalError::Io {
                    doing: format!("prepare the first journal segment in `{}`", storage.path("").display()),
                    cause: format!("{error}; {}, and start again", spares::cure(&error)),
                })?;
                let first = segment::begin(storage.as_ref(), &spare, 1, &recovered.end)?;
                recovered.segments.push_back(first.clone());
                (spare.file, first)
            }
        };
        let shared = Arc::new(Shared {
            spares: Spares::new(Arc::clone(&storage), segment_bytes),
            log: Log::new(recovered.segments, recovered.end.clone()),
            queue: Queue::new(queue_bytes_max),
            storage,
            partitions,
            segment_bytes,
            on_sync,
        });
        let writer = Writer::new(Arc::clone(&shared), file, last.tag, last.durable_bytes, recovered.end)?;
        let running = Mutex::default();
        Ok((Self { shared, payload_bytes_max, retain_bytes, unreleased_bytes_max, running, _claim: claim }, writer))
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much waits for the disk, of `queue_bytes_max`.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue.bytes()
    }

    /// How much is durable and not released, of `unreleased_bytes_max`.
    pub fn unreleased_bytes(&self) -> u64 {
        self.shared.log.unreleased_bytes()
    }

    /// Durable bytes in all segments that are kept, those included that are released and stay for replay (`retain_bytes`).
    pub fn kept_bytes(&self) -> u64 {
        self.shared.log.kept_bytes()
    }
}

impl Journal for DiskJournal {
    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    fn append(&self, records: Vec<Record>) -> Result<Receipt, JournalError> {
        check_partitions(&records, self.shared.partitions)?;
        let payload_bytes = block::payload_bytes(&records);
        if payload_bytes > self.payload_bytes_max {
            return Err(JournalError::TooLarge { bytes: payload_bytes, bytes_max: self.payload_bytes_max });
        }
        self.health()?;
        if records.is_empty() {
            return Ok(Receipt::durable());
        }
        let unreleased_bytes = self.unreleased_bytes();
        if unreleased_bytes >= self.unreleased_bytes_max {
            return Err(JournalError::Behind { unreleased_bytes });
        }
        let (sender, receipt) = Receipt::pending();
        self.shared.queue.push(Append { records, payload_bytes, receipt: sender })?;
        Ok(receipt)
    }

    fn reader(&self, from: &Positions) -> Result<Box<dyn Reader>, JournalError> {
        Ok(Box::new(DiskReader::new(Arc::clone(&self.shared), from)?))
    }

    fn start(&self) -> Positions {
        self.shared.log.start()
    }

    fn end(&self) -> Positions {
        self.shared.log.end()
    }

    fn release(&self, below: &Positions) -> Result<(), JournalError> {
        self.shared.log.release(below, self.retain_bytes, |segment| self.shared.spares.trim(segment));
        Ok(())
    }

    fn fullness(&self) -> f64 {
        let waiting = self.queued_bytes() as f64 / self.shared.queue.bytes_max() as f64;
        waiting.max(self.unreleased_bytes() as f64 / self.unreleased_bytes_max as f64)
    }

    fn health(&self) -> Result<(), JournalError> {
        self.shared.queue.stopped().or_else(|| self.shared.spares.starved()).map_or(Ok(()), Err)
    }

    fn close(&self) {
        // Held to the end: whoever else closes may rely on it as well.
        let mut running = self.running();
        self.shared.queue.stop(JournalError::Closed);
        let Some(Running { writer, preparer }) = running.take() else { return };
        // A thread that panicked has said so itself, by poisoning.
        let _ = writer.join();
        self.shared.spares.stop();
        let _ = preparer.join();
    }
}

impl Drop for DiskJournal {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for DiskJournal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DiskJournal").field("folder", &self.shared.storage.path("")).finish_non_exhaustive()
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, JournalError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error| io_error(format!("start thread `{name}`"), &error))
}

#[cfg(test)]
mod tests;
