//! The journal's disk: what was written is seen at once and durable only after a sync. A power cut keeps some sectors of what was
//! not synced, and some first part of the names that were changed; a killed process loses nothing that it had written.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tally_journal::{Claim, JournalError, Storage, StoredFile};
use tally_model::Clock;

use crate::bug::Bug;
use crate::world::World;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Clone)]
pub struct SimDisk {
    world: Arc<World>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Since the folder was synced.
    changes: Vec<Change>,
    next_inode: u64,
    full_until: Duration,
}

#[derive(Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync.
    dirty: Vec<Range<usize>>,
}

enum Change {
    Named(String, u64),
    Renamed(String, String),
    Removed(String),
}

impl SimDisk {
    pub fn new(world: Arc<World>) -> Self {
        Self { world, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process was killed: the kernel still has what it wrote, and may or may not have brought it to the disk.
    pub fn after_kill(&self) {
        let mut state = self.state();
        if self.world.chance.permille(500) {
            state.inodes.values_mut().for_each(Inode::sync);
            state.durable_names = state.names.clone();
            state.changes.clear();
        }
    }

    /// The machine lost power.
    pub fn after_power_loss(&self) {
        let chance = &self.world.chance;
        let state = &mut *self.state();
        let kept_names = chance.below(state.changes.len() as u64 + 1) as usize;
        for change in state.changes.drain(..).take(kept_names) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        let kept = state.names.values().copied().collect::<Vec<_>>();
        state.inodes.retain(|inode, _| kept.contains(inode));
        for inode in state.inodes.values_mut() {
            let survives = chance.one_of(&[0, 300, 700, 1_000]);
            inode.lose(|| chance.permille(survives));
        }
    }

    fn has_room(&self, state: &mut State) -> bool {
        let now = self.world.elapsed();
        let is_full = now < state.full_until && !self.world.is_calm();
        if !is_full && self.world.trouble("disk becomes full", self.world.plan.troubles.disk_full) {
            // Until somebody makes room.
            state.full_until = now + Duration::from_millis(self.world.chance.between(100, 20_000));
        }
        !is_full
    }

    /// While the auditor looks, nothing goes wrong.
    pub fn undisturbed<T>(&self, look: impl FnOnce() -> T) -> T {
        let was = self.world.calm.swap(true, Ordering::SeqCst);
        let seen = look();
        self.world.calm.store(was, Ordering::SeqCst);
        seen
    }

    fn error(&self) -> io::Result<()> {
        match self.world.trouble("disk failed", self.world.plan.troubles.disk_error) {
            true => Err(io::Error::other("the disk failed")),
            false => Ok(()),
        }
    }

    fn file(&self, inode: u64) -> Arc<dyn StoredFile> {
        Arc::new(SimFile { disk: self.clone(), inode })
    }
}

fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on the disk")
}

impl Inode {
    fn sync(&mut self) {
        self.write_back(|| true);
    }

    /// The machine is gone: of what was not synced, some sectors are on the disk all the same.
    fn lose(&mut self, survives: impl FnMut() -> bool) {
        self.write_back(survives);
        self.seen.clone_from(&self.durable);
    }

    /// What was written reaches the disk, sector by sector, or does not; it is taken for clean afterwards either way.
    fn write_back(&mut self, mut reaches: impl FnMut() -> bool) {
        for range in self.dirty.drain(..) {
            let mut at = range.start;
            while at < range.end {
                let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                let end = sector_end.min(range.end);
                if reaches() {
                    if self.durable.len() < end {
                        self.durable.resize(end, 0);
                    }
                    self.durable[at..end].copy_from_slice(&self.seen[at..end]);
                }
                at = end;
            }
        }
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            Change::Named(name, inode) => {
                names.insert(name, inode);
            }
            Change::Renamed(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
            Change::Removed(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Storage for SimDisk {
    fn claim(&self) -> Result<Claim, JournalError> {
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.world.step("list")?;
        Ok(self.state().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        self.world.step("open")?;
        self.error()?;
        let inode = self.state().names.get(name).copied();
        inode.map(|inode| self.file(inode)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        self.world.step("create")?;
        self.error()?;
        let mut state = self.state();
        if !self.has_room(&mut state) {
            return Err(no_room());
        }
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.next_inode += 1;
        let inode = state.next_inode;
        state.inodes.insert(inode, Inode::default());
        state.names.insert(name.to_owned(), inode);
        state.changes.push(Change::Named(name.to_owned(), inode));
        Ok(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.world.step("rename")?;
        self.error()?;
        let mut state = self.state();
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if to.ends_with("spare") {
            self.world.count("segment recycled");
        }
        state.names.insert(to.to_owned(), inode);
        state.changes.push(Change::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.world.step("remove")?;
        self.error()?;
        let mut state = self.state();
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(Change::Removed(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.world.step("sync folder")?;
        if self.world.bug == Some(Bug::FolderSyncLies) {
            return Ok(());
        }
        self.error()?;
        let mut state = self.state();
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("journal").join(name)
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        state.inodes.get_mut(&self.inode).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).and_then(act)
    }
}

impl StoredFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inode| Ok(inode.seen.len() as u64))
    }

    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.disk.world.step("read")?;
        self.disk.error()?;
        self.with(|inode| {
            let at = at as usize;
            let bytes = inode.seen.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let world = &self.disk.world;
        world.step("write")?;
        let at = at as usize;
        let grows = self.with(|inode| Ok(at + bytes.len() > inode.seen.len()))?;
        if grows && !self.disk.has_room(&mut self.disk.state()) {
            return Err(no_room());
        }
        let failed = self.disk.error();
        let written = if failed.is_ok() { bytes.len() } else { world.chance.below(bytes.len() as u64) as usize };
        self.with(|inode| {
            let end = at + written;
            if inode.seen.len() < end {
                inode.seen.resize(end, 0);
            }
            inode.seen[at..end].copy_from_slice(&bytes[..written]);
            inode.dirty.push(at..end);
            Ok(())
        })?;
        failed
    }

    fn sync(&self) -> io::Result<()> {
        let world = &self.disk.world;
        world.step("sync")?;
        if world.bug == Some(Bug::FileSyncLies) {
            return Ok(());
        }
        let failed = self.disk.error();
        self.with(|inode| {
            // As kernels do: where it fails, some of it got there, and no later sync looks at the rest.
            inode.write_back(|| failed.is_ok() || world.chance.permille(500));
            Ok(())
        })?;
        failed
    }
}
