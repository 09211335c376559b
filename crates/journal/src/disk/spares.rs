//! Spare segments, made ready in the background so that the writer never waits for zeros.
//!
//! Zeros are written and synced, since syncs into blocks that were only reserved are several times slower. Trimmed
//! segments become spares as they are: a new tag makes their old blocks invalid.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::segment::{self, Spare};
use crate::JournalError;

/// One for the writer to take at once; the second keeps a trimmed segment from being removed and zeroed anew.
const SPARES_MAX: usize = 2;
/// After a failure (most likely a full disk), try again this often.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Synced in pieces, so that the writer's own syncs do not queue behind a whole segment of zeros.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

#[derive(Debug)]
pub struct Spares {
    folder: PathBuf,
    segment_bytes: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Spare>,
    /// Ids of trimmed segments, oldest first: removed in this order, or a crash could leave a gap.
    trimmed: VecDeque<u64>,
    /// Why the last attempt failed.
    failing: Option<JournalError>,
    /// The writer was refused; until a spare is ready, appends are refused at the door.
    starved: bool,
    stopping: bool,
}

#[derive(Debug)]
enum Job {
    Zero,
    Reuse(u64),
    Remove(u64),
}

impl Spares {
    pub fn new(folder: PathBuf, segment_bytes: u32) -> Self {
        Self { folder, segment_bytes, state: Mutex::default(), changed: Condvar::new() }
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
        let mut number = 1;
        while let Some(job) = self.next_job() {
            match self.work(&job, number) {
                Ok(spare) => self.succeeded(spare),
                Err(error) => self.failed(job, &error),
            }
            number += 1;
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
            if let Some(id) = state.trimmed.pop_front() {
                let reuse = state.ready.len() < SPARES_MAX && !state.stopping;
                return Some(if reuse { Job::Reuse(id) } else { Job::Remove(id) });
            }
            if state.ready.is_empty() {
                return Some(Job::Zero);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, job: &Job, number: u64) -> io::Result<Option<Spare>> {
        let spare_path = segment::spare_path(&self.folder, number);
        match job {
            Job::Zero => zeroed(spare_path, self.segment_bytes).map(Some),
            Job::Reuse(id) => self.reuse(&segment::path(&self.folder, *id), spare_path),
            Job::Remove(id) => self.remove(&segment::path(&self.folder, *id)),
        }
    }

    fn reuse(&self, from: &Path, to: PathBuf) -> io::Result<Option<Spare>> {
        if fs::metadata(from)?.len() != u64::from(self.segment_bytes) {
            return self.remove(from);
        }
        fs::rename(from, &to)?;
        // Before anything is written to it: a crash must not bring the old name back with new contents.
        segment::sync_folder(&self.folder)?;
        let file = File::options().read(true).write(true).open(&to)?;
        Ok(Some(Spare { path: to, file }))
    }

    fn remove(&self, path: &Path) -> io::Result<Option<Spare>> {
        fs::remove_file(path)?;
        segment::sync_folder(&self.folder)?;
        Ok(None)
    }

    fn succeeded(&self, spare: Option<Spare>) {
        let mut state = self.state();
        state.starved &= spare.is_none();
        state.ready.extend(spare);
        if state.failing.take().is_some() {
            info!(folder = %self.folder.display(), "journal segments can be prepared again");
        }
        self.changed.notify_all();
    }

    fn failed(&self, job: Job, error: &io::Error) {
        let mut state = self.state();
        let doing = match job {
            Job::Zero => format!("prepare a journal segment in `{}`", self.folder.display()),
            Job::Reuse(id) | Job::Remove(id) => {
                // A job that failed after its file had gone is done, or it would fail for ever.
                let path = segment::path(&self.folder, id);
                if path.exists() {
                    state.trimmed.push_front(id);
                }
                format!("recycle journal segment `{}`", path.display())
            }
        };
        if state.failing.is_none() {
            warn!(%error, "cannot {doing}; trying again every second, appends go on while the last segment has room");
        }
        let cause = format!("{error}; free space there, and the journal goes on by itself");
        state.failing = Some(JournalError::Io { doing, cause });
        self.changed.notify_all();
    }
}

/// A new spare, written in full and synced. What could not be finished is removed, since it takes space from others.
pub fn zeroed(path: PathBuf, bytes: u32) -> io::Result<Spare> {
    let written = write_zeros(&path, bytes as usize);
    if written.is_err() {
        // The first error matters; this one may well be that there is no file.
        let _ = fs::remove_file(&path);
    }
    written.map(|file| Spare { path, file })
}

fn write_zeros(path: &Path, bytes: usize) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(ZEROS.len());
        file.write_all(&ZEROS[..piece])?;
        file.sync_data()?;
        left -= piece;
    }
    file.sync_all()?;
    Ok(file)
}
