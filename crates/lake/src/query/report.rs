//! Answers a report: sums by group from the planned table, and from those the metrics, in the order asked for.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::{count_distinct, max, min, sum};
use datafusion::logical_expr::{Expr, cast, ident, lit, when};
use datafusion::prelude::DataFrame;
use hashbrown::HashMap;
use tally_model::report::{Answer, AnswerMeta, Base, Filter, GroupBy, Metric, Report, ReportError};
use tally_model::{Class, Dimension, Users};

use super::bucket::{any_segment_function, window_function};
use super::item::{Item, gaps, sort};
use super::moment::Moment;
use super::past::is_below;
use super::small_groups::{Group, SmallGroups};
use super::users::users_function;
use super::{Queries, Source, small_groups};
use crate::error::{LakeError, Result};
use crate::schema::{EVENTS, EVENTS_PARTITION_COLUMNS, base_column, timestamp};
use crate::writer::LakeView;

const DAY_US: i64 = 86_400_000_000;
/// Groups that an answer is made of at most, before its limit applies: bounds the memory of sorting.
pub(super) const GROUPS_MAX: usize = 2_000_000;

impl Queries {
    pub(super) async fn report_of(&self, moment: &Moment, report: &Report) -> Result<Answer> {
        let view = &moment.view;
        let (report, mut any_small) = self.only_large_segments(moment, report).await?;
        let report = report.as_ref();
        // What was in then is told by raw events only: cells are added up further and further.
        let small = SmallGroups::of(report, self.audience_people_min);
        let made_of = small.as_ref().map_or(report, |small| &small.report);
        let source = if moment.then.is_some() { Source::Events } else { Source::of(made_of) };
        let asked = Asked::new(made_of);
        let in_memory = match (source, report.attribution) {
            (Source::Rollup(rollup_view, grain), None) => {
                self.groups_in_memory(&view.rollups, (rollup_view, grain), made_of, &asked).await
            }
            _ => None,
        };
        let mut groups = match in_memory {
            Some(groups) => groups?,
            None => self.groups_in_files(moment, source, made_of, &asked).await?,
        };
        let mut warnings = Vec::new();
        if let Some(small) = &small {
            let told = small.fold(groups);
            groups = told.0;
            any_small |= told.1;
        }
        if groups.iter().any(Group::mixes_currencies) {
            let what = "amounts in more than one currency are added up; group by `currency`, or filter on it";
            warnings.push(what.to_owned());
        }
        if any_small {
            warnings.push(small_groups::warning(self.audience_people_min));
        }
        let mut rows: Vec<Vec<Item>> = groups.iter().map(|group| group.row(report)).collect();
        if let Some(fill) = report.fill {
            rows.extend(gaps(&rows, report, fill)?);
        }
        sort(&mut rows, report);
        rows.truncate(report.limit);
        let estimates_users = report.metrics.contains(&Metric::Users) && source != Source::Events;
        Ok(Answer {
            columns: report.answer_columns(),
            rows: rows.iter().map(|row| row.iter().map(|item| item.json(&report.time_zone)).collect()).collect(),
            meta: AnswerMeta {
                source: match report.attribution {
                    None => source.name(),
                    Some(_) => format!("{} and attributions", source.name()),
                },
                table_version: moment.version(),
                users_error: estimates_users.then_some(Users::RELATIVE_STANDARD_ERROR),
                warnings,
            },
        })
    }

    /// The same groups by the engine.
    async fn groups_in_files(
        &self,
        moment: &Moment,
        source: Source,
        report: &Report,
        asked: &Asked,
    ) -> Result<Vec<Group>> {
        let mut rows = self.source_rows(&moment.view, source, report)?;
        if let Some((_, positions)) = &moment.then {
            rows = rows.filter(is_below(positions))?;
        }
        let sums = match report.attribution {
            None => rows.aggregate(asked.groups(source, report), asked.sums(source))?,
            Some(booking) => self.attributed(&moment.view, rows, source, report, booking, asked)?,
        };
        let sums = sums.limit(0, Some(GROUPS_MAX + 1))?.collect().await?;
        let groups: usize = sums.iter().map(RecordBatch::num_rows).sum();
        if groups > GROUPS_MAX {
            return Err(too_many_groups());
        }
        let mut groups = Vec::with_capacity(groups);
        for batch in &sums {
            let reader = asked.read(batch, report)?;
            for at in 0..batch.num_rows() {
                groups.push(reader.group(at, report)?);
            }
        }
        Ok(groups)
    }

