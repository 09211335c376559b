//! Two lakes beside each other: whether they hold the same rows and the same cells, and where not.
//!
//! How rows lie in files, and which version brought them, depends on when batches were committed, and says nothing. So both
//! sides are sorted by key and walked together; a digest over each says the same in one line.

use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use arrow::util::display::array_value_to_string;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, ident};
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tally_model::report::Base;
use tally_model::{Comparison, TableComparison};

use super::Queries;
use super::check::is_within_error;
use super::report::{rollup_sum, whole};
use crate::error::Result;
use crate::schema::{EVENTS_PARTITION_COLUMNS, ROLLUP_DIMENSIONS, base_column, summed_bases};

/// What an event's row is known by, wherever it lies.
const EVENT_KEYS: [&str; 2] = ["partition", "offset"];
/// Hashes of people are compared like everything else, and not told.
const PERSONAL: [&str; 2] = ["user_hash", "ip_hash"];

impl Queries {
    /// Compares what readers of both see: every column of every event and attribution, and every sum of every cell. Distinct users of a cell
    /// are estimates that depend on the order of adding up, so they are compared within their error, outside the digest.
    pub async fn compare(&self, other: &Queries) -> Result<Comparison> {
        let events = compare("events", EVENT_KEYS.len(), [self.rows()?, other.rows()?]).await?;
        let keys = cell_keys().len();
        let cells = compare("rollups", keys, [self.cells()?, other.cells()?]).await?;
        let attributions = [self.attribution_rows()?, other.attribution_rows()?];
        let attributions = compare("attributions", EVENT_KEYS.len(), attributions).await?;
        Ok(Comparison { events, cells, attributions })
    }

    fn rows(&self) -> Result<DataFrame> {
        by_place(self.table(&self.current().events, &EVENTS_PARTITION_COLUMNS)?)
    }

    fn attribution_rows(&self) -> Result<DataFrame> {
        by_place(self.table(&self.current().attributions, &[])?)
    }

    fn cells(&self) -> Result<DataFrame> {
        let keys = cell_keys();
        let sums = summed_bases().into_iter().chain([Base::Users]);
        let sums = sums.map(|base| rollup_sum(base).alias(base_column(base))).collect();
        let groups = keys.iter().map(|name| ident(*name)).collect();
        let cells = self.table(&self.current().rollups, &[])?.aggregate(groups, sums)?;
        let columns: Vec<Expr> = keys.iter().map(|name| ident(*name)).chain(cell_sums()).collect();
        Ok(cells.select(columns)?.sort(ascending(&keys))?)
    }
}

/// All columns, those that a row is known by first, in their order.
fn by_place(rows: DataFrame) -> Result<DataFrame> {
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    let others = names.iter().map(String::as_str).filter(|name| !EVENT_KEYS.contains(name));
    let columns: Vec<Expr> = EVENT_KEYS.into_iter().chain(others).map(ident).collect();
    Ok(rows.select(columns)?.sort(ascending(&EVENT_KEYS))?)
}

fn cell_keys() -> Vec<&'static str> {
    let dimensions = ROLLUP_DIMENSIONS.into_iter().map(|dimension| dimension.as_str());
    ["grain", "view", "bucket", "campaign_id"].into_iter().chain(dimensions).chain(["currency"]).collect()
}

fn cell_sums() -> impl Iterator<Item = Expr> {
    summed_bases().into_iter().chain([Base::Users]).map(|base| ident(base_column(base)))
}

fn ascending(keys: &[&str]) -> Vec<datafusion::logical_expr::SortExpr> {
    keys.iter().map(|name| ident(*name).sort(true, true)).collect()
}

async fn compare(table: &str, keys: usize, sides: [DataFrame; 2]) -> Result<TableComparison> {
    let [ours, theirs] = sides;
    let mut ours = Walk::begin(ours.execute_stream().await?, keys).await?;
    let mut theirs = Walk::begin(theirs.execute_stream().await?, keys).await?;
    let mut comparison = TableComparison::default();
    loop {
        let order = match (ours.row(), theirs.row()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(our_row), Some(their_row)) => our_row.key().cmp(their_row.key()),
        };
        match (order, ours.row(), theirs.row()) {
            (Ordering::Less, Some(row), _) => {
                comparison.differs(|| format!("{table} {}: only in the first", row.place()));
            }
            (Ordering::Greater, _, Some(row)) => {
                comparison.differs(|| format!("{table} {}: only in the second", row.place()));
            }
            (_, Some(our_row), Some(their_row)) => {
                for how in differing(&our_row, &their_row)? {
                    comparison.differs(|| format!("{table} {}: {how}", our_row.place()));
                }
            }
            _ => {}
        }
        if order != Ordering::Greater {
            ours.advance().await?;
        }
        if order != Ordering::Less {
            theirs.advance().await?;
        }
    }
    comparison.rows = [ours.walked, theirs.walked];
    comparison.digests = [ours.digest(), theirs.digest()];
    Ok(comparison)
}

