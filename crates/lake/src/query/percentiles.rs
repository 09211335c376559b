//! Percentiles, exactly: each group's numbers are counted, then passed in their order, so that none need be held.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::logical_expr::{Expr, cast, ident, lit, when};
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use hashbrown::HashMap;
use serde_json::{Value as Json, json};
use tally_model::analysis::{Distribution, Percentiles, PercentilesAnswer, Property, rank_of};
use tally_model::report::{Booking, GroupBy, Report, ReportError};

use super::analysis::named;
use super::props::number_function;
use super::report::{dimension_column, group_name, is_counted, text, whole};
use super::{Queries, Source};
use crate::error::{LakeError, Result};
use crate::writer::LakeView;

/// Groups that are told.
const GROUPS_MAX: usize = 10_000;
const VALUE: &str = "value";

impl Queries {
    pub async fn percentiles(&self, asked: &Percentiles) -> Result<PercentilesAnswer> {
        self.refuse_small(&asked.about, None).await?;
        let view = self.current();
        let values = self.values(&view, asked)?;
        let (mut groups, mixes_currencies) = counted(&values, asked).await?;
        let mut places = HashMap::with_capacity(groups.len());
        for (at, of) in groups.iter().enumerate() {
            places.insert(of.group.clone(), at);
        }
        // The ranks of each group, from the lowest on, and how many of its numbers were passed.
        let mut order: Vec<usize> = (0..asked.percentiles.len()).collect();
        order.sort_by(|a, b| asked.percentiles[*a].total_cmp(&asked.percentiles[*b]));
        let mut passed = vec![(0_u64, 0_usize); groups.len()];
        let mut runs = runs(values, asked)?.execute_stream().await?;
        while let Some(batch) = runs.next().await {
            let batch = batch?;
            let columns = group_columns(&batch, asked)?;
            let (numbers, times) = (named(&batch, VALUE)?, named(&batch, "times")?);
            for at in 0..batch.num_rows() {
                let group: Vec<Option<String>> = columns.iter().map(|column| text(column, at)).collect();
                let Some(place) = places.get(&group).copied() else { continue };
                let (of, (seen, next)) = (&mut groups[place], &mut passed[place]);
                *seen += u64::try_from(whole(times, at)?).unwrap_or_default();
                while let Some(percentile) = order.get(*next)
                    && rank_of(asked.percentiles[*percentile], of.count) <= *seen
                {
                    of.percentiles[*percentile] = number(numbers, at)?;
                    *next += 1;
                }
            }
        }
        let warning = "amounts in more than one currency stand beside each other; group by `currency`, or filter on it";
        Ok(PercentilesAnswer {
            groups,
            source: if asked.property == Property::TimeToConvert { "attributions" } else { "events" },
            table_version: view.events_version(),
            warnings: if mixes_currencies { vec![warning.to_owned()] } else { Vec::new() },
        })
    }

    /// One row for each number: its groups, the number, and what currency it is in.
    fn values(&self, view: &LakeView, asked: &Percentiles) -> Result<DataFrame> {
        let (rows, value) = match &asked.property {
            Property::TimeToConvert => {
                let rows = self.owed(view, &asked.about, Booking::ConversionDate)?;
                (rows, ident("time_to_convert_s"))
            }
            property => {
                let rows = self.source_rows(view, Source::Events, &asked.about)?.filter(is_counted())?;
                let value = match property {
                    Property::Prop(name) => number_function(name.clone()).call(vec![ident("props")]),
                    Property::RevenueMicros => ident("revenue_micros"),
                    _ => ident("cost_micros"),
                };
                (rows, value)
            }
        };
        let mut columns: Vec<Expr> = group_exprs(&asked.about);
        columns.extend([value.alias(VALUE), coalesce(vec![ident("currency"), lit("")]).alias("currency")]);
        Ok(rows.select(columns)?.filter(ident(VALUE).is_not_null())?)
    }
}

