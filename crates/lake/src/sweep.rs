//! Removes files that nothing names any longer: those that compaction replaced, and what was never finished.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{Doing, Result};
use crate::store::STAGED;
use crate::writer::Lake;

/// How long a file must have been unused, by our own observation, before it goes: readers of an older version, and a commit
/// that is about to name it, still need it. Its age says nothing of that.
const GRACE_S: i64 = 3_600;

/// Since when files were found unused, per table and path, in seconds. Kept in memory: a restart only lets them live longer.
#[derive(Debug, Default)]
pub(crate) struct Unused(HashMap<(&'static str, String), i64>);

impl Lake {
    /// Gives the number of files removed; none while somebody else is at the files, whose new ones nothing names yet.
    pub async fn sweep(&self) -> Result<usize> {
        let Ok(_maintaining) = self.maintaining.try_lock() else { return Ok(0) };
        let now_s = self.clock.now_us() / 1_000_000;
        let mut unused = self.unused.lock().await;
        let mut found = HashMap::new();
        let mut removed = 0;
        for (name, table) in
            [("events", &self.events), ("rollups", &self.rollups), ("attributions", &self.attributions)]
        {
            let (store, used) = {
                let table = table.lock().await;
                let mut used: HashSet<String> = table.files().iter().map(|file| file.path().to_owned()).collect();
                used.extend(table.pending_paths());
                (table.store(), used)
            };
            let used: HashSet<String> = used.into_iter().chain(self.published_paths(name)).collect();
            let mut listed = store.list(None);
            while let Some(file) = listed.try_next().await.doing("list a table's folder")? {
                let path = file.location.to_string();
                let is_ours = path.contains(STAGED) || (path.ends_with(".parquet") && !path.starts_with("_delta_log"));
                if !is_ours || used.contains(&path) {
                    continue;
                }
                let key = (name, path);
                let since_s = unused.0.get(&key).copied().unwrap_or(now_s);
                if now_s - since_s >= GRACE_S {
                    store.delete(&file.location).await.doing("remove an unused file")?;
                    removed += 1;
                } else {
                    found.insert(key, since_s);
                }
            }
        }
        unused.0 = found;
        Ok(removed)
    }

    /// What readers see now may be older than the tables.
    fn published_paths(&self, table: &str) -> Vec<String> {
        let view = self.view();
        let files = match table {
            "events" => view.events.files,
            "rollups" => view.rollups.files,
            _ => view.attributions.files,
        };
        files.iter().map(|file| file.path().to_owned()).collect()
    }
}
