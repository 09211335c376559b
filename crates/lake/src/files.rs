//! Data files: record batches to Parquet and back, and what the log says of a file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch, new_null_array};
use arrow::compute::{interleave_record_batch, max, max_string, min, min_string};
use arrow::datatypes::{DataType, FieldRef, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Doing, LakeError, Result};
use crate::numbered::{Texts, with_texts};

/// Rows of one row group: the unit that readers skip by, and that a writer holds in memory.
const ROW_GROUP_ROWS: usize = 512 * 1024;
/// How many columns a file has, in the log: the first so many of its table's, since columns are only added at the end.
pub(crate) const COLUMNS_TAG: &str = "tally.columns";
/// Higher levels save little on these columns.
pub(crate) const ZSTD_LEVEL: i32 = 3;
/// Of files that a commit writes, to be merged into others soon: a compressor of this level has smaller tables to set up.
const FRESH_ZSTD_LEVEL: i32 = 1;

/// How the files of a table are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileLayout {
    pub zstd_level: i32,
    /// Columns whose least and greatest values go into the log.
    pub statistics: &'static [&'static str],
    /// Columns of a few values: their numbers take some bits each, and a compressor would have to be set up for every column.
    pub few_values: &'static [&'static str],
    /// Columns that most questions read: a compressor would save a hundredth of a file, and undoing it is a good part of reading them.
    pub often_read: &'static [&'static str],
    /// Columns without repeats: a dictionary would only cost.
    pub distinct: &'static [&'static str],
    /// Columns that rise slowly: differences take a byte or two.
    pub rising: &'static [&'static str],
    /// Columns that single values are looked up by.
    pub looked_up: &'static [&'static str],
}

impl FileLayout {
    /// The same for files that will not be there for long.
    pub fn fresh(self) -> Self {
        Self { zstd_level: FRESH_ZSTD_LEVEL, ..self }
    }

    fn properties(&self, rows: &[RecordBatch]) -> WriterProperties {
        let column = |name: &str| ColumnPath::from(name);
        let level = ZstdLevel::try_new(self.zstd_level).unwrap_or_default();
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::None);
        let uncompressed = self.few_values.iter().chain(self.often_read).copied().chain(columns_of_nulls(rows));
        for name in uncompressed {
            properties = properties.set_column_compression(column(name), Compression::UNCOMPRESSED);
        }
        for name in self.often_read {
            // Where there are too many values for a dictionary.
            properties = properties.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
        }
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
                .set_column_bloom_filter_max_ndv(column(name), row_count(rows).min(ROW_GROUP_ROWS) as u64);
        }
        properties.build()
    }
}

/// The columns that have no value at all in these rows.
fn columns_of_nulls(rows: &[RecordBatch]) -> impl Iterator<Item = &str> {
    let fields = rows.first().map(|first| first.schema_ref().fields()).into_iter().flatten().enumerate();
    let is_null = |at: usize| rows.iter().all(|rows| rows.column(at).null_count() == rows.num_rows());
    fields.filter(move |(at, _)| is_null(*at)).map(|(_, field)| field.name().as_str())
}

/// Rows that go into a file by so many: what is made for them is small enough to be made anew in the same memory.
pub(crate) const PIECE_ROWS: usize = 8_192;

/// A file that is to be written, with its place in the table.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub rows: Rows,
    pub partition_values: Vec<(&'static str, String)>,
}

/// The rows of a file: batches of the same columns one after the other, or their rows in another order.
#[derive(Debug)]
pub(crate) struct Rows {
    pub batches: Vec<RecordBatch>,
    /// Batch and place of each row, where they are not to be written as they come.
    pub order: Option<Vec<(usize, usize)>>,
    /// Of the columns that have numbers in place of texts.
    pub texts: Texts,
}

impl From<RecordBatch> for Rows {
    fn from(batch: RecordBatch) -> Self {
        Self::from(vec![batch])
    }
}

impl From<Vec<RecordBatch>> for Rows {
    fn from(batches: Vec<RecordBatch>) -> Self {
        Self { batches, order: None, texts: Texts::new() }
    }
}

impl Rows {
    fn each_piece(&self, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        let mut whole = |piece: &RecordBatch| each(&with_texts(piece, &self.texts)?);
        let Some(order) = &self.order else { return self.batches.iter().try_for_each(whole) };
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        order.chunks(PIECE_ROWS).try_for_each(|places| whole(&interleave_record_batch(&batches, places)?))
    }
}

