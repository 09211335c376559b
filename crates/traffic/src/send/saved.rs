//! The note of how far a file was acknowledged: one small JSON file, replaced as a whole after each round.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Resume, SendError, SendOptions};

/// Where a file's note stands, and which server it is about.
#[derive(Debug, Clone)]
pub struct NotePlace {
    path: PathBuf,
    to: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Noted {
    pub to: String,
    /// Lines, or rows of a table, from the file's start.
    pub items: u64,
    /// Hash over all of them: a note about other lines is no note.
    pub trail: String,
}

pub struct Note {
    place: NotePlace,
    items: u64,
    trail: Sha256,
}

impl NotePlace {
    pub fn of(file: &Path, options: &SendOptions) -> Option<Self> {
        let to = options.to.to_string();
        let path = match &options.resume {
            Resume::No => return None,
            Resume::Beside => {
                let mut name = file.as_os_str().to_owned();
                name.push(".tally-sent");
                PathBuf::from(name)
            }
            Resume::In(folder) => {
                let full = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                let name =
                    Sha256::new().chain_update(full.as_os_str().as_encoded_bytes()).chain_update([0]).chain_update(&to);
                folder.join(format!("{}.tally-sent", &hex(&name.finalize())[..32]))
            }
        };
        Some(Self { path, to })
    }

    /// None where nothing is noted, or not about this server, or it cannot be read: then all is sent, which is safe.
    pub fn read(&self) -> Option<Noted> {
        let noted: Noted = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (noted.to == self.to).then_some(noted)
    }
}

impl Note {
    pub fn new(place: NotePlace, items: u64, trail: Sha256) -> Self {
        Self { place, items, trail }
    }

    pub fn trail(&self) -> String {
        hex(&self.trail.clone().finalize())
    }

    /// Written beside and renamed: an interruption leaves the old note or the new one. Not synced, since a note that is
    /// too old costs some sending and nothing else.
    pub fn save(&self) -> Result<(), SendError> {
        let noted = Noted { to: self.place.to.clone(), items: self.items, trail: self.trail() };
        let path = &self.place.path;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let written = serde_json::to_vec(&noted).map_err(Into::into).and_then(|json| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::File::create(&new)?.write_all(&json)?;
            fs::rename(&new, path)
        });
        written.map_err(|source| SendError::Note { path: path.clone(), source })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
