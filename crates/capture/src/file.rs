//! The files that capture reads beside the journal: secrets that it makes itself, and files that are read anew when they change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tally_model::Entropy;
use tracing::{info, warn};

pub(crate) const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {doing} {what} `{path}`: {cause}; check its owner, permissions and free space")]
    Io { doing: &'static str, what: &'static str, path: PathBuf, cause: io::Error },
    #[error("{what} `{path}` {wrong}")]
    Content { what: &'static str, path: PathBuf, wrong: String },
}

/// A file and what it is called in messages.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub what: &'static str,
    pub path: &'a Path,
}

impl Named<'_> {
    pub fn failed(self, doing: &'static str) -> impl Fn(io::Error) -> FileError {
        let (what, path) = (self.what, self.path.to_owned());
        move |cause| FileError::Io { doing, what, path: path.clone(), cause }
    }

    pub fn wrong(self, wrong: impl Into<String>) -> FileError {
        FileError::Content { what: self.what, path: self.path.to_owned(), wrong: wrong.into() }
    }

    /// Its bytes; none where there is no such file.
    pub fn read_secret(self) -> Result<Option<Vec<u8>>, FileError> {
        match fs::read(self.path) {
            Ok(bytes) => {
                self.warn_if_others_can_read();
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(self.failed("read")(cause)),
        }
    }

    pub fn write_secret(self, bytes: &[u8], entropy: &dyn Entropy) -> Result<(), FileError> {
        fs::create_dir_all(folder_of(self.path)).map_err(self.failed("create the folder of"))?;
        replace_secret(self.path, bytes, entropy).map_err(self.failed("write"))
    }

    /// Not refused: a secret that is mounted into a container often is readable by its group.
    fn warn_if_others_can_read(self) {
        #[cfg(unix)]
        if let Ok(metadata) = fs::metadata(self.path) {
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
            if mode & 0o077 != 0 {
                let (what, mode) = (self.what, format!("{mode:o}"));
                warn!(path = %self.path.display(), mode, "others can read {what}; chmod it to 600");
            }
        }
    }
}

/// Readable by its owner alone. Written beside and renamed, so that a crash leaves the old file or the new one; both the file and
/// its name are synced.
pub fn replace_secret(path: &Path, bytes: &[u8], entropy: &dyn Entropy) -> io::Result<()> {
    let temporary = path.with_extension(format!("{:016x}.tmp", entropy.bits() as u64));
    let written = (|| {
        let mut file = create_private(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder_of(path))
    })();
    if written.is_err() {
        // Already failing; a left-over temporary file harms nobody.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// An `Entropy` gives at least 122 unpredictable bits a draw; four draws, condensed, leave no fixed bit in the key.
pub(crate) fn random_key(entropy: &dyn Entropy) -> [u8; KEY_BYTES] {
    let mut digest = Sha256::new();
    for _ in 0..4 {
        digest.update(entropy.bits().to_be_bytes());
    }
    digest.finalize().into()
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// What a file says, read anew when it changes. Where the new one cannot be read, the earlier one stays in use.
pub struct WatchedFile<T> {
    path: Option<PathBuf>,
    read: fn(&Path) -> Result<T, FileError>,
    held: RwLock<Option<Arc<T>>>,
    seen: Mutex<Option<Seen>>,
}

/// What tells one content of a file from another without reading it.
type Seen = (Option<SystemTime>, u64);

impl<T> WatchedFile<T> {
    /// A file that may be absent, and may come later.
    pub(crate) fn open(path: PathBuf, read: fn(&Path) -> Result<T, FileError>) -> Result<Self, FileError> {
        let file = Self { path: Some(path), read, held: RwLock::default(), seen: Mutex::default() };
        file.refresh()?;
        Ok(file)
    }

    /// No file at all.
    pub(crate) fn none(read: fn(&Path) -> Result<T, FileError>) -> Self {
        Self { path: None, read, held: RwLock::default(), seen: Mutex::default() }
    }

    pub(crate) fn held(&self) -> Option<Arc<T>> {
        // Asked for with every event: where there is no file, without a lock.
        self.path.as_ref()?;
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the file was read anew. A content that cannot be used is told once, and not tried again until it changes.
    pub(crate) fn refresh(&self) -> Result<bool, FileError> {
        let Some(path) = &self.path else { return Ok(false) };
        // Absent, or out of reach: what is held stays in use.
        let Ok(metadata) = fs::metadata(path) else { return Ok(false) };
        let now = (metadata.modified().ok(), metadata.len());
        let before = self.seen.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before == Some(now) {
            return Ok(false);
        }
        let content = Arc::new((self.read)(path)?);
        self.held.write().unwrap_or_else(PoisonError::into_inner).replace(content);
        if before.is_some() {
            info!(path = %path.display(), "file read anew");
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Result<u32, FileError> {
        let file = Named { what: "the number", path };
        let text = fs::read_to_string(path).map_err(file.failed("read"))?;
        text.trim().parse().map_err(|_| file.wrong("is no number"))
    }

    #[test]
    fn a_file_is_read_anew_when_it_changes_and_kept_when_it_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let file = WatchedFile::open(path.clone(), number).unwrap();
        assert_eq!(file.held(), None, "there is none yet");
        fs::write(&path, "1").unwrap();
        assert!(file.refresh().unwrap() && !file.refresh().unwrap());
        assert_eq!(file.held().as_deref(), Some(&1));
        fs::write(&path, "broken").unwrap();
        assert!(file.refresh().unwrap_err().to_string().ends_with("is no number"));
        assert!(!file.refresh().unwrap(), "the same mistake is told again");
        assert_eq!(file.held().as_deref(), Some(&1));
        fs::write(&path, "22").unwrap();
        assert!(file.refresh().unwrap());
        assert_eq!(file.held().as_deref(), Some(&22));
        fs::remove_file(&path).unwrap();
        assert!(!file.refresh().unwrap());
        assert_eq!(file.held().as_deref(), Some(&22));
    }

    #[test]
    fn a_file_that_is_wrong_from_the_start_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "x").unwrap();
        assert!(WatchedFile::open(path, number).is_err());
    }
}
