//! Proof: that everything received has exactly one verdict, and that every rollup says what the raw events say.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::JoinType;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, max};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use tally_model::report::Base;
use tally_model::{CheckReport, Class, Days, Grain, Kind, KindCount, Partition, Reason, Users, View};
use uuid::Uuid;

use super::Queries;
use super::report::{day, event_sum, rollup_sum, text, whole};
use crate::error::{LakeError, Result};
use crate::schema::{EVENTS_PARTITION_COLUMNS, base_column, summed_bases};
use crate::writer::LakeView;

impl Queries {
    /// Compares the log's offsets, the raw rows and the totals of every rollup; with `recount`, every cell of every rollup
    /// with a fresh count of the raw events, and looks for ids that were counted twice.
    pub async fn check(&self, recount: bool, dedup_ttl_s: u64) -> Result<CheckReport> {
        let view = self.current();
        let mut report = CheckReport {
            events_version: view.events_version(),
            recounted: recount,
            received: view.committed.total(),
            ..CheckReport::default()
        };
        self.check_offsets(&view, recount, &mut report).await?;
        self.count_kinds(&view, None, &mut report).await?;
        let received: i64 = report.kinds.values().map(|kind| kind.received).sum();
        report.expect(|| "received events".to_owned(), view.committed.total() as i64, received);
        self.check_totals(&view, &mut report).await?;
        self.check_attributions(&view, &mut report).await?;
        if recount {
            for rollup_view in View::ALL {
                for grain in Grain::ALL {
                    self.recount(&view, rollup_view, grain, None, &mut report).await?;
                }
            }
            for (partition, _) in view.committed.iter() {
                self.find_counted_twice(&view, partition, None, dedup_ttl_s, &mut report).await?;
            }
        }
        Ok(report)
    }

    /// The same of some days, reading no others' events: their cells beside a fresh count, and the cells of their months
    /// beside the sums of the cells of days. Ids are looked for among the events of these days.
    pub async fn check_days(&self, days: Days, dedup_ttl_s: u64) -> Result<CheckReport> {
        let view = self.current();
        let mut report =
            CheckReport { events_version: view.events_version(), recounted: true, ..CheckReport::default() };
        self.count_kinds(&view, Some(days), &mut report).await?;
        report.received = report.kinds.values().map(|kind| kind.received.unsigned_abs()).sum();
        for rollup_view in View::ALL {
            for grain in Grain::ALL.into_iter().filter(|grain| *grain != Grain::Month) {
                self.recount(&view, rollup_view, grain, Some(days), &mut report).await?;
            }
            self.add_up_months(&view, rollup_view, days.whole_months(), &mut report).await?;
        }
        for (partition, _) in view.committed.iter() {
            self.find_counted_twice(&view, partition, Some(days), dedup_ttl_s, &mut report).await?;
        }
        Ok(report)
    }

    /// The raw events, of some days or all.
    pub(super) fn events(&self, view: &LakeView, days: Option<Days>) -> Result<DataFrame> {
        let events = self.table(&view.events, &EVENTS_PARTITION_COLUMNS)?;
        let Some(days) = days else { return Ok(events) };
        let date = ident("event_date");
        Ok(events.filter(date.clone().gt_eq(day(days.from_us())).and(date.lt(day(days.to_us()))))?)
    }

    /// Each offset below the committed one stands in the raw table once: as many rows, up to the last offset, and with
    /// `distinct`, so many different ones.
    async fn check_offsets(&self, view: &LakeView, distinct: bool, report: &mut CheckReport) -> Result<()> {
        let offset = ident("offset");
        let different = if distinct { count_distinct(offset.clone()) } else { count(offset.clone()) };
        let found = [count(offset.clone()).alias("n"), max(offset).alias("last"), different.alias("different")];
        let groups = vec![cast(ident("partition"), DataType::Int64).alias("partition")];
        let batches = self.events(view, None)?.aggregate(groups, found.to_vec())?.collect().await?;
        let mut found: BTreeMap<i64, (i64, i64, i64)> = BTreeMap::new();
        for batch in &batches {
            for at in 0..batch.num_rows() {
                let value = |name| number(batch, name, at);
                found.insert(value("partition")?, (value("n")?, value("last")?, value("different")?));
            }
        }
        for (partition, next) in view.committed.iter() {
            let next = next as i64;
            let (rows, last, different) = found.remove(&i64::from(partition)).unwrap_or((0, -1, 0));
            report.expect(|| format!("rows of partition {partition}"), next, rows);
            report.expect(|| format!("last offset of partition {partition}"), next - 1, last);
            report.expect(|| format!("different offsets of partition {partition}"), next, different);
        }
        for (partition, (rows, ..)) in found {
            report.expect(|| format!("rows of partition {partition}, which the log does not have"), 0, rows);
        }
        Ok(())
    }

    /// Conservation by kind, from the raw rows.
    async fn count_kinds(&self, view: &LakeView, days: Option<Days>, report: &mut CheckReport) -> Result<()> {
        let groups = vec![ident("kind"), ident("verdict")];
        let batches = self.events(view, days)?.aggregate(groups, vec![count(lit(1i64)).alias("n")])?.collect().await?;
        let mut kinds: BTreeMap<&'static str, KindCount> =
            Kind::ALL.iter().map(|k| (k.as_str(), KindCount::default())).collect();
        for batch in &batches {
            for at in 0..batch.num_rows() {
                let n = number(batch, "n", at)?;
                let (kind, verdict) = (name(batch, "kind", at), name(batch, "verdict", at));
                let (Some(kind), Some(class)) = (Kind::parse(&kind), Class::parse(&verdict)) else {
                    report.expect(|| format!("rows of kind {kind:?} with verdict {verdict:?}"), 0, n);
                    continue;
                };
                let entry = kinds.entry(kind.as_str()).or_default();
                entry.received += n;
                *entry.of_class(class) += n;
            }
        }
        for (kind, found) in &kinds {
            report.expect(|| format!("verdicts of {kind}s"), found.received, found.classes_sum());
        }
        report.kinds = kinds;
        Ok(())
    }

