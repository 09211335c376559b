//! Lists of the newest first, page by page.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use datafusion::logical_expr::{ident, lit};
use datafusion::prelude::DataFrame;
use tally_model::{Listed, Page, Place};

use super::report::time;
use crate::error::Result;
use crate::events::Columns;

/// The rows of a page, and one more where there are more. They must have `received_at`, `partition` and `offset`.
pub(crate) fn newest_first(rows: DataFrame, page: Page) -> Result<DataFrame> {
    let [received_at, partition, offset] = ["received_at", "partition", "offset"].map(ident);
    let rows = match page.after {
        None => rows,
        Some(Place { received_at_us, partition: of, offset: at }) => {
            let is_at = |column: &_, value| ident(column).eq(value);
            let in_log = partition.clone().lt(lit(of)).or(is_at("partition", lit(of)).and(offset.clone().lt(lit(at))));
            let behind = received_at.clone().lt(time(received_at_us));
            // The first says nothing new, and lets whole files of what is newer be left out.
            rows.filter(received_at.clone().lt_eq(time(received_at_us)))?
                .filter(behind.or(is_at("received_at", time(received_at_us)).and(in_log)))?
        }
    };
    let newest = [received_at, partition, offset].map(|column| column.sort(false, true)).to_vec();
    Ok(rows.sort(newest)?.limit(0, Some(page.limit + 1))?)
}

/// Reads them, each by `row`.
pub(crate) async fn page_of<T>(
    rows: DataFrame,
    page: Page,
    row: impl Fn(&RecordBatch, usize) -> Result<T>,
) -> Result<Listed<T>> {
    let mut found = Vec::new();
    for batch in rows.collect().await? {
        let columns = Columns(&batch);
        for at in 0..batch.num_rows() {
            let place = Place {
                received_at_us: columns.times("received_at")?.value(at),
                partition: columns.column("partition")?.as_primitive::<Int32Type>().value(at),
                offset: columns.numbers("offset")?.value(at),
            };
            found.push((place, row(&batch, at)?));
        }
    }
    Ok(page.of(found))
}