fn group_exprs(report: &Report) -> Vec<Expr> {
    let dimensions = report.group_by.iter().filter_map(|group| match group {
        GroupBy::Dimension(dimension) => Some(dimension_column(*dimension)),
        GroupBy::Time(_) => None,
    });
    dimensions.enumerate().map(|(at, column)| column.alias(group_name(at))).collect()
}

fn groups(asked: &Percentiles) -> Vec<Expr> {
    (0..asked.about.group_by.len()).map(|at| ident(group_name(at))).collect()
}

fn group_columns<'a>(batch: &'a RecordBatch, asked: &Percentiles) -> Result<Vec<&'a ArrayRef>> {
    (0..asked.about.group_by.len()).map(|at| named(batch, &group_name(at))).collect()
}

/// Every group with its count, sum, least and greatest number; and whether amounts of several currencies meet in one.
async fn counted(values: &DataFrame, asked: &Percentiles) -> Result<(Vec<Distribution>, bool)> {
    let is_whole = !matches!(asked.property, Property::Prop(_));
    let summed = if is_whole { cast(ident(VALUE), DataType::Decimal128(38, 0)) } else { ident(VALUE) };
    // Where nothing was paid, the currency says nothing.
    let currency = when(cast(ident(VALUE), DataType::Float64).not_eq(lit(0.0)), ident("currency")).end()?;
    let figures = vec![
        count(ident(VALUE)).alias("count"),
        sum(summed).alias("sum"),
        min(ident(VALUE)).alias("least"),
        max(ident(VALUE)).alias("greatest"),
        min(currency.clone()).alias("currency_first"),
        max(currency).alias("currency_last"),
    ];
    let order = groups(asked).into_iter().map(|group| group.sort(true, false)).collect::<Vec<_>>();
    let mut rows = values.clone().aggregate(groups(asked), figures)?;
    if !order.is_empty() {
        rows = rows.sort(order)?;
    }
    let (mut told, mut mixes_currencies) = (Vec::new(), false);
    for batch in rows.limit(0, Some(GROUPS_MAX + 1))?.collect().await? {
        let columns = group_columns(&batch, asked)?;
        let column = |name| named(&batch, name);
        let (first, last) = (column("currency_first")?, column("currency_last")?);
        for at in 0..batch.num_rows() {
            let count = u64::try_from(whole(column("count")?, at)?).unwrap_or_default();
            told.push(Distribution {
                group: columns.iter().map(|column| text(column, at)).collect(),
                count,
                sum: number(column("sum")?, at)?,
                least: number(column("least")?, at)?,
                greatest: number(column("greatest")?, at)?,
                percentiles: vec![Json::Null; asked.percentiles.len()],
            });
            mixes_currencies |= asked.property.is_money() && text(first, at) != text(last, at);
        }
    }
    if told.len() > GROUPS_MAX {
        return Err(LakeError::Report(ReportError {
            field: "group_by".to_owned(),
            what: format!("it makes more than {GROUPS_MAX} groups"),
            cure: "group by less, or filter".to_owned(),
        }));
    }
    Ok((told, mixes_currencies))
}

/// Each number of a group once, with how often it occurs, in order.
fn runs(values: DataFrame, asked: &Percentiles) -> Result<DataFrame> {
    let keys: Vec<Expr> = groups(asked).into_iter().chain([ident(VALUE)]).collect();
    let order = keys.iter().map(|key| key.clone().sort(true, false)).collect();
    Ok(values.aggregate(keys, vec![count(lit(1_i64)).alias("times")])?.sort(order)?)
}

/// A number as it is told; null where there is none.
fn number(column: &ArrayRef, at: usize) -> Result<Json> {
    if column.is_null(at) {
        return Ok(Json::Null);
    }
    match column.as_primitive_opt::<Float64Type>() {
        Some(numbers) => Ok(json!(numbers.value(at))),
        None => whole(column, at).map(|whole| json!(whole)),
    }
}
