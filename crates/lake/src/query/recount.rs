//! Recounting: the cells of one rollup beside a fresh count, column by column.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::datetime::expr_fn::date_trunc;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use tally_model::report::Base;
use tally_model::{CheckReport, Days, Grain, View};

use super::Queries;
use super::check::{is_within_error, name, number};
use super::report::{event_sum, rollup_sum, time};
use crate::error::Result;
use crate::schema::{ROLLUP_DIMENSIONS, base_column, summed_bases, timestamp};
use crate::writer::LakeView;

const WIDE: DataType = DataType::Decimal128(38, 0);

impl Queries {
    /// Compares the cells of a rollup, of some days or all, with the raw events.
    pub(super) async fn recount(
        &self,
        view: &LakeView,
        rollup: View,
        grain: Grain,
        days: Option<Days>,
        report: &mut CheckReport,
    ) -> Result<()> {
        let raw = self.events(view, days)?;
        let raw = raw.aggregate(groups(rollup, truncated(grain, "occurred_at")), sums(grain, event_sum))?;
        let cells = self.cells_of(view, rollup, grain, days)?;
        self.compare_sums(rollup, grain, raw, cells, report).await
    }

    /// Compares the cells of months with the sums of the cells of their days.
    pub(super) async fn add_up_months(
        &self,
        view: &LakeView,
        rollup: View,
        months: Days,
        report: &mut CheckReport,
    ) -> Result<()> {
        let by_day = self.rows_of(view, rollup, Grain::Day, Some(months))?;
        let by_day =
            by_day.aggregate(groups(rollup, truncated(Grain::Month, "bucket")), sums(Grain::Month, rollup_sum))?;
        let cells = self.cells_of(view, rollup, Grain::Month, Some(months))?;
        self.compare_sums(rollup, Grain::Month, by_day, cells, report).await
    }

    fn cells_of(&self, view: &LakeView, rollup: View, grain: Grain, days: Option<Days>) -> Result<DataFrame> {
        let rows = self.rows_of(view, rollup, grain, days)?;
        Ok(rows.aggregate(groups(rollup, ident("bucket")), sums(grain, rollup_sum))?)
    }

    fn rows_of(&self, view: &LakeView, rollup: View, grain: Grain, days: Option<Days>) -> Result<DataFrame> {
        let of_rollup = ident("view").eq(lit(rollup.as_str())).and(ident("grain").eq(lit(grain.as_str())));
        let rows = self.table(&view.rollups, &[])?.filter(of_rollup)?;
        let Some(days) = days else { return Ok(rows) };
        let bucket = ident("bucket");
        Ok(rows.filter(bucket.clone().gt_eq(time(days.from_us())).and(bucket.lt(time(days.to_us()))))?)
    }

    /// Both sides under the same keys, each with nothing in the other's columns: added up, whatever is not equal differs.
    async fn compare_sums(
        &self,
        rollup: View,
        grain: Grain,
        expected: DataFrame,
        found: DataFrame,
        report: &mut CheckReport,
    ) -> Result<()> {
        let bases = compared_bases(grain);
        let names: Vec<&str> = key_columns(rollup).into_iter().chain(["bucket"]).collect();
        let signed = |is_expected: bool| -> Vec<Expr> {
            let keys = names.iter().map(|name| {
                if *name == "bucket" { cast(ident("bucket"), timestamp()).alias("bucket") } else { ident(*name) }
            });
            let values = bases.iter().flat_map(|base| {
                let column = base_column(*base);
                let value = cast(ident(column), WIDE);
                let nothing = cast(lit(0i64), WIDE);
                let (expected, found) = if is_expected { (value, nothing) } else { (nothing, value) };
                [expected.alias(format!("expected_{column}")), found.alias(format!("found_{column}"))]
            });
            keys.chain(values).collect()
        };
        let both = expected.select(signed(true))?.union(found.select(signed(false))?)?;
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
}

fn key_columns(rollup: View) -> Vec<&'static str> {
    debug_assert!(rollup.own_dimensions().iter().all(|own| ROLLUP_DIMENSIONS.contains(own)));
    let own = rollup.own_dimensions().iter().map(|dimension| dimension.as_str());
    ["campaign_id", "currency"].into_iter().chain(own).collect()
}

fn groups(rollup: View, bucket: Expr) -> Vec<Expr> {
    key_columns(rollup).into_iter().map(ident).chain([bucket.alias("bucket")]).collect()
}

fn truncated(grain: Grain, column: &str) -> Expr {
    date_trunc(lit(ScalarValue::Utf8(Some(grain.as_str().to_owned()))), ident(column))
}

fn sums(grain: Grain, of: fn(Base) -> Expr) -> Vec<Expr> {
    compared_bases(grain).into_iter().map(|base| of(base).alias(base_column(base))).collect()
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
