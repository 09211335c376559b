//! Data files in the store: written whole, and read column by column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use uuid::Uuid;

use crate::error::{Doing, LakeError, Result};
use crate::layout::FileLayout;
use crate::new_file::{NewFile, PartitionValues, Rows};

/// How many columns a file has, in the log: the first so many of its table's, since columns are only added at the end.
pub(crate) const COLUMNS_TAG: &str = "tally.columns";

/// Encodes a file and writes it. Gives the action that would add it to the table; invisible until that is committed.
pub(crate) async fn write_file(
    store: &Arc<dyn ObjectStore>,
    layout: FileLayout,
    rows: impl Into<Rows>,
    partition_values: PartitionValues,
    now_ms: i64,
) -> Result<Add> {
    put_file(store, NewFile::encode(layout, rows, partition_values).await?, now_ms).await
}

/// The same of a file that is encoded already.
pub(crate) async fn put_file(store: &Arc<dyn ObjectStore>, file: NewFile, now_ms: i64) -> Result<Add> {
    let NewFile { bytes, columns, statistics, partition_values, rows: _ } = file;
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
        stats: Some(statistics),
        tags: Some(HashMap::from([(COLUMNS_TAG.to_owned(), Some(columns.to_string()))])),
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

/// Reads columns of a file, or all of them, batch by batch. Columns come in the file's order.
pub(crate) async fn read_file(
    store: &Arc<dyn ObjectStore>,
    path: &str,
    columns: Option<&[&str]>,
) -> Result<Vec<RecordBatch>> {
    let bytes = read_bytes(store, path).await?;
    let columns: Option<Vec<String>> = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let decoding = tokio::task::spawn_blocking(move || -> Result<Vec<RecordBatch>> {
        let metadata = load(&bytes)?;
        rows_of(bytes, metadata, columns.as_deref())
    });
    decoding.await.doing("read a data file")?
}

pub(crate) async fn read_bytes(store: &Arc<dyn ObjectStore>, path: &str) -> Result<Bytes> {
    let found = match store.get(&Path::from(path)).await {
        Err(object_store::Error::NotFound { .. }) => {
            return Err(LakeError::Damaged { what: format!("data file `{path}` is missing") });
        }
        found => found.doing("read a data file")?,
    };
    found.bytes().await.doing("read a data file")
}

/// A file's footer, with the columns as they stand there.
pub(crate) fn load(bytes: &Bytes) -> Result<ArrowReaderMetadata> {
    Ok(ArrowReaderMetadata::load(bytes, ArrowReaderOptions::new())?)
}

pub(crate) fn rows_of(
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    columns: Option<&[String]>,
) -> Result<Vec<RecordBatch>> {
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
    let mask = match columns {
        Some(names) => ProjectionMask::columns(builder.parquet_schema(), names.iter().map(String::as_str)),
        None => ProjectionMask::all(),
    };
    let reader = builder.with_projection(mask).with_batch_size(64 * 1024).build()?;
    Ok(reader.collect::<std::result::Result<Vec<_>, _>>()?)
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
pub(crate) fn widened(batch: &RecordBatch, schema: &SchemaRef, path: &str) -> Result<RecordBatch> {
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
