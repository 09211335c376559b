//! The file of API keys: replaced as a whole, so that whoever reads it finds one state or the next; readable by its owner alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tally_capture::replace_secret;
use tally_model::Entropy;

use super::{KEYS_MAX, Key, is_name};

/// The second has verifiers for the Postgres wire.
const VERSION: u32 = 2;

#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<Key>,
}

/// Tells one state of the file from the next. Each replacement is a new file, so this changes whatever the clock does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    changed_at: (i64, i64),
}

impl KeyFile {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// None where there is no file.
    pub fn stamp(&self) -> Option<Stamp> {
        let about = fs::metadata(&self.0).ok()?;
        Some(Stamp { inode: about.ino(), bytes: about.len(), changed_at: (about.ctime(), about.ctime_nsec()) })
    }

    /// No keys where there is no file.
    pub fn read(&self) -> Result<Vec<Key>> {
        let path = self.0.display();
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read the API keys in `{path}`")),
        };
        let cure = "restore the file from a backup, or delete it and make new keys";
        let contents: Contents =
            serde_json::from_slice(&text).with_context(|| format!("the API keys in `{path}` are damaged; {cure}"))?;
        ensure!(
            (1..=VERSION).contains(&contents.version),
            "the API keys in `{path}` have version {}, this binary reads up to {VERSION}; run the newer binary that wrote them",
            contents.version
        );
        let keys = contents.keys;
        ensure!(keys.len() <= KEYS_MAX, "`{path}` has {} API keys, more than {KEYS_MAX}; revoke some", keys.len());
        for (at, key) in keys.iter().enumerate() {
            let is_taken = keys[..at].iter().any(|other| other.name == key.name || other.id == key.id);
            ensure!(is_name(&key.name) && !is_taken, "the API keys in `{path}` are damaged (key {}); {cure}", key.id);
        }
        Ok(keys)
    }

    /// Reads, changes and replaces, while nobody else does.
    pub fn change<T>(&self, entropy: &dyn Entropy, change: impl FnOnce(&mut Vec<Key>) -> Result<T>) -> Result<T> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let handle = fs::create_dir_all(folder).and_then(|()| File::open(folder));
        let handle = handle.with_context(|| format!("cannot open the data folder `{}`", folder.display()))?;
        // Given back when the handle is closed, also by the kernel.
        handle.lock().with_context(|| format!("cannot lock the data folder `{}`", folder.display()))?;
        let mut keys = self.read()?;
        let changed = change(&mut keys)?;
        let mut text = serde_json::to_string_pretty(&Contents { version: VERSION, keys })?;
        text.push('\n');
        replace_secret(&self.0, text.as_bytes(), entropy).with_context(|| {
            format!("cannot write the API keys `{}`; check the folder's owner and free space", self.0.display())
        })?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Scope;
    use std::os::unix::fs::PermissionsExt;
    use tally_model::SeededEntropy;

    fn add(file: &KeyFile, name: &str, seed: u64) -> Key {
        let entropy = SeededEntropy::new(seed);
        let key = Key::new(name, vec![Scope::Ingest], 0, None, &entropy).0;
        let added = file.change(&entropy, |keys| {
            keys.push(key.clone());
            Ok(key)
        });
        added.unwrap()
    }

    #[test]
    fn keys_are_added_durably_for_their_owner_alone_and_each_state_has_its_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("new/keys.json"));
        assert_eq!((file.read().unwrap(), file.stamp()), (vec![], None));
        let first = add(&file, "first", 1);
        let stamp = file.stamp();
        let second = add(&file, "second", 2);
        assert_eq!(file.read().unwrap(), [first, second]);
        assert!(stamp.is_some() && file.stamp() != stamp, "a change cannot be seen");
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn commands_at_once_lose_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys.json"));
        std::thread::scope(|scope| {
            for seed in 0..8 {
                let file = &file;
                scope.spawn(move || add(file, &format!("key-{seed}"), seed));
            }
        });
        assert_eq!(file.read().unwrap().len(), 8);
    }

    #[test]
    fn a_file_that_is_not_whole_is_an_error_with_its_cure_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys.json"));
        add(&file, "a", 1);
        let whole = fs::read_to_string(file.path()).unwrap();
        let check = |text: &str, says: &str| {
            fs::write(file.path(), text).unwrap();
            let error = format!("{:#}", file.read().unwrap_err());
            assert!(error.contains(says), "{error}");
            assert!(file.change(&SeededEntropy::new(1), |_| Ok(())).is_err());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        };
        check(&whole[..whole.len() / 2], "are damaged; restore the file");
        check(&whole.replace("\"a\"", "\"two words\""), "are damaged");
        fs::write(file.path(), whole.replace("\"version\": 2", "\"version\": 1")).unwrap();
        assert_eq!(file.read().unwrap().len(), 1, "a file of before is not read");
        check(&whole.replace("ingest", "root"), "unknown variant `root`");
        check(&whole.replace("\"version\": 2", "\"version\": 3"), "run the newer binary");
    }
}
