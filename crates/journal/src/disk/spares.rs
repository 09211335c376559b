//! Spare segments, made ready in the background so that the writer never waits for zeros.
//!
//! Zeros are written and synced, since syncs into blocks that were only reserved are several times slower. Trimmed
//! segments become spares as they are: a new tag makes their old blocks invalid.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::segment::{self, Spare};
use super::storage::{Storage, StoredFile};
use crate::JournalError;

/// One for the writer to take at once; the second keeps a trimmed segment from being removed and zeroed anew.
const SPARES_MAX: usize = 2;
/// After a failure (most likely a full disk), try again this often.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// EMFILE, which the standard library has no name for.
const TOO_MANY_OPEN_FILES: i32 = 24;
/// Synced in pieces, so that the writer's own syncs do not queue behind a whole segment of zeros.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

pub struct Spares {
    storage: Arc<dyn Storage>,
    segment_bytes: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<Spare>,
    /// Of the spares made so far: names are not given twice.
    number: u64,
    /// Ids of trimmed segments, oldest first: removed in this order, or a crash could leave a gap.
    trimmed: VecDeque<u64>,
    /// Why the last attempt failed.
    failing: Option<JournalError>,
    /// The writer was refused; until a spare is ready, appends are refused at the door.
    starved: bool,
    stopping: bool,
}

#[derive(Clone, Copy)]
enum Job {
    Zero,
    Reuse(u64),
    Remove(u64),
}

impl Spares {
    pub fn new(storage: Arc<dyn Storage>, segment_bytes: u32) -> Self {
        Self { storage, segment_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A spare; waits while one is being made, and fails if that failed.
    pub fn take(&self) -> Result<Spare, JournalError> {
        let mut state = self.state();
        loop {
            if let Some(spare) = state.ready.pop() {
                self.changed.notify_all();
                return Ok(spare);
            }
            if let Some(why) = state.failing.clone() {
                state.starved = true;
                return Err(why);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why appends cannot be taken for now, if so.
    pub fn starved(&self) -> Option<JournalError> {
        let state = self.state();
        state.failing.clone().filter(|_| state.starved)
    }

    #[cfg(test)]
    pub fn is_ready(&self) -> bool {
        !self.state().ready.is_empty()
    }

    #[cfg(test)]
    pub fn is_failing(&self) -> bool {
        self.state().failing.is_some()
    }

    /// Hands over a segment that nobody will read again.
    pub fn trim(&self, id: u64) {
        self.state().trimmed.push_back(id);
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// The background thread: until stopped, keeps a spare ready and does away with trimmed segments.
    pub fn run(&self) {
        while let Some(job) = self.next_job() {
            self.work(job);
        }
    }

    /// Does what there is to do, without waiting for more; what fails is tried again by the next call.
    pub fn catch_up(&self) {
        loop {
            let job = self.state().due();
            let Some(job) = job else { return };
            self.work(job);
            if self.state().failing.is_some() {
                return;
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.state();
        if state.failing.is_some() && !state.stopping {
            state = self.changed.wait_timeout(state, RETRY_PAUSE).unwrap_or_else(PoisonError::into_inner).0;
        }
        loop {
            if state.stopping && (state.failing.is_some() || state.trimmed.is_empty()) {
                return None;
            }
            if let Some(job) = state.due() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, job: Job) {
        let name = {
            let mut state = self.state();
            state.number += 1;
            segment::spare_name(state.number)
        };
        let done = match job {
            Job::Zero => zeroed(self.storage.as_ref(), name, self.segment_bytes).map(Some),
            Job::Reuse(id) => self.reuse(&segment::name(id), name),
            Job::Remove(id) => self.remove(&segment::name(id)),
        };
        match done {
            Ok(spare) => self.succeeded(spare),
            Err(error) => self.failed(job, &error),
        }
    }

    fn reuse(&self, from: &str, to: String) -> io::Result<Option<Spare>> {
        let file = self.storage.open(from)?;
        if file.len()? != u64::from(self.segment_bytes) {
            return self.remove(from);
        }
        self.storage.rename(from, &to)?;
        // Before anything is written to it: a crash must not bring the old name back with new contents.
        self.storage.sync()?;
        Ok(Some(Spare { name: to, file }))
    }

    fn remove(&self, name: &str) -> io::Result<Option<Spare>> {
        self.storage.remove(name)?;
        self.storage.sync()?;
        Ok(None)
    }

    fn succeeded(&self, spare: Option<Spare>) {
        let mut state = self.state();
        state.starved &= spare.is_none();
        state.ready.extend(spare);
        if state.failing.take().is_some() {
            info!(folder = %self.storage.path("").display(), "journal segments can be prepared again");
        }
        self.changed.notify_all();
    }

    fn failed(&self, job: Job, error: &io::Error) {
        let mut state = self.state();
        let doing = match job {
            Job::Zero => format!("prepare a journal segment in `{}`", self.storage.path("").display()),
            Job::Reuse(id) | Job::Remove(id) => {
                let name = segment::name(id);
                // A job that failed after its file had gone is done, or it would fail for ever. Any other is due again: a
                // segment that stayed behind while later ones go would be a gap for the next start.
                let is_gone = self.storage.open(&name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
                if !is_gone {
                    state.trimmed.push_front(id);
                }
                format!("recycle journal segment `{}`", self.storage.path(&name).display())
            }
        };
        if state.failing.is_none() {
            warn!(%error, "cannot {doing}; trying again every second, appends go on while the last segment has room");
        }
        let cause = format!("{error}; {}, and the journal goes on by itself", cure(error));
        state.failing = Some(JournalError::Io { doing, cause });
        self.changed.notify_all();
    }
}

impl State {
    fn due(&mut self) -> Option<Job> {
        if let Some(id) = self.trimmed.pop_front() {
            let reuse = self.ready.len() < SPARES_MAX && !self.stopping;
            return Some(if reuse { Job::Reuse(id) } else { Job::Remove(id) });
        }
        (self.ready.is_empty() && !self.stopping).then_some(Job::Zero)
    }
}

/// What helps against an error of the folder.
pub fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        _ if error.raw_os_error() == Some(TOO_MANY_OPEN_FILES) => "raise the limit of open files",
        _ => "mend that",
    }
}

/// A new spare, written in full and synced. What could not be finished is removed, since it takes space from others.
pub fn zeroed(storage: &dyn Storage, name: String, bytes: u32) -> io::Result<Spare> {
    let written = write_zeros(storage, &name, bytes as usize);
    if written.is_err() {
        // The first error matters; this one may well be that there is no file.
        let _ = storage.remove(&name);
    }
    written.map(|file| Spare { name, file })
}

fn write_zeros(storage: &dyn Storage, name: &str, bytes: usize) -> io::Result<Arc<dyn StoredFile>> {
    let file = storage.create(name)?;
    let mut at = 0;
    while at < bytes {
        let piece = ZEROS.len().min(bytes - at);
        file.write_all_at(&ZEROS[..piece], at as u64)?;
        file.sync()?;
        at += piece;
    }
    Ok(file)
}