    /// The rows of the planned table that the report is about.
    pub(super) fn source_rows(&self, view: &LakeView, source: Source, report: &Report) -> Result<DataFrame> {
        let mut rows = match source {
            Source::Rollup(rollup_view, grain) => self.table(&view.rollups, &[])?.filter(
                ident("grain")
                    .eq(lit(grain.as_str()))
                    .and(ident("view").eq(lit(rollup_view.as_str())))
                    .and(ident("bucket").gt_eq(time(report.from_us)))
                    .and(ident("bucket").lt(time(report.to_us))),
            )?,
            Source::Events => self.table(&view.events, &EVENTS_PARTITION_COLUMNS)?.filter(
                // The day is said too, since files are partitioned by it.
                ident("event_date")
                    .gt_eq(day(report.from_us))
                    .and(ident("event_date").lt_eq(day(report.to_us)))
                    .and(ident("occurred_at").gt_eq(time(report.from_us)))
                    .and(ident("occurred_at").lt(time(report.to_us))),
            )?,
        };
        let by_segment = report.group_by.contains(&GroupBy::Dimension(Dimension::Segment));
        if by_segment {
            rows = rows.unnest_columns(&["segments"])?;
        }
        for filter in &report.filters {
            rows = rows.filter(filter_expr(filter, by_segment)?)?;
        }
        Ok(rows)
    }
}

pub(super) fn too_many_groups() -> LakeError {
    LakeError::Report(ReportError {
        field: "group_by".to_owned(),
        what: format!("it makes more than {GROUPS_MAX} groups"),
        cure: "group by less, filter more, or ask for a shorter time".to_owned(),
    })
}

/// An instant, as `occurred_at` and `bucket` have it.
pub(crate) fn time(at_us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(at_us), Some("UTC".into())))
}

/// The partition that an instant is in.
pub(crate) fn day(at_us: i64) -> Expr {
    let day = i32::try_from(at_us.div_euclid(DAY_US)).unwrap_or(i32::MAX);
    lit(ScalarValue::Date32(Some(day)))
}

pub(super) fn filter_expr(filter: &Filter, by_segment: bool) -> Result<Expr> {
    if filter.dimension == Dimension::Segment && !by_segment {
        let list_type = EVENTS.field_with_name("segments")?.data_type().clone();
        let any = any_segment_function(filter.values.clone(), list_type).call(vec![ident("segments")]);
        return Ok(include_null(any, ident("segments"), filter));
    }
    let column = dimension_column(filter.dimension);
    let values = filter.values.iter().map(|value| lit(value.as_str())).collect();
    let listed = column.clone().in_list(values, false);
    Ok(include_null(listed, column, filter))
}

/// Makes the test say yes or no for events without a value: listed only if null is, and kept by `not_in` otherwise.
fn include_null(listed: Expr, column: Expr, filter: &Filter) -> Expr {
    let is_null = column.clone().is_null();
    match (filter.negated, filter.null) {
        (false, false) => listed,
        (false, true) => listed.or(is_null),
        (true, false) => listed.is_not_true().or(is_null),
        (true, true) => listed.is_not_true().and(column.is_not_null()),
    }
}

pub(super) fn dimension_column(dimension: Dimension) -> Expr {
    match dimension {
        Dimension::Segment => ident("segments"),
        other => ident(other.as_str()),
    }
}

/// What is summed for a report: each base once, in a fixed order.
#[derive(Clone)]
pub(super) struct Asked {
    pub bases: Vec<Base>,
    pub watches_currency: bool,
}

impl Asked {
    fn new(report: &Report) -> Self {
        let mut bases: Vec<Base> = Vec::new();
        for base in report.metrics.iter().flat_map(|metric| metric.bases_on(report.basis)) {
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
        let one_currency = report.group_by.contains(&GroupBy::Dimension(Dimension::Currency))
            || report
                .filters
                .iter()
                .any(|f| f.dimension == Dimension::Currency && !f.negated && f.values.len() == 1 && !f.null);
        let watches_currency = !one_currency && report.metrics.iter().any(|metric| metric.is_money());
        Self { bases, watches_currency }
    }

    pub fn groups(&self, source: Source, report: &Report) -> Vec<Expr> {
        let time_column = match source {
            Source::Rollup(..) => ident("bucket"),
            Source::Events => ident("occurred_at"),
        };
        let group = |(at, group): (usize, &GroupBy)| {
            let expr = match group {
                GroupBy::Dimension(dimension) => dimension_column(*dimension),
                GroupBy::Time(unit) => {
                    window_function(*unit, report.time_zone.clone()).call(vec![cast(time_column.clone(), timestamp())])
                }
            };
            expr.alias(group_name(at))
        };
        report.group_by.iter().enumerate().map(group).collect()
    }

    pub fn sums(&self, source: Source) -> Vec<Expr> {
        let sum_of = |(at, base): (usize, &Base)| {
            let expr = match source {
                Source::Rollup(..) => rollup_sum(*base),
                Source::Events => event_sum(*base),
            };
            expr.alias(base_name(at))
        };
        let mut sums: Vec<Expr> = self.bases.iter().enumerate().map(sum_of).collect();
        if self.watches_currency {
            let mut has_money = ident("cost_micros").not_eq(lit(0i64)).or(ident("revenue_micros").not_eq(lit(0i64)));
            if source == Source::Events {
                has_money = has_money.and(is_counted());
            }
            // An amount without a currency is one more currency.
            let currency = case(has_money, coalesce(vec![ident("currency"), lit("")]));
            sums.push(min(currency.clone()).alias("currency_first"));
            sums.push(max(currency).alias("currency_last"));
        }
        sums
    }

    fn read<'a>(&self, batch: &'a RecordBatch, report: &Report) -> Result<Reader<'a>> {
        let column = |name: String| {
            batch
                .column_by_name(&name)
                .ok_or_else(|| LakeError::Damaged { what: format!("the answer has no column {name}") })
        };
        let groups = (0..report.group_by.len()).map(|at| column(group_name(at))).collect::<Result<Vec<_>>>()?;
        let mut sums = HashMap::new();
        for (at, base) in self.bases.iter().enumerate() {
            sums.insert(*base, column(base_name(at))?);
        }
        let currencies = if self.watches_currency {
            Some((column("currency_first".to_owned())?, column("currency_last".to_owned())?))
        } else {
            None
        };
        Ok(Reader { groups, sums, currencies })
    }
}

