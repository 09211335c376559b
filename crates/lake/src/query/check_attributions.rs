//! Proof of the attributions: every conversion that counts has one row, up to where they are.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use tally_model::{CheckReport, Class, Kind};

use super::Queries;
use super::check::number;
use crate::error::Result;
use crate::writer::LakeView;

impl Queries {
    /// Compares, for each partition, the conversions that count with their rows.
    pub(super) async fn check_attributions(&self, view: &LakeView, report: &mut CheckReport) -> Result<()> {
        let places = view.attributed.iter().filter(|(_, next)| *next > 0).map(|(partition, next)| {
            ident("partition").eq(lit(i32::from(partition))).and(ident("offset").lt(lit(next as i64)))
        });
        // Where nothing is attributed yet, nothing has to have a row.
        let taken_up = places.reduce(Expr::or).unwrap_or_else(|| lit(false));
        let counts = ident("verdict").eq(lit(Class::Counted.as_str()));
        let is_conversion = ident("kind").eq(lit(Kind::Conversion.as_str()));
        let events = self.events(view, None)?.filter(is_conversion.and(counts.clone()).and(taken_up))?;
        let rows = self.table(&view.attributions, &[])?.filter(counts)?;
        let (expected, found) = (by_partition(events).await?, by_partition(rows).await?);
        let partitions: Vec<i64> = expected.keys().chain(found.keys()).copied().collect();
        for partition in partitions {
            let (conversions, _) = expected.get(&partition).copied().unwrap_or_default();
            let (rows, different) = found.get(&partition).copied().unwrap_or_default();
            report.expect(|| format!("attributions of partition {partition}"), conversions, rows);
            report.expect(|| format!("different conversions in them, partition {partition}"), conversions, different);
        }
        Ok(())
    }
}

/// Rows of each partition, and how many different offsets they have.
async fn by_partition(rows: DataFrame) -> Result<BTreeMap<i64, (i64, i64)>> {
    let groups = vec![cast(ident("partition"), DataType::Int64).alias("partition")];
    let counts = vec![count(lit(1i64)).alias("n"), count_distinct(ident("offset")).alias("different")];
    let mut found = BTreeMap::new();
    for batch in rows.aggregate(groups, counts)?.collect().await? {
        for at in 0..batch.num_rows() {
            let value = |name| number(&batch, name, at);
            found.insert(value("partition")?, (value("n")?, value("different")?));
        }
    }
    Ok(found)
}
