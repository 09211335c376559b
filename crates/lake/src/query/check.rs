//! Proof: that everything received has exactly one verdict, and that every rollup says what the raw events say.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::{JoinType, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::datetime::expr_fn::date_trunc;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, max, sum};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use tally_model::report::Base;
use tally_model::{CheckReport, Class, Grain, Kind, KindCount, Partition, Reason, Users, View};
use uuid::Uuid;

use super::Queries;
use super::report::{event_sum, rollup_sum, text, whole};
use crate::error::{LakeError, Result};
use crate::schema::{EVENTS_PARTITION_COLUMNS, ROLLUP_DIMENSIONS, base_column, summed_bases};
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
        self.count_kinds(&view, &mut report).await?;
        self.check_totals(&view, &mut report).await?;
        if recount {
            for rollup_view in View::ALL {
                for grain in Grain::ALL {
                    self.recount(&view, rollup_view, grain, &mut report).await?;
                }
            }
            for (partition, _) in view.committed.iter() {
                self.find_counted_twice(&view, partition, dedup_ttl_s, &mut report).await?;
            }
        }
        Ok(report)
    }

    fn events(&self, view: &LakeView) -> Result<DataFrame> {
        self.table(&view.events, &EVENTS_PARTITION_COLUMNS)
    }

    /// Each offset below the committed one stands in the raw table once: as many rows, up to the last offset, and with
    /// `distinct`, so many different ones.
    async fn check_offsets(&self, view: &LakeView, distinct: bool, report: &mut CheckReport) -> Result<()> {
        let offset = ident("offset");
        let different = if distinct { count_distinct(offset.clone()) } else { count(offset.clone()) };
        let found = [count(offset.clone()).alias("n"), max(offset).alias("last"), different.alias("different")];
        let groups = vec![cast(ident("partition"), DataType::Int64).alias("partition")];
        let batches = self.events(view)?.aggregate(groups, found.to_vec())?.collect().await?;
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
    async fn count_kinds(&self, view: &LakeView, report: &mut CheckReport) -> Result<()> {
        let groups = vec![ident("kind"), ident("verdict")];
        let batches = self.events(view)?.aggregate(groups, vec![count(lit(1i64)).alias("n")])?.collect().await?;
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
        let received: i64 = kinds.values().map(|kind| kind.received).sum();
        report.expect(|| "received events".to_owned(), view.committed.total() as i64, received);
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
        let raw = self.events(view)?.aggregate(Vec::new(), raw)?.collect().await?;
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

    /// Raw events grouped like the rollup, minus the rollup: whatever is not zero is a difference.
    async fn recount(&self, view: &LakeView, rollup: View, grain: Grain, report: &mut CheckReport) -> Result<()> {
        let mut keys = vec!["campaign_id", "currency"];
        keys.extend(rollup.own_dimensions().iter().map(|dimension| dimension.as_str()));
        debug_assert!(rollup.own_dimensions().iter().all(|own| ROLLUP_DIMENSIONS.contains(own)));
        let columns = |time: Expr| -> Vec<Expr> {
            let keys = keys.iter().map(|name| ident(*name));
            keys.chain([time.alias("bucket")]).collect()
        };
        let unit = lit(ScalarValue::Utf8(Some(grain.as_str().to_owned())));
        let bases = compared_bases(grain);
        let sums = |of: fn(Base) -> Expr| -> Vec<Expr> {
            bases.iter().map(|base| of(*base).alias(base_column(*base))).collect()
        };
        let raw = self.events(view)?.aggregate(columns(date_trunc(unit, ident("occurred_at"))), sums(event_sum))?;
        let of_rollup = ident("view").eq(lit(rollup.as_str())).and(ident("grain").eq(lit(grain.as_str())));
        let cells = self.table(&view.rollups, &[])?.filter(of_rollup)?;
        let cells = cells.aggregate(columns(ident("bucket")), sums(rollup_sum))?;

        let names: Vec<&str> = keys.iter().copied().chain(["bucket"]).collect();
        let signed = |expected: bool| -> Vec<Expr> {
            let keys = names.iter().map(|name| {
                if *name == "bucket" {
                    cast(ident("bucket"), crate::schema::timestamp()).alias("bucket")
                } else {
                    ident(*name)
                }
            });
            let values = bases.iter().flat_map(|base| {
                let column = base_column(*base);
                let value = cast(ident(column), WIDE);
                let nothing = cast(lit(0i64), WIDE);
                let (raw, cell) = if expected { (value, nothing) } else { (nothing, value) };
                [raw.alias(format!("expected_{column}")), cell.alias(format!("found_{column}"))]
            });
            keys.chain(values).collect()
        };
        let both = raw.select(signed(true))?.union(cells.select(signed(false))?)?;
        let totals = bases.iter().flat_map(|base| {
            let column = base_column(*base);
            ["expected", "found"].map(|side| sum(ident(format!("{side}_{column}"))).alias(format!("{side}_{column}")))
        });
        let compared = both.aggregate(names.iter().map(|name| ident(*name)).collect(), totals.collect())?;
        for batch in compared.collect().await? {
            report.cells_compared += batch.num_rows() as u64;
            compare_cells(&batch, rollup, grain, &names, report)?;
        }
        Ok(())
    }

    /// First sightings of one id must be a time to live apart.
    async fn find_counted_twice(
        &self,
        view: &LakeView,
        partition: Partition,
        ttl_s: u64,
        report: &mut CheckReport,
    ) -> Result<()> {
        let repeats = Reason::ALL.into_iter().filter(|reason| !reason.remembers_id());
        let repeats = repeats.map(|reason| lit(reason.as_str())).collect();
        let is_first = ident("reason").is_null().or(ident("reason").in_list(repeats, true));
        let firsts = self.events(view)?.filter(ident("partition").eq(lit(i32::from(partition))).and(is_first))?;
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

fn compare_cells(
    batch: &RecordBatch,
    rollup: View,
    grain: Grain,
    keys: &[&str],
    report: &mut CheckReport,
) -> Result<()> {
    for base in compared_bases(grain) {
        let column = base_column(base);
        let (expected, found) = (format!("expected_{column}"), format!("found_{column}"));
        for at in 0..batch.num_rows() {
            let place = || {
                let key = keys.iter().map(|key| format!("{key}={}", name(batch, key, at)));
                format!("{}_{} {}: {column}", rollup.as_str(), grain.as_str(), key.collect::<Vec<_>>().join(" "))
            };
            let (expected, found) = (number(batch, &expected, at)?, number(batch, &found, at)?);
            if base != Base::Users || !is_within_error(expected, found) {
                report.expect(place, expected, found);
            }
        }
    }
    Ok(())
}

/// What a recount compares: everything, and distinct users where rollups keep them.
fn compared_bases(grain: Grain) -> Vec<Base> {
    let users = (grain != Grain::Minute).then_some(Base::Users);
    summed_bases().into_iter().chain(users).collect()
}

/// Whether an estimate is as good as estimates are: within six standard errors, which one in 500 million is not.
pub(crate) fn is_within_error(exact: i64, estimate: i64) -> bool {
    let allowed = 6.0 * Users::RELATIVE_STANDARD_ERROR * exact as f64;
    (exact - estimate).abs() as f64 <= allowed.max(1.0)
}

const WIDE: DataType = DataType::Decimal128(38, 0);

/// A number of a row; null, the sum over nothing, is zero.
fn number(batch: &RecordBatch, column: &str, at: usize) -> Result<i64> {
    let values = batch.column_by_name(column);
    whole(values.ok_or_else(|| LakeError::Damaged { what: format!("the check has no column {column}") })?, at)
}

fn name(batch: &RecordBatch, column: &str, at: usize) -> String {
    let Some(values) = batch.column_by_name(column) else { return String::new() };
    if let Some(times) = values.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>() {
        let time = jiff::Timestamp::from_microsecond(times.value(at)).unwrap_or_default();
        return time.to_string();
    }
    text(values, at).unwrap_or_else(|| "null".to_owned())
}
