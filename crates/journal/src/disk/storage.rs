//! Where segments lie: a folder of files. The operating system's here; the simulation has one that tears and loses what was
//! not synced, and that fails on purpose.

use std::any::Any;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::segment::io_error;
use crate::JournalError;

/// A folder of files, each known by its name.
pub trait Storage: Send + Sync + 'static {
    /// Makes the folder where it is missing, durably, and keeps others out for as long as the claim is held.
    fn claim(&self) -> Result<Claim, JournalError>;

    fn list(&self) -> io::Result<Vec<String>>;

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;

    /// Fails where the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>>;

    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes what was created, renamed or removed durable.
    fn sync(&self) -> io::Result<()>;

    /// A name as people find it, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// The folder is ours until this is dropped.
pub type Claim = Box<dyn Any + Send + Sync>;

#[allow(clippy::len_without_is_empty, reason = "its length is asked of the disk, and nobody asks whether it is 0")]
pub trait StoredFile: Send + Sync {
    fn len(&self) -> io::Result<u64>;

    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the operating system's.
#[derive(Debug)]
pub struct OsFolder {
    path: PathBuf,
    /// Open from the claim on: where a process has no file descriptor left, a sync that needed one would fail, and a failed
    /// sync stops the journal.
    handle: OnceLock<File>,
}

impl OsFolder {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), handle: OnceLock::new() }
    }
}

impl Storage for OsFolder {
    fn claim(&self) -> Result<Claim, JournalError> {
        let folder = &self.path;
        create_folder(folder).map_err(|error| io_error(format!("create `{}`", folder.display()), &error))?;
        let claim = lock(folder)?;
        let handle = File::open(folder).map_err(|error| io_error(format!("open `{}`", folder.display()), &error))?;
        self.handle.get_or_init(|| handle);
        Ok(Box::new(claim))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(File::options().read(true).write(true).open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(File::options().read(true).write(true).create_new(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.get().map_or_else(|| sync_folder(&self.path), File::sync_all)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl StoredFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, into, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates what is missing of a folder's path, durably.
fn create_folder(folder: &Path) -> io::Result<()> {
    let parts = folder.ancestors().filter(|part| !part.as_os_str().is_empty());
    let missing: Vec<_> = parts.take_while(|part| !part.exists()).collect();
    fs::create_dir_all(folder)?;
    for created in missing {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_folder(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let doing = || format!("lock `{}`", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| io_error(doing(), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { what: format!("`{}` is locked", path.display()) }),
        Err(TryLockError::Error(error)) => Err(io_error(doing(), &error)),
    }
}
