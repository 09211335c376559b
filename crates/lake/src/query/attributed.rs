//! Reports by attribution: clicks, views and cost from where reports have them, conversions and revenue from `attributions`, under
//! the dimensions of the click or view that they are owed to.
//!
//! A conversion is a transaction here, and stands as the last word about it says: approved, it counts once; pending or rejected,
//! not at all. Nothing is subtracted anywhere for that: the words are rows, and which is the last is found out on reading.

use arrow::datatypes::DataType;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::{last_value, max, min, sum};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use tally_model::report::{Base, Booking, GroupBy, Report};
use tally_model::{ConversionStatus, Dimension};

use super::bucket::window_function;
use super::report::{Asked, base_name, filter_expr, group_name, time};
use super::{Queries, Source};
use crate::error::Result;
use crate::schema::timestamp;
use crate::writer::LakeView;

const WIDE: DataType = DataType::Decimal128(38, 0);
/// How long after its first word a transaction may change. Networks settle within 30 to 60 days.
const SETTLED_AFTER_US: i64 = 180 * 86_400_000_000;
/// Millionths, as `attributions` has them of a conversion.
const REVENUE: &str = "revenue_micros";

impl Queries {
    /// The sums of a report by attribution, one row for each group. `rows` are those of the report as it would be without.
    pub(super) fn attributed(
        &self,
        view: &LakeView,
        rows: DataFrame,
        source: Source,
        report: &Report,
        booking: Booking,
        asked: &Asked,
    ) -> Result<DataFrame> {
        let own = rows.aggregate(asked.groups(source, report), asked.sums(source))?;
        let own = own.select(in_line(report, asked, |base| !base.is_attributed()))?;
        // A group that is there for its conversions' own fields only would stand beside theirs with nothing in it.
        let is_anything = (0..asked.bases.len()).map(|at| ident(base_name(at)).not_eq(cast(lit(0i64), WIDE)));
        let own = own.filter(is_anything.reduce(Expr::or).unwrap_or_else(|| lit(false)))?;
        let owed = self.owed(view, report, booking)?;
        let owed = owed.aggregate(groups(report), sums(asked))?;
        let owed = owed.select(in_line(report, asked, Base::is_attributed))?;
        let both = if asked.bases.iter().all(|base| base.is_attributed()) { owed } else { own.union(owed)? };
        let groups = (0..report.group_by.len()).map(|at| ident(group_name(at))).collect();
        let mut totals: Vec<Expr> =
            (0..asked.bases.len()).map(|at| sum(ident(base_name(at))).alias(base_name(at))).collect();
        if asked.watches_currency {
            totals.push(min(ident("currency_first")).alias("currency_first"));
            totals.push(max(ident("currency_last")).alias("currency_last"));
        }
        Ok(both.aggregate(groups, totals)?)
    }

    /// One row for each approved transaction that is owed to something and booked within the report's time.
    pub(super) fn owed(&self, view: &LakeView, report: &Report, booking: Booking) -> Result<DataFrame> {
        let within = |column: &str| ident(column).gt_eq(time(report.from_us)).and(ident(column).lt(time(report.to_us)));
        let rows = self.table(&view.attributions, &[])?.filter(ident("touch_id").is_not_null())?;
        // All words about a transaction are needed to tell its first and its last; they name one click.
        let rows = match booking {
            Booking::ClickDate => rows.filter(within("touched_at"))?,
            Booking::ConversionDate => rows.filter(
                ident("occurred_at")
                    .gt_eq(time(report.from_us.saturating_sub(SETTLED_AFTER_US)))
                    .and(ident("occurred_at").lt(time(report.to_us.saturating_add(SETTLED_AFTER_US)))),
            )?,
        };
        let order = || ["received_at", "partition", "offset"].map(|name| ident(name).sort(true, true)).to_vec();
        let last = |name: &str| last_value(ident(name), order()).alias(name);
        // All words name one touch, so the least time belongs to the first.
        let first = |name: &str, alias: &str| min(ident(name)).alias(alias);
        let mut columns = vec![first("occurred_at", "converted_at"), first("time_to_convert_s", "time_to_convert_s")];
        columns.extend(["status", REVENUE, "currency", "touched_at"].map(last));
        columns
            .extend(dimensions(report).iter().filter(|own| **own != Dimension::Currency).map(|own| last(own.as_str())));
        let mut transactions = rows
            .aggregate(vec![ident("transaction_id")], columns)?
            .filter(ident("status").eq(lit(ConversionStatus::Approved.as_str())))?
            .filter(within(booked_at(booking)))?;
        for filter in &report.filters {
            transactions = transactions.filter(filter_expr(filter, false)?)?;
        }
        Ok(match booking {
            Booking::ClickDate => transactions.with_column("booked_at", ident("touched_at"))?,
            Booking::ConversionDate => transactions.with_column("booked_at", ident("converted_at"))?,
        })
    }
}

fn booked_at(booking: Booking) -> &'static str {
    match booking {
        Booking::ClickDate => "touched_at",
        Booking::ConversionDate => "converted_at",
    }
}

/// Every dimension that a report groups or filters by, once.
fn dimensions(report: &Report) -> Vec<Dimension> {
    let grouped = report.group_by.iter().filter_map(|group| match group {
        GroupBy::Dimension(dimension) => Some(*dimension),
        GroupBy::Time(_) => None,
    });
    let mut all: Vec<Dimension> = grouped.chain(report.filters.iter().map(|filter| filter.dimension)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn groups(report: &Report) -> Vec<Expr> {
    let group = |(at, group): (usize, &GroupBy)| {
        let expr = match group {
            GroupBy::Dimension(dimension) => ident(dimension.as_str()),
            GroupBy::Time(unit) => {
                window_function(*unit, report.time_zone.clone()).call(vec![cast(ident("booked_at"), timestamp())])
            }
        };
        expr.alias(group_name(at))
    };
    report.group_by.iter().enumerate().map(group).collect()
}

fn sums(asked: &Asked) -> Vec<Expr> {
    let of_base = |(at, base): (usize, &Base)| {
        let value = match base {
            Base::RevenueMicros => cast(ident(REVENUE), WIDE),
            _ => cast(lit(1i64), WIDE),
        };
        sum(value).alias(base_name(at))
    };
    let mut sums: Vec<Expr> = asked.bases.iter().enumerate().map(of_base).collect();
    if asked.watches_currency {
        let currency = || coalesce(vec![ident("currency"), lit("")]);
        sums.push(min(currency()).alias("currency_first"));
        sums.push(max(currency()).alias("currency_last"));
    }
    sums
}

/// The columns that both sides have in one order and of one type: the groups, and the bases that this side tells, the others
/// being nothing.
fn in_line(report: &Report, asked: &Asked, tells: impl Fn(Base) -> bool) -> Vec<Expr> {
    let groups = (0..report.group_by.len()).map(|at| ident(group_name(at)));
    let bases = asked.bases.iter().enumerate().map(|(at, base)| {
        let value = if tells(*base) { ident(base_name(at)) } else { lit(0i64) };
        cast(value, WIDE).alias(base_name(at))
    });
    let currencies = ["currency_first", "currency_last"].into_iter().filter(|_| asked.watches_currency).map(ident);
    groups.chain(bases).chain(currencies).collect()
}
