//! One moment of the tables, that any number of reports can be asked of.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::ParquetSource;
use datafusion::datasource::source::DataSourceExec;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tally_model::Positions;
use tally_model::report::{Answer, Report};

use super::plan::why_not_quicker;
use super::report::GROUPS_MAX;
use super::{Queries, Source};
use crate::error::Result;
use crate::writer::LakeView;

/// The tables as they are at one moment: what is asked of it is answered alike, however much is committed meanwhile.
#[derive(Clone)]
pub struct Moment {
    queries: Queries,
    pub(super) view: LakeView,
    /// The version, and the places below which it is, of an earlier moment.
    pub(super) then: Option<(i64, Positions)>,
}

impl Moment {
    pub async fn answer(&self, report: &Report) -> Result<Answer> {
        if !report.is_restated {
            return self.queries.report_of(self, report).await;
        }
        // Neither is cut off before they are compared.
        let whole = Report { limit: GROUPS_MAX, is_restated: false, ..report.clone() };
        let now = Self { then: None, ..self.clone() };
        let then = self.queries.report_of(self, &whole).await?;
        Ok(report.restated(&then, &self.queries.report_of(&now, &whole).await?))
    }

    /// Whether a report takes raw events, and so computes long.
    pub fn is_heavy(&self, report: &Report) -> bool {
        self.then.is_some()
            || report.attribution.is_some()
            || Source::of(&self.queries.made_of(report)) == Source::Events
    }

    /// How a report is answered: from which table, and of it from how many files, and why from no quicker one.
    pub async fn explain(&self, report: &Report) -> Result<Json> {
        let made_of = self.queries.made_of(report);
        let source = if self.then.is_some() { Source::Events } else { Source::of(&made_of) };
        let rows = self.queries.source_rows(&self.view, source, &made_of)?;
        let (mut files, mut bytes) = (0, 0);
        rows.create_physical_plan().await?.apply(|node| {
            let scan =
                node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.downcast_to_file_source::<ParquetSource>());
            for file in scan.iter().flat_map(|(scan, _)| &scan.file_groups).flat_map(|group| group.files()) {
                files += 1;
                bytes += file.object_meta.size;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let why_not = if self.then.is_some() {
            vec![("rollups".to_owned(), "cells do not tell what was in them then".to_owned())]
        } else {
            why_not_quicker(&made_of)
        };
        let why_not = why_not.into_iter().map(|(table, reason)| json!({"table": table, "reason": reason}));
        let in_memory = match source {
            Source::Rollup(view, grain) if report.attribution.is_none() => {
                self.queries.cells_in_memory(&self.view.rollups, (view, grain), &made_of).is_some()
            }
            _ => false,
        };
        Ok(json!({
            "source": source.name(),
            "in_memory": in_memory,
            "why_not": why_not.collect::<Vec<_>>(),
            "files": files,
            "bytes": bytes,
            "version": self.version(),
        }))
    }

    /// The version of `events` that it is as of.
    pub fn version(&self) -> i64 {
        self.then.as_ref().map_or_else(|| self.view.events_version(), |(version, _)| *version)
    }

    /// What of the tables a report is about: two moments with the same have the same answer to it.
    pub fn state(&self, report: &Report) -> String {
        let LakeView { events, rebuilds, attributions, .. } = &self.view;
        let id = format!("{} {}", events.id, self.queries.audience_people_min);
        let then = match &self.then {
            Some((version, _)) if !report.is_restated => return format!("{id} as of {version}"),
            Some((version, _)) => format!("{version} and "),
            None => String::new(),
        };
        let date = |at_us: i64| Timestamp::from_microsecond(at_us).map(|at| at.strftime("%Y-%m-%d").to_string());
        let (first, last) = (date(report.from_us).unwrap_or_default(), date(report.to_us - 1).unwrap_or_default());
        let files = events.days.of_days(&first, &last);
        // Which of the words about conversions are about these days is not kept: with any, all may have changed.
        let attributed = report.attribution.map_or(0, |_| attributions.version);
        format!("{id} {then}{files:x} {rebuilds} {attributed}")
    }
}

impl Queries {
    /// A report, of the tables as they are now.
    pub async fn report(&self, report: &Report) -> Result<Answer> {
        self.moment(report).await?.answer(report).await
    }

    /// Holds on to the tables as they are now, or were then.
    pub async fn moment(&self, report: &Report) -> Result<Moment> {
        let view = self.current();
        let then = match report.as_of {
            None => None,
            Some(as_of) => {
                let version = self.past.version(as_of, &view).await?;
                Some((version, self.past.positions(version, &view).await?))
            }
        };
        Ok(Moment { queries: self.clone(), view, then })
    }
}