/// Writes a file and gives the action that would add it to the table. Invisible until that is committed.
pub(crate) async fn write_file(
    store: &Arc<dyn ObjectStore>,
    layout: FileLayout,
    file: NewFile,
    now_ms: i64,
) -> Result<Add> {
    let NewFile { rows, partition_values } = file;
    let columns = rows.batches.first().map(|batch| (COLUMNS_TAG.to_owned(), Some(batch.num_columns().to_string())));
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
        tags: Some(columns.into_iter().collect()),
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

fn encode(rows: &Rows, layout: FileLayout) -> Result<(Bytes, String)> {
    let batches = rows.batches.iter().map(|batch| with_texts(batch, &rows.texts));
    let batches: Vec<RecordBatch> = batches.collect::<std::result::Result<_, _>>()?;
    let [first, ..] = batches.as_slice() else {
        return Err(LakeError::Damaged { what: "a file of no rows".to_owned() });
    };
    // Parquet's own types say all that readers need: how the rows lay in memory when they were written is nobody's concern.
    let options = ArrowWriterOptions::new().with_properties(layout.properties(&batches)).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), first.schema(), options)?;
    rows.each_piece(|piece| Ok(writer.write(piece)?))?;
    Ok((writer.into_inner()?.into(), statistics(&batches, layout.statistics)))
}

fn row_count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Per-file statistics as the Delta protocol writes them.
fn statistics(batches: &[RecordBatch], columns: &[&str]) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for name in columns {
        let pieces: Vec<&ArrayRef> = batches.iter().filter_map(|rows| rows.column_by_name(name)).collect();
        let Some(first) = pieces.first() else { continue };
        nulls.insert((*name).to_owned(), pieces.iter().map(|piece| piece.null_count()).sum::<usize>().into());
        if let Some((low, high)) = bounds(first.data_type(), &pieces) {
            least.insert((*name).to_owned(), low);
            greatest.insert((*name).to_owned(), high);
        }
    }
    let stats = [
        ("numRecords", Value::from(row_count(batches))),
        ("minValues", Value::Object(least)),
        ("maxValues", Value::Object(greatest)),
        ("nullCount", Value::Object(nulls)),
    ];
    Value::Object(stats.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).to_string()
}

fn bounds(data_type: &DataType, pieces: &[&ArrayRef]) -> Option<(Value, Value)> {
    fn numbers<T: ArrowPrimitiveType<Native: Ord>>(pieces: &[&ArrayRef]) -> Option<(T::Native, T::Native)> {
        let columns = || pieces.iter().map(|piece| piece.as_primitive::<T>());
        Some((columns().filter_map(min).min()?, columns().filter_map(max).max()?))
    }
    match data_type {
        DataType::Int32 => numbers::<Int32Type>(pieces).map(|(low, high)| (low.into(), high.into())),
        DataType::Int64 => numbers::<Int64Type>(pieces).map(|(low, high)| (low.into(), high.into())),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let (low, high) = numbers::<TimestampMicrosecondType>(pieces)?;
            let text = |us| Timestamp::from_microsecond(us).ok().map(|at| Value::from(format!("{at:.6}")));
            Some((text(low)?, text(high)?))
        }
        DataType::Utf8 => {
            let columns = || pieces.iter().map(|piece| piece.as_string::<i32>());
            Some((columns().filter_map(min_string).min()?.into(), columns().filter_map(max_string).max()?.into()))
        }
        // Each of the texts is in some row.
        DataType::Dictionary(..) => {
            let texts: Vec<&ArrayRef> = pieces.iter().map(|piece| piece.as_any_dictionary().values()).collect();
            bounds(texts.first()?.data_type(), &texts)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::ATTRIBUTIONS_LAYOUT;
    use crate::events::EVENTS_LAYOUT;
    use crate::rollups::ROLLUPS_LAYOUT;
    use crate::schema::{ATTRIBUTIONS, EVENTS_FILE, ROLLUPS};

    #[test]
    fn every_column_that_a_layout_names_is_in_its_table() {
        for (layout, schema) in
            [(EVENTS_LAYOUT, &EVENTS_FILE), (ROLLUPS_LAYOUT, &ROLLUPS), (ATTRIBUTIONS_LAYOUT, &ATTRIBUTIONS)]
        {
            let FileLayout { zstd_level: _, statistics, few_values, often_read, distinct, rising, looked_up } = layout;
            for name in [statistics, few_values, often_read, distinct, rising, looked_up].into_iter().flatten() {
                assert!(schema.field_with_name(name).is_ok(), "no column `{name}`");
            }
        }
    }
}
