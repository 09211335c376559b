//! Data files: record batches to Parquet and back, and what the log says of a file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, new_null_array};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{DataType, FieldRef, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Doing, LakeError, Result};

/// Rows of one row group: the unit that readers skip by, and that a writer holds in memory.
const ROW_GROUP_ROWS: usize = 512 * 1024;
/// Level 3 keeps up with the way in; higher ones save little on these columns.
const ZSTD_LEVEL: i32 = 3;

/// How the files of a table are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileLayout {
    /// Columns whose least and greatest values go into the log.
    pub statistics: &'static [&'static str],
    /// Columns without repeats: a dictionary would only cost.
    pub distinct: &'static [&'static str],
    /// Columns that rise slowly: differences take a byte or two.
    pub rising: &'static [&'static str],
    /// Columns that single values are looked up by.
    pub looked_up: &'static [&'static str],
}

impl FileLayout {
    fn properties(&self, rows: usize) -> WriterProperties {
        let column = |name: &str| ColumnPath::from(name);
        let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::None);
        for name in self.statistics {
            properties = properties.set_column_statistics_enabled(column(name), EnabledStatistics::Page);
        }
        for name in self.distinct {
            properties = properties.set_column_dictionary_enabled(column(name), false);
        }
        for name in self.rising {
            properties = properties
                .set_column_dictionary_enabled(column(name), false)
                .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
        }
        for name in self.looked_up {
            properties = properties
                .set_column_bloom_filter_enabled(column(name), true)
                .set_column_bloom_filter_fpp(column(name), 0.01)
                .set_column_bloom_filter_max_ndv(column(name), rows.min(ROW_GROUP_ROWS) as u64);
        }
        properties.build()
    }
}

/// A file that is to be written, with its place in the table.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub rows: RecordBatch,
    pub partition_values: Vec<(&'static str, String)>,
}

/// Writes a file and gives the action that would add it to the table. Invisible until that is committed.
pub(crate) async fn write_file(
    store: &Arc<dyn ObjectStore>,
    layout: FileLayout,
    file: NewFile,
    now_ms: i64,
) -> Result<Add> {
    let NewFile { rows, partition_values } = file;
    let encoding = tokio::task::spawn_blocking(move || encode(&rows, layout));
    let (bytes, stats) = encoding.await.doing("write a data file")??;
    let folder: String = partition_values.iter().map(|(name, value)| format!("{name}={value}/")).collect();
    let path = format!("{folder}part-{}.zstd.parquet", file_id(now_ms));
    let size = bytes.len() as i64;
    store.put(&Path::from(path.clone()), bytes.into()).await.doing("write a data file")?;
    Ok(Add {
        path,
        partition_values: partition_values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Some(value)))
            .collect::<HashMap<_, _>>(),
        size,
        modification_time: now_ms,
        data_change: true,
        stats: Some(stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

/// A name that no other file has. It decides nothing, so that it need not be repeatable.
#[allow(clippy::disallowed_methods, reason = "file names must be unique, across restarts and replays too")]
fn file_id(now_ms: i64) -> String {
    format!("{now_ms}-{}", Uuid::new_v4().simple())
}

fn encode(rows: &RecordBatch, layout: FileLayout) -> Result<(Bytes, String)> {
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(layout.properties(rows.num_rows())))?;
    writer.write(rows)?;
    Ok((writer.into_inner()?.into(), statistics(rows, layout.statistics)))
}

/// Per-file statistics as the Delta protocol writes them.
fn statistics(rows: &RecordBatch, columns: &[&str]) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for name in columns {
        let Some(column) = rows.column_by_name(name) else { continue };
        nulls.insert((*name).to_owned(), Value::from(column.null_count()));
        if let Some((low, high)) = bounds(column) {
            least.insert((*name).to_owned(), low);
            greatest.insert((*name).to_owned(), high);
        }
    }
    let stats = [
        ("numRecords", Value::from(rows.num_rows())),
        ("minValues", Value::Object(least)),
        ("maxValues", Value::Object(greatest)),
        ("nullCount", Value::Object(nulls)),
    ];
    Value::Object(stats.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).to_string()
}

fn bounds(column: &Arc<dyn Array>) -> Option<(Value, Value)> {
    match column.data_type() {
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>();
            Some((min(values)?.into(), max(values)?.into()))
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>();
            Some((min(values)?.into(), max(values)?.into()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = column.as_primitive::<TimestampMicrosecondType>();
            let text = |us| Timestamp::from_microsecond(us).ok().map(|at| Value::from(format!("{at:.6}")));
            Some((text(min(values)?)?, text(max(values)?)?))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            Some((min_string(values)?.into(), max_string(values)?.into()))
        }
        _ => None,
    }
}

/// Reads columns of a file, or all of them, batch by batch. Columns come in the file's order.
pub(crate) async fn read_file(
    store: &Arc<dyn ObjectStore>,
    path: &str,
    columns: Option<&[&str]>,
) -> Result<Vec<RecordBatch>> {
    let found = match store.get(&Path::from(path)).await {
        Err(object_store::Error::NotFound { .. }) => {
            return Err(LakeError::Damaged { what: format!("data file `{path}` is missing") });
        }
        found => found.doing("read a data file")?,
    };
    let bytes = found.bytes().await.doing("read a data file")?;
    let columns: Option<Vec<String>> = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let decoding = tokio::task::spawn_blocking(move || -> Result<Vec<RecordBatch>> {
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new())?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
        let mask = match &columns {
            Some(names) => ProjectionMask::columns(builder.parquet_schema(), names.iter().map(String::as_str)),
            None => ProjectionMask::all(),
        };
        let reader = builder.with_projection(mask).with_batch_size(64 * 1024).build()?;
        Ok(reader.collect::<std::result::Result<Vec<_>, _>>()?)
    });
    decoding.await.doing("read a data file")?
}

/// All rows of several files, in batches of one schema. What a file of an older version lacks is null.
pub(crate) async fn read_files(
    store: &Arc<dyn ObjectStore>,
    paths: &[&str],
    schema: &SchemaRef,
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for path in paths {
        for batch in read_file(store, path, None).await? {
            batches.push(widened(&batch, schema, path)?);
        }
    }
    Ok(batches)
}

/// Column by column, since the reader's metadata may differ where the types do not.
fn widened(batch: &RecordBatch, schema: &SchemaRef, path: &str) -> Result<RecordBatch> {
    let in_file = batch.schema();
    if let Some(unknown) = in_file.fields().iter().find(|field| schema.field_with_name(field.name()).is_err()) {
        // A newer binary wrote it. Rows that are written anew must not lose what stands there.
        let what = format!("data file `{path}` has a column `{}` that this binary does not know", unknown.name());
        return Err(LakeError::Damaged { what });
    }
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    Ok(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect())?)
}