/// The columns of two rows of one key that do not agree, with both values.
fn differing(ours: &RowAt<'_>, theirs: &RowAt<'_>) -> Result<Vec<String>> {
    let mut differing = Vec::new();
    let is_same = ours.exact() == theirs.exact();
    for (column, field) in ours.batch.schema().fields().iter().enumerate() {
        let values = [ours, theirs].map(|side| side.batch.column(column));
        if field.name() == base_column(Base::Users) {
            let [our_users, their_users] = [whole(values[0], ours.at)?, whole(values[1], theirs.at)?];
            if !is_within_error(our_users, their_users) {
                differing.push(format!("about {our_users} users, and about {their_users}"));
            }
        } else if !is_same && PERSONAL.contains(&field.name().as_str()) {
            if values[0].slice(ours.at, 1) != values[1].slice(theirs.at, 1) {
                differing.push(format!("{} is not the same", field.name()));
            }
        } else if !is_same {
            let [our_value, their_value] = [ours.text(column), theirs.text(column)];
            if our_value != their_value {
                differing.push(format!("{} is {our_value:?}, and {their_value:?}", field.name()));
            }
        }
    }
    if !is_same && differing.is_empty() {
        differing.push("differs in a way that does not show as text".to_owned());
    }
    Ok(differing)
}

/// One side, batch by batch, with a digest over what was walked.
struct Walk {
    stream: SendableRecordBatchStream,
    keys: usize,
    batch: Option<Batch>,
    at: usize,
    walked: u64,
    hash: Sha256,
}

/// A batch with its rows as bytes that compare as the rows do.
struct Batch {
    rows: RecordBatch,
    key: Rows,
    /// Everything that must be the same to the last bit.
    exact: Rows,
}

struct RowAt<'a> {
    batch: &'a RecordBatch,
    keys: usize,
    at: usize,
    key: &'a Rows,
    exact: &'a Rows,
}

impl Walk {
    async fn begin(stream: SendableRecordBatchStream, keys: usize) -> Result<Self> {
        let mut walk = Self { stream, keys, batch: None, at: 0, walked: 0, hash: Sha256::new() };
        walk.next_batch().await?;
        Ok(walk)
    }

    fn row(&self) -> Option<RowAt<'_>> {
        let Batch { rows, key, exact } = self.batch.as_ref()?;
        Some(RowAt { batch: rows, keys: self.keys, at: self.at, key, exact })
    }

    async fn advance(&mut self) -> Result<()> {
        if let Some(batch) = &self.batch {
            let row = batch.exact.row(self.at);
            self.hash.update((row.as_ref().len() as u64).to_le_bytes());
            self.hash.update(row.as_ref());
            self.walked += 1;
            self.at += 1;
            if self.at == batch.rows.num_rows() {
                self.next_batch().await?;
            }
        }
        Ok(())
    }

    async fn next_batch(&mut self) -> Result<()> {
        self.at = 0;
        self.batch = None;
        while let Some(rows) = self.stream.next().await {
            let rows = rows?;
            if rows.num_rows() > 0 {
                let columns = rows.num_columns();
                let is_exact = |column: &usize| rows.schema().field(*column).name() != base_column(Base::Users);
                let key = as_bytes(&rows, 0..self.keys)?;
                let exact = as_bytes(&rows, (0..columns).filter(is_exact))?;
                self.batch = Some(Batch { rows, key, exact });
                break;
            }
        }
        Ok(())
    }

    fn digest(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn as_bytes(rows: &RecordBatch, columns: impl Iterator<Item = usize>) -> Result<Rows> {
    let columns: Vec<_> = columns.map(|column| rows.column(column).clone()).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(&columns)?)
}

impl RowAt<'_> {
    fn key(&self) -> &[u8] {
        self.key.row(self.at).data()
    }

    fn exact(&self) -> &[u8] {
        self.exact.row(self.at).data()
    }

    fn place(&self) -> String {
        let schema = self.batch.schema();
        let keys = schema.fields().iter().take(self.keys).enumerate();
        let keys = keys.map(|(column, field)| format!("{}={}", field.name(), self.text(column)));
        keys.filter(|key| !key.ends_with('=')).collect::<Vec<_>>().join(" ")
    }

    fn text(&self, column: usize) -> String {
        array_value_to_string(self.batch.column(column), self.at).unwrap_or_default()
    }
}