    /// Every view and grain adds up to the same, and to what the raw rows say.
    async fn check_totals(&self, view: &LakeView, report: &mut CheckReport) -> Result<()> {
        let groups = vec![ident("view"), ident("grain")];
        let batches = self.table(&view.rollups, &[])?.aggregate(groups, sums(rollup_sum))?.collect().await?;
        let raw = vec![
            event_sum(Base::CostMicros).alias("cost_micros"),
            event_sum(Base::RevenueMicros).alias("revenue_micros"),
        ];
        let raw = self.events(view, None)?.aggregate(Vec::new(), raw)?.collect().await?;
        let amount =
            |name: &str| raw.first().filter(|batch| batch.num_rows() > 0).map_or(Ok(0), |batch| number(batch, name, 0));
        let (cost, revenue) = (amount("cost_micros")?, amount("revenue_micros")?);
        let mut seen = 0;
        for batch in &batches {
            for at in 0..batch.num_rows() {
                seen += 1;
                let (rollup, grain) = (name(batch, "view", at), name(batch, "grain", at));
                for kind in Kind::ALL {
                    for class in Class::ALL {
                        let found = number(batch, base_column(Base::Events(kind, class)), at)?;
                        let expected = *report.kinds.entry(kind.as_str()).or_default().of_class(class);
                        let place = || format!("{rollup}_{grain}: all {}s that are {}", kind.as_str(), class.as_str());
                        report.expect(place, expected, found);
                    }
                }
                for (name, expected) in [("cost_micros", cost), ("revenue_micros", revenue)] {
                    report.expect(|| format!("{rollup}_{grain}: all {name}"), expected, number(batch, name, at)?);
                }
            }
        }
        let expected = if view.committed.total() == 0 { 0 } else { (View::ALL.len() * Grain::ALL.len()) as i64 };
        report.expect(|| "rollups that hold anything".to_owned(), expected, seen);
        Ok(())
    }

    /// First sightings of one id must be a time to live apart.
    async fn find_counted_twice(
        &self,
        view: &LakeView,
        partition: Partition,
        days: Option<Days>,
        ttl_s: u64,
        report: &mut CheckReport,
    ) -> Result<()> {
        let repeats = Reason::ALL.into_iter().filter(|reason| !reason.remembers_id());
        let repeats = repeats.map(|reason| lit(reason.as_str())).collect();
        let is_first = ident("reason").is_null().or(ident("reason").in_list(repeats, true));
        let firsts = self.events(view, days)?.filter(ident("partition").eq(lit(i32::from(partition))).and(is_first))?;
        let repeated =
            firsts.clone().aggregate(vec![ident("event_id").alias("repeated")], vec![count(lit(1i64)).alias("n")])?;
        let repeated = repeated.filter(ident("n").gt(lit(1i64)))?;
        let judged_at = coalesce(vec![ident("judged_at"), ident("received_at")]);
        let sightings = firsts
            .join(repeated, JoinType::LeftSemi, &["event_id"], &["repeated"], None)?
            .select(vec![ident("event_id"), cast(judged_at, DataType::Int64).alias("judged_at")])?
            .sort(vec![ident("event_id").sort(true, true), ident("judged_at").sort(true, true)])?;
        let mut last: Option<(Uuid, i64)> = None;
        for batch in sightings.collect().await? {
            let ids = batch.column(0).as_binary_opt::<i32>();
            let ids = ids.ok_or_else(|| LakeError::Damaged { what: "ids are not binary".to_owned() })?;
            for at in 0..batch.num_rows() {
                let id = Uuid::from_slice(ids.value(at)).unwrap_or_default();
                let judged_at_s = number(&batch, "judged_at", at)?.div_euclid(1_000_000);
                if let Some((_, before_s)) = last.filter(|(before, _)| *before == id) {
                    let is_early = judged_at_s.abs_diff(before_s) < ttl_s;
                    report.expect(
                        || format!("first sightings of {id} within the time to live"),
                        1,
                        1 + i64::from(is_early),
                    );
                }
                last = Some((id, judged_at_s));
            }
        }
        Ok(())
    }
}

fn sums(of: fn(Base) -> Expr) -> Vec<Expr> {
    summed_bases().into_iter().map(|base| of(base).alias(base_column(base))).collect()
}

/// Whether an estimate is as good as estimates are: within six standard errors, which one in 500 million is not.
pub(crate) fn is_within_error(exact: i64, estimate: i64) -> bool {
    let allowed = 6.0 * Users::RELATIVE_STANDARD_ERROR * exact as f64;
    (exact - estimate).abs() as f64 <= allowed.max(1.0)
}

/// A number of a row; null, the sum over nothing, is zero.
pub(super) fn number(batch: &RecordBatch, column: &str, at: usize) -> Result<i64> {
    let values = batch.column_by_name(column);
    whole(values.ok_or_else(|| LakeError::Damaged { what: format!("the check has no column {column}") })?, at)
}

pub(super) fn name(batch: &RecordBatch, column: &str, at: usize) -> String {
    let Some(values) = batch.column_by_name(column) else { return String::new() };
    if let Some(times) = values.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>() {
        let time = jiff::Timestamp::from_microsecond(times.value(at)).unwrap_or_default();
        return time.to_string();
    }
    text(values, at).unwrap_or_else(|| "null".to_owned())
}
