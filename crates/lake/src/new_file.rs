//! A data file in the making: rows go in piece by piece, and are kept as they will stand in it.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::compute::{interleave_record_batch, max, max_string, min, min_string};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use bytes::Bytes;
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use serde_json::{Map, Value};

use crate::error::{Doing, LakeError, Result};
use crate::layout::FileLayout;
use crate::numbered::{Texts, with_texts};

/// Rows that go into a file by so many: what is made for them is small enough to be made anew in the same memory.
pub(crate) const PIECE_ROWS: usize = 8_192;

/// Names and values of the columns that are a file's folders.
pub(crate) type PartitionValues = Vec<(&'static str, String)>;

/// A file that is to be written, with its place in the table. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct NewFile {
    pub bytes: Bytes,
    pub rows: usize,
    pub columns: usize,
    /// Per file, as the Delta protocol writes them.
    pub statistics: String,
    pub partition_values: PartitionValues,
}

impl NewFile {
    /// Of rows that are all at hand.
    pub async fn encode(layout: FileLayout, rows: impl Into<Rows>, partition_values: PartitionValues) -> Result<Self> {
        let rows = rows.into();
        let encoding = tokio::task::spawn_blocking(move || {
            let batches = rows.batches.iter().map(|batch| with_texts(batch, &rows.texts));
            let batches: Vec<RecordBatch> = batches.collect::<std::result::Result<_, _>>()?;
            let rows_max = batches.iter().map(RecordBatch::num_rows).sum();
            let mut file = OpenFile::new(layout, &batches, rows_max)?;
            rows.each_piece(|piece| file.add(piece))?;
            file.finish(partition_values)
        });
        encoding.await.doing("write a data file")?
    }
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

/// Takes rows until it is finished.
pub(crate) struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    columns: usize,
    rows: usize,
    statistics: Vec<ColumnStatistics>,
}

impl OpenFile {
    /// For at most so many rows. Of the first, which are yet to be added, it looks at what columns they have no value of.
    pub fn new(layout: FileLayout, first: &[RecordBatch], rows_max: usize) -> Result<Self> {
        let [piece, ..] = first else {
            return Err(LakeError::Damaged { what: "a file of no rows".to_owned() });
        };
        // Parquet's own types say all that readers need: how the rows lay in memory when they were written is nobody's concern.
        let properties = layout.properties(first, rows_max);
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        Ok(Self {
            writer: ArrowWriter::try_new_with_options(Vec::new(), piece.schema(), options)?,
            columns: piece.num_columns(),
            rows: 0,
            statistics: layout
                .statistics
                .iter()
                .map(|name| ColumnStatistics { name, nulls: 0, bounds: None })
                .collect(),
        })
    }

    pub fn add(&mut self, piece: &RecordBatch) -> Result<()> {
        self.rows += piece.num_rows();
        for column in &mut self.statistics {
            if let Some(values) = piece.column_by_name(column.name) {
                column.add(values);
            }
        }
        Ok(self.writer.write(piece)?)
    }

    /// Lets go of what takes memory until more rows come, at the price of a row group of its own for what is there.
    pub fn close_row_group(&mut self) -> Result<()> {
        Ok(self.writer.flush()?)
    }

    pub fn finish(self, partition_values: PartitionValues) -> Result<NewFile> {
        let statistics = statistics_json(self.rows, &self.statistics);
        let bytes = self.writer.into_inner()?.into();
        Ok(NewFile { bytes, rows: self.rows, columns: self.columns, statistics, partition_values })
    }
}

/// What the log will say of a column's values.
struct ColumnStatistics {
    name: &'static str,
    nulls: usize,
    bounds: Option<Bounds>,
}

/// The least and the greatest value.
enum Bounds {
    Numbers(i64, i64),
    TimesUs(i64, i64),
    Texts(String, String),
}

impl ColumnStatistics {
    fn add(&mut self, values: &ArrayRef) {
        self.nulls += values.null_count();
        self.bounds = match (self.bounds.take(), Bounds::of(values)) {
            (Some(earlier), Some(new)) => Some(earlier.and(new)),
            (earlier, new) => earlier.or(new),
        };
    }
}

impl Bounds {
    fn of(values: &ArrayRef) -> Option<Self> {
        fn numbers<T: ArrowPrimitiveType<Native: Ord>>(values: &ArrayRef) -> Option<(T::Native, T::Native)> {
            let values = values.as_primitive::<T>();
            Some((min(values)?, max(values)?))
        }
        match values.data_type() {
            DataType::Int32 => numbers::<Int32Type>(values).map(|(low, high)| Self::Numbers(low.into(), high.into())),
            DataType::Int64 => numbers::<Int64Type>(values).map(|(low, high)| Self::Numbers(low, high)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                numbers::<TimestampMicrosecondType>(values).map(|(low, high)| Self::TimesUs(low, high))
            }
            DataType::Utf8 => {
                let texts = values.as_string::<i32>();
                Some(Self::Texts(min_string(texts)?.to_owned(), max_string(texts)?.to_owned()))
            }
            // Each of the texts is in some row of the file.
            DataType::Dictionary(..) => Self::of(values.as_any_dictionary().values()),
            _ => None,
        }
    }

    /// Of the values of both, which are of one column.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Numbers(low, high), Self::Numbers(lower, higher)) => Self::Numbers(low.min(lower), high.max(higher)),
            (Self::TimesUs(low, high), Self::TimesUs(lower, higher)) => Self::TimesUs(low.min(lower), high.max(higher)),
            (Self::Texts(low, high), Self::Texts(lower, higher)) => Self::Texts(low.min(lower), high.max(higher)),
            (earlier, _) => earlier,
        }
    }

    fn json(&self) -> Option<(Value, Value)> {
        match self {
            Self::Numbers(low, high) => Some(((*low).into(), (*high).into())),
            Self::TimesUs(low, high) => {
                let text = |us| Timestamp::from_microsecond(us).ok().map(|at| Value::from(format!("{at:.6}")));
                Some((text(*low)?, text(*high)?))
            }
            Self::Texts(low, high) => Some((low.as_str().into(), high.as_str().into())),
        }
    }
}

fn statistics_json(rows: usize, columns: &[ColumnStatistics]) -> String {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for ColumnStatistics { name, nulls: of_column, bounds } in columns {
        nulls.insert((*name).to_owned(), (*of_column).into());
        if let Some((low, high)) = bounds.as_ref().and_then(Bounds::json) {
            least.insert((*name).to_owned(), low);
            greatest.insert((*name).to_owned(), high);
        }
    }
    let statistics = [
        ("numRecords", Value::from(rows)),
        ("minValues", Value::Object(least)),
        ("maxValues", Value::Object(greatest)),
        ("nullCount", Value::Object(nulls)),
    ];
    Value::Object(statistics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).to_string()
}
