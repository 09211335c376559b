//! Where a kill landed, told from what it left behind: files, the tables' own logs, and the last lines of the process.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Watches a data folder from kill to kill, and counts.
pub struct Landings {
    events: TableLog,
    rollups: TableLog,
    /// Events that are committed and not in the rollups, as the last kill left it.
    uncounted: bool,
    pub found: BTreeMap<&'static str, u32>,
}

/// A Delta table's log, read as far as it went.
struct TableLog {
    folder: PathBuf,
    next_version: u64,
    /// Data files that some version names.
    named: HashSet<String>,
    /// Those that none does, as far as they were noticed.
    strays: HashSet<String>,
    /// The last version that added events.
    last_added: u64,
    /// The version of `events` that the rollups count up to.
    counted: u64,
}

impl Landings {
    pub fn new(data: &Path) -> Self {
        let table = |name| TableLog::new(data.join("lake").join(name));
        Self { events: table("events"), rollups: table("rollups"), uncounted: false, found: BTreeMap::new() }
    }

    /// To be called when a process was killed, with what it had logged.
    pub fn note_kill(&mut self, log: &str) {
        let is_first_start = self.rollups.next_version == 0;
        let is_written = self.events.read_on() | self.rollups.read_on();
        let uncounted = self.events.last_added > self.rollups.counted;
        let last = |message| log.rfind(message);
        let places = [
            ("in the very first start", is_first_start && last("serving").is_none()),
            ("in a later start, before it was ready", !is_first_start && last("pipeline recovered").is_none()),
            ("with rollups to catch up with from a kill before", self.uncounted && uncounted),
            ("between the commit of events and that of their rollups", uncounted && !self.uncounted),
            ("while a file of the lake was written, or before its commit", is_written),
            ("in a compaction", last("compaction begun") > last("compacted").max(last("compaction failed"))),
            ("after it was ready", last("pipeline recovered").is_some()),
        ];
        for (place, is_there) in places {
            *self.found.entry(place).or_default() += u32::from(is_there);
        }
        self.uncounted = uncounted;
    }

    /// To be called with what a process logged that came up after a kill.
    pub fn note_recovery(&mut self, log: &str) {
        for (what, message) in [
            ("recoveries that cut a torn tail of the journal", "torn tail cut"),
            ("recoveries that counted what a kill had left out", "counted a version that a crash had left out"),
        ] {
            *self.found.entry(what).or_default() += u32::from(log.contains(message));
        }
    }

    pub fn of(&self, what: &str) -> u32 {
        self.found.iter().filter(|(place, _)| place.contains(what)).map(|(_, n)| *n).sum()
    }
}

impl TableLog {
    fn new(folder: PathBuf) -> Self {
        let (named, strays) = (HashSet::new(), HashSet::new());
        Self { folder, next_version: 0, named, strays, last_added: 0, counted: 0 }
    }

    /// Reads new versions, and says whether files were left that none of them names.
    fn read_on(&mut self) -> bool {
        let entry = |version| self.folder.join(format!("_delta_log/{version:020}.json"));
        while let Ok(text) = std::fs::read_to_string(entry(self.next_version)) {
            for line in text.lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                if let Some(path) = action["add"]["path"].as_str() {
                    self.named.insert(path.rsplit('/').next().unwrap().to_owned());
                    if action["add"]["dataChange"] == true {
                        self.last_added = self.next_version;
                    }
                }
                if action["txn"]["appId"] == "events" {
                    self.counted = action["txn"]["version"].as_u64().unwrap();
                }
            }
            self.next_version += 1;
        }
        let known = self.strays.len();
        let found: Vec<_> = files_below(&self.folder).into_iter().filter(|name| !self.named.contains(name)).collect();
        self.strays.extend(found);
        self.strays.len() > known
    }
}

/// Names of data files and of unfinished ones.
fn files_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return names };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            names.extend(files_below(&entry.path()));
        } else if name.contains(".staged-") || (name.ends_with(".parquet") && !name.contains("checkpoint")) {
            names.push(name);
        }
    }
    names
}
