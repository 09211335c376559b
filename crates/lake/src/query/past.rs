//! The past: which events were in at an earlier version of `events`.
//!
//! Rows are only ever added, each with its place in the journal, and a version says up to which places it is: an old report is a
//! sum over the rows below them, whatever has been compacted since. Old files are not needed for it.

use std::sync::Arc;

use datafusion::logical_expr::{Expr, ident, lit};
use jiff::Timestamp;
use object_store::ObjectStore;
use tally_model::Positions;
use tally_model::report::{AsOf, ReportError};
use url::Url;

use crate::error::{LakeError, Result};
use crate::table::{Log, Table, TableSpec};
use crate::writer::{LakeView, committed_positions};

/// The way to earlier versions of `events`.
#[derive(Clone)]
pub(crate) struct Past {
    pub store: Arc<dyn ObjectStore>,
    pub url: Url,
    pub spec: TableSpec,
}

impl Past {
    /// The version that readers saw then.
    pub async fn version(&self, as_of: AsOf, view: &LakeView) -> Result<i64> {
        let newest = view.events_version();
        match as_of {
            AsOf::Version(version) if version > newest => {
                Err(wrong(format!("version {version} is yet to come"), format!("the newest is {newest}")))
            }
            AsOf::Version(version) => Ok(version),
            AsOf::Time(at_us) => self.version_at(at_us, newest).await,
        }
    }

    /// Up to which places a version is.
    pub async fn positions(&self, version: i64, view: &LakeView) -> Result<Positions> {
        let table = Table::open_at(&self.store, &self.url, self.spec.clone(), version).await;
        let table = table.map_err(|_| gone(format!("version {version}")))?;
        committed_positions(&table, view.committed.partitions()).await
    }

    /// The last version that was committed at or before an instant, by halving.
    async fn version_at(&self, at_us: i64, newest: i64) -> Result<i64> {
        let log = Log::open(&self.store, &self.url)?;
        let (mut known, mut after) = (None, newest + 1);
        let mut from = 0;
        while from < after {
            let middle = from + (after - from) / 2;
            match log.committed_at_ms(middle).await? {
                Some(at_ms) if at_ms.saturating_mul(1_000) > at_us => after = middle,
                // An entry that is cleaned up is older than all that are not.
                found => {
                    known = found.map(|_| middle);
                    from = middle + 1;
                }
            }
        }
        known.ok_or_else(|| gone(Timestamp::from_microsecond(at_us).map(|at| format!("{at:.3}")).unwrap_or_default()))
    }
}

/// Whether an event is below these places.
pub(crate) fn is_below(positions: &Positions) -> Expr {
    let within = positions.iter().filter(|(_, next)| *next > 0).map(|(partition, next)| {
        let next = i64::try_from(next).unwrap_or(i64::MAX);
        ident("partition").eq(lit(i32::from(partition))).and(ident("offset").lt(lit(next)))
    });
    within.reduce(Expr::or).unwrap_or_else(|| lit(false))
}

fn gone(what: String) -> LakeError {
    wrong(format!("the log does not reach back to {what}"), "take a later one; the log is kept for 30 days".to_owned())
}

fn wrong(what: String, cure: String) -> LakeError {
    LakeError::Report(ReportError { field: "as_of".to_owned(), what, cure })
}