pub(super) fn group_name(at: usize) -> String {
    format!("group_{at}")
}

pub(super) fn base_name(at: usize) -> String {
    format!("base_{at}")
}

pub(super) fn rollup_sum(base: Base) -> Expr {
    match base {
        Base::Users => users_function().call(vec![ident(base_column(base))]),
        Base::CostMicros | Base::RevenueMicros => sum(wide(ident(base_column(base)))),
        Base::Events(..) => sum(ident(base_column(base))),
    }
}

/// The same sum over raw events. Not derived from the rollups' code, so that a recount proves something.
pub(super) fn event_sum(base: Base) -> Expr {
    match base {
        Base::Events(kind, class) => {
            let matches = ident("kind").eq(lit(kind.as_str())).and(ident("verdict").eq(lit(class.as_str())));
            sum(case(matches, lit(1i64)))
        }
        Base::CostMicros => sum(wide(case(is_counted(), ident("cost_micros")))),
        Base::RevenueMicros => sum(wide(case(is_counted(), ident("revenue_micros")))),
        Base::Users => count_distinct(case(is_counted(), ident("user_hash"))),
    }
}

pub(super) fn is_counted() -> Expr {
    ident("verdict").eq(lit(Class::Counted.as_str()))
}

/// Money is summed in 128 bits: in 64, a sum that is too large would come out as another amount.
fn wide(micros: Expr) -> Expr {
    cast(micros, DataType::Decimal128(38, 0))
}

/// A sum as a number. Null, the sum over nothing, is zero; what does not fit is an error, never another amount.
pub(super) fn whole(column: &ArrayRef, at: usize) -> Result<i64> {
    if column.is_null(at) {
        return Ok(0);
    }
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        return Ok(numbers.value(at));
    }
    let wide = column.as_primitive_opt::<Decimal128Type>().map(|numbers| numbers.value(at));
    let wide = wide.ok_or_else(|| LakeError::Damaged { what: "a sum is not a number".to_owned() })?;
    sum_that_fits(wide)
}

/// A sum that was made with room to spare, if it is one that can be told.
pub(super) fn sum_that_fits(wide: i128) -> Result<i64> {
    // Cells saturate at the greatest number of 64 bits, so that one that did is above this too.
    i64::try_from(wide).ok().filter(|sum| sum.unsigned_abs() < 1 << 62).ok_or_else(|| LakeError::Damaged {
        what: "amounts add up to more than can be told; ask for a shorter time".to_owned(),
    })
}

/// `value` where the condition holds, else null.
fn case(condition: Expr, value: Expr) -> Expr {
    when(condition, value.clone()).end().unwrap_or(value)
}

/// One batch of sums, by name.
struct Reader<'a> {
    groups: Vec<&'a ArrayRef>,
    sums: HashMap<Base, &'a ArrayRef>,
    currencies: Option<(&'a ArrayRef, &'a ArrayRef)>,
}

impl Reader<'_> {
    fn group(&self, at: usize, report: &Report) -> Result<Group> {
        let groups = self.groups.iter().zip(&report.group_by).map(|(column, group)| match group {
            GroupBy::Time(unit) => Item::Time(*unit, column.as_primitive::<Int64Type>().value(at)),
            GroupBy::Dimension(_) => text(column, at).map_or(Item::Null, Item::Text),
        });
        let mut sums = HashMap::with_capacity(self.sums.len());
        for (base, column) in &self.sums {
            sums.insert(*base, whole(column, at)?);
        }
        Ok(Group { values: groups.collect(), sums, currencies: self.currencies(at), is_merged: false })
    }

    fn currencies(&self, at: usize) -> Option<(String, String)> {
        self.currencies.and_then(|(first, last)| text(first, at).zip(text(last, at)))
    }
}

pub(super) fn text(column: &ArrayRef, at: usize) -> Option<String> {
    if column.is_null(at) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).to_owned(),
        DataType::Utf8View => column.as_string_view().value(at).to_owned(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(at).to_owned(),
        DataType::Date32 => column.as_primitive::<Date32Type>().value(at).to_string(),
        other => format!("<{other}>"),
    })
}
