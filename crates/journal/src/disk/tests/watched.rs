//! A folder that does what a test wants before it does what it should.

use super::*;

/// The operating system's folder, but for what it does first.
pub struct Watched<F> {
    folder: OsFolder,
    before: Arc<F>,
}

/// What a storage is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening a file that is there, or making a new one.
    Open,
    /// Syncing a segment.
    Sync,
    /// Syncing a file that is a spare still: one that is being prepared, or becomes a segment.
    SyncSpare,
}

impl<F: Fn(Step) -> io::Result<()> + Send + Sync + 'static> Watched<F> {
    pub fn options(folder: &Path, before: F) -> DiskOptions {
        let storage = Self { folder: OsFolder::new(folder), before: Arc::new(before) };
        DiskOptions { segment_bytes: SEGMENT_BYTES, retain_bytes: 0, ..DiskOptions::on(Arc::new(storage), 2) }
    }

    fn watched(&self, name: &str, file: Arc<dyn StoredFile>) -> Arc<dyn StoredFile> {
        Arc::new(WatchedFile { opened_as: self.folder.path(name), file, before: Arc::clone(&self.before) })
    }
}

impl<F: Fn(Step) -> io::Result<()> + Send + Sync + 'static> Storage for Watched<F> {
    fn claim(&self) -> Result<Claim, JournalError> {
        self.folder.claim()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        (self.before)(Step::Open)?;
        self.folder.open(name).map(|file| self.watched(name, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        (self.before)(Step::Open)?;
        self.folder.create(name).map(|file| self.watched(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.folder.sync()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

struct WatchedFile<F> {
    opened_as: PathBuf,
    file: Arc<dyn StoredFile>,
    before: Arc<F>,
}

impl<F: Fn(Step) -> io::Result<()> + Send + Sync + 'static> StoredFile for WatchedFile<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let is_spare = self.opened_as.extension().is_some_and(|kind| kind == "spare") && self.opened_as.exists();
        (self.before)(if is_spare { Step::SyncSpare } else { Step::Sync })?;
        self.file.sync()
    }
}
