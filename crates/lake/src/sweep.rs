//! Removes data files that no version in use names: those that compaction replaced, and those of commits that never came.

use std::collections::HashSet;

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;

use crate::error::{Doing, Result};
use crate::table::Table;
use crate::writer::Lake;

/// Younger files are left alone: a commit may be about to name them, and readers of an older version still use them.
const GRACE_S: i64 = 3_600;

impl Lake {
    /// Gives the number of files removed.
    pub async fn sweep(&self) -> Result<usize> {
        let now_s = self.clock.now_us() / 1_000_000;
        Ok(sweep_table(&self.events, now_s).await? + sweep_table(&self.rollups, now_s).await?)
    }
}

async fn sweep_table(table: &Mutex<Table>, now_s: i64) -> Result<usize> {
    let (store, live) = {
        let table = table.lock().await;
        let live: HashSet<String> = table.files().iter().map(|file| file.path().to_owned()).collect();
        (table.store(), live)
    };
    let mut removed = 0;
    let mut listed = store.list(None);
    while let Some(file) = listed.try_next().await.doing("list a table's folder")? {
        let path = file.location.as_ref();
        let is_data = path.ends_with(".parquet") && !path.starts_with("_delta_log");
        let age_s = now_s - file.last_modified.timestamp();
        if is_data && age_s > GRACE_S && !live.contains(path) {
            store.delete(&file.location).await.doing("remove an old data file")?;
            removed += 1;
        }
    }
    Ok(removed)
}
