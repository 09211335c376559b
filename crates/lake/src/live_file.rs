//! A data file of the current version, with what the log says of its contents, ready for pruning.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use deltalake_core::kernel::{Add, Remove};
use jiff::Timestamp;
use object_store::path::Path;
use serde_json::Value;

use crate::files::COLUMNS_TAG;
use crate::table::TableSpec;

#[derive(Debug)]
pub(crate) struct LiveFile {
    pub add: Add,
    pub rows: usize,
    stats: Value,
    /// The same for DataFusion, whose bounds the engine may use as estimates.
    pub scan: PartitionedFile,
    /// And for leaving files out of a scan.
    pub statistics: Arc<Statistics>,
    cell_bounds: OnceLock<Option<CellBounds>>,
}

/// The least and greatest values of a file of cells.
#[derive(Debug)]
pub(crate) struct CellBounds {
    pub grain: (String, String),
    pub view: (String, String),
    pub campaign_id: (String, String),
    pub bucket_us: (i64, i64),
}

impl LiveFile {
    pub fn new(add: Add, root: &Path, spec: &TableSpec) -> Self {
        let stats: Value = add.stats.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let known_rows = stats["numRecords"].as_u64().and_then(|rows| usize::try_from(rows).ok());
        let rows = known_rows.unwrap_or(0);
        let partition_values: Vec<ScalarValue> =
            spec.partition_columns.iter().map(|name| partition_value(&add, spec, name)).collect();
        // Those of the partition columns, which come last, are added by DataFusion itself.
        let columns = spec.file_schema.fields().iter().map(|field| {
            let bound = |side: &str| scalar(&stats[side][field.name()], field.data_type()).map(Precision::Inexact);
            let mut column = ColumnStatistics::new_unknown();
            column.min_value = bound("minValues").unwrap_or_default();
            column.max_value = bound("maxValues").unwrap_or_default();
            column
        });
        let of_file = Statistics {
            num_rows: known_rows.map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Absent,
            column_statistics: columns.collect(),
        };
        let size = u64::try_from(add.size).unwrap_or(0);
        let mut scan = PartitionedFile::new(String::new(), size)
            .with_partition_values(partition_values)
            .with_statistics(Arc::new(of_file));
        scan.arrow_schema = columns_in_file(&add, spec);
        scan.object_meta.location = root.parts().chain(Path::from(add.path.as_str()).parts()).collect();
        let statistics = Arc::new(for_pruning(scan.statistics.as_deref().cloned().unwrap_or_default()));
        Self { add, rows, stats, scan, statistics, cell_bounds: OnceLock::new() }
    }

    pub fn path(&self) -> &str {
        &self.add.path
    }

    pub fn size_bytes(&self) -> u64 {
        u64::try_from(self.add.size).unwrap_or(0)
    }

    pub fn partition_value(&self, name: &str) -> Option<&str> {
        self.add.partition_values.get(name)?.as_deref()
    }

    /// The least and greatest value of a text column, where the log has them.
    pub fn text_bounds(&self, column: &str) -> Option<(&str, &str)> {
        Some((self.stats["minValues"][column].as_str()?, self.stats["maxValues"][column].as_str()?))
    }

    /// What the log says of a file of cells, if it says all of it.
    pub fn cell_bounds(&self) -> Option<&CellBounds> {
        let read = || {
            let text = |column| self.text_bounds(column).map(|(least, most)| (least.to_owned(), most.to_owned()));
            Some(CellBounds {
                grain: text("grain")?,
                view: text("view")?,
                campaign_id: text("campaign_id")?,
                bucket_us: (self.oldest_us("bucket")?, self.newest_us("bucket")?),
            })
        };
        self.cell_bounds.get_or_init(read).as_ref()
    }

    /// The greatest value of a number column, where the log has it.
    pub fn greatest_number(&self, column: &str) -> Option<i64> {
        self.stats["maxValues"][column].as_i64()
    }

    /// The greatest value of a time column, where the log has it.
    pub fn newest_us(&self, column: &str) -> Option<i64> {
        time_us(&self.stats["maxValues"][column])
    }

    /// The least value of a time column, where the log has it.
    pub fn oldest_us(&self, column: &str) -> Option<i64> {
        time_us(&self.stats["minValues"][column])
    }

    /// The second in which the newest of its events was judged. Files without statistics count as new.
    pub fn newest_s(&self) -> i64 {
        let received_at_us = self.newest_us("received_at").unwrap_or(i64::MAX);
        received_at_us.max(self.newest_us("judged_at").unwrap_or(i64::MIN)).div_euclid(1_000_000)
    }

    /// The action that takes this file out again, its rows being in other files of the same commit.
    pub fn rearranged(&self, now_ms: i64) -> Remove {
        Remove {
            path: self.add.path.clone(),
            data_change: false,
            deletion_timestamp: Some(now_ms),
            extended_file_metadata: Some(true),
            partition_values: Some(self.add.partition_values.clone()),
            size: Some(self.add.size),
            ..Remove::default()
        }
    }

    /// The action that takes this file out because what it says is replaced.
    pub fn replaced(&self, now_ms: i64) -> Remove {
        Remove { data_change: true, ..self.rearranged(now_ms) }
    }
}

/// The columns of a file, where the log has their number: nobody need ask the file itself.
fn columns_in_file(add: &Add, spec: &TableSpec) -> Option<SchemaRef> {
    let columns: usize = add.tags.as_ref()?.get(COLUMNS_TAG)?.as_deref()?.parse().ok()?;
    match spec.file_schema.fields().get(..columns)? {
        all if all.len() == spec.file_schema.fields().len() => Some(spec.file_schema.clone()),
        first => Some(Arc::new(Schema::new(first.to_vec()))),
    }
}

/// Bounds that pruning takes at their word: it does not look at those that are called inexact. Ours are the least and the greatest
/// value themselves (see `new_file::Bounds`), to the microsecond and in full length.
fn for_pruning(mut statistics: Statistics) -> Statistics {
    for column in &mut statistics.column_statistics {
        column.min_value = exact(std::mem::take(&mut column.min_value));
        column.max_value = exact(std::mem::take(&mut column.max_value));
    }
    statistics
}

fn exact(bound: Precision<ScalarValue>) -> Precision<ScalarValue> {
    bound.get_value().cloned().map(Precision::Exact).unwrap_or_default()
}

fn time_us(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<Timestamp>().ok().map(|at| at.as_microsecond())
}

fn partition_value(add: &Add, spec: &TableSpec, name: &str) -> ScalarValue {
    let text = add.partition_values.get(name).cloned().flatten();
    let data_type = spec.schema.field_with_name(name).map_or(&DataType::Utf8, |field| field.data_type());
    text.and_then(|text| ScalarValue::try_from_string(text, data_type).ok()).unwrap_or(ScalarValue::Null)
}

fn scalar(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    ScalarValue::try_from_string(text, data_type).ok()
}
