//! Which days were touched since they were last recounted: a recount of those leaves nothing out, and is bounded by what came
//! in. The mark `recounted` in `rollups` says up to which version of `events` that is done.

use std::collections::BTreeSet;

use deltalake_core::protocol::{DeltaOperation, SaveMode};
use tally_model::{Days, Mark};

use crate::error::{LakeError, Result};
use crate::writer::Lake;

const RECOUNTED: &str = "recounted";

/// Days to recount, and the version of `events` that they are touched up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub days: Vec<Days>,
    pub events_version: i64,
    recounted: Option<i64>,
}

impl Lake {
    /// The days that got events since the version that was recounted last; all days where nothing is known of that.
    pub async fn touched(&self) -> Result<Touched> {
        let view = self.view();
        let events_version = view.events_version();
        let recounted = self.rollups.lock().await.mark(RECOUNTED).await?;
        let mut dates = BTreeSet::new();
        let mut from = recounted;
        for version in recounted.unwrap_or(events_version) + 1..=events_version {
            // One by one: commits go on in between.
            match self.events.lock().await.added_in(version).await {
                Ok(added) => {
                    let date = |file: deltalake_core::kernel::Add| file.partition_values.get("event_date").cloned();
                    dates.extend(added.into_iter().filter_map(date).flatten());
                }
                // The log does not reach back so far any more.
                Err(LakeError::Damaged { .. }) => from = None,
                Err(error) => return Err(error),
            }
        }
        if from.is_none() {
            let live = view.events.files.iter().filter_map(|file| file.partition_value("event_date"));
            dates.extend(live.map(ToOwned::to_owned));
        }
        let days: std::result::Result<Vec<Days>, _> = dates.iter().map(|date| Days::of_date(date)).collect();
        let days = days.map_err(|error| LakeError::Damaged { what: format!("a partition of `events`: {error}") })?;
        Ok(Touched { days, events_version, recounted })
    }

    /// Notes that these days were recounted and held.
    pub async fn note_recounted(&self, touched: &Touched) -> Result<()> {
        if touched.recounted == Some(touched.events_version) {
            return Ok(());
        }
        let mark = Mark { name: RECOUNTED.to_owned(), before: touched.recounted, after: touched.events_version };
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        self.rollups.lock().await.commit(Vec::new(), Vec::new(), &[mark], operation).await?;
        Ok(())
    }
}
