//! Rows as bytes, a batch at a time: what is held in memory does not grow with the answer.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder as JsonBuilder;
use arrow::json::writer::LineDelimited;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value as Json;
use tally_model::Format;
use tally_model::report::{Answer, Metric, Value};

use super::error::{Result, SqlError};
use super::rows::Rows;

/// Of a Parquet file's current row group, before it is written out.
const ROW_GROUP_BYTES: usize = 8 << 20;

impl Rows {
    /// The rows in a format. As JSON, an object on each line: the document around them is the caller's.
    pub fn encoded(self, format: Format) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let started = Encoder::new(format, self.schema());
        let state = match started {
            Ok(encoder) => Step::Rows(Box::new((self, encoder))),
            Err(error) => Step::Failed(error),
        };
        let chunks = stream::unfold(state, |step| async move {
            match step {
                Step::Rows(at) => {
                    let (mut rows, mut encoder) = *at;
                    match rows.next().await {
                        Some(Ok(batch)) => match encoder.write(&batch) {
                            Ok(bytes) => Some((Ok(bytes), Step::Rows(Box::new((rows, encoder))))),
                            Err(error) => Some((Err(error), Step::End)),
                        },
                        Some(Err(error)) => Some((Err(error), Step::End)),
                        None => Some((encoder.finish(), Step::End)),
                    }
                }
                Step::Failed(error) => Some((Err(error), Step::End)),
                Step::End => None,
            }
        });
        chunks.filter(|chunk| futures::future::ready(!matches!(chunk, Ok(bytes) if bytes.is_empty())))
    }
}

/// A report's answer in a format. As JSON, an object on each line.
pub fn encode_answer(answer: &Answer, format: Format) -> Result<Bytes> {
    let columns = answer.columns.iter().enumerate().map(|(at, name)| {
        let values = answer.rows.iter().map(|row| &row[at]);
        let column: ArrayRef =
            match Metric::parse(name.strip_suffix("_as_of").unwrap_or(name)).map(|metric| metric.value(|_| 1)) {
                Some(Value::Whole(_)) => Arc::new(values.map(Json::as_i64).collect::<Int64Array>()),
                Some(Value::Ratio(_) | Value::Null) => Arc::new(values.map(Json::as_f64).collect::<Float64Array>()),
                None => Arc::new(values.map(Json::as_str).collect::<StringArray>()),
            };
        (name.as_str(), column, true)
    });
    let rows = RecordBatch::try_from_iter_with_nullable(columns).map_err(failed)?;
    let mut encoder = Encoder::new(format, &rows.schema())?;
    let mut bytes = encoder.write(&rows)?.to_vec();
    bytes.extend_from_slice(&encoder.finish()?);
    Ok(bytes.into())
}

enum Step {
    Rows(Box<(Rows, Encoder)>),
    Failed(SqlError),
    End,
}

/// What the writers below write to, and what is taken from it after each batch.
#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Encoder {
    buffer: Buffer,
    writer: Writer,
}

enum Writer {
    Lines(Box<arrow::json::Writer<Buffer, LineDelimited>>),
    Csv(Box<arrow::csv::Writer<Buffer>>),
    Parquet(Box<ArrowWriter<Buffer>>),
    Arrow(Box<StreamWriter<Buffer>>),
}

impl Encoder {
    fn new(format: Format, schema: &SchemaRef) -> Result<Self> {
        let buffer = Buffer::default();
        let out = buffer.clone();
        let writer = match format {
            Format::Json | Format::Ndjson => {
                Writer::Lines(Box::new(JsonBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out)))
            }
            Format::Csv => {
                let mut writer = CsvBuilder::new().with_header(true).build(out);
                // The names, also where there are no rows.
                writer.write(&RecordBatch::new_empty(flat_schema(schema))).map_err(failed)?;
                Writer::Csv(Box::new(writer))
            }
            Format::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                Writer::Parquet(Box::new(writer.map_err(|error| SqlError::Failed(error.to_string()))?))
            }
            Format::Arrow => Writer::Arrow(Box::new(StreamWriter::try_new(out, schema).map_err(failed)?)),
        };
        Ok(Self { buffer, writer })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<Bytes> {
        match &mut self.writer {
            Writer::Lines(writer) => writer.write(batch).map_err(failed)?,
            Writer::Csv(writer) => writer.write(&flat(batch).map_err(failed)?).map_err(failed)?,
            Writer::Parquet(writer) => {
                let mut write = || {
                    writer.write(batch)?;
                    if writer.in_progress_size() > ROW_GROUP_BYTES { writer.flush() } else { Ok(()) }
                };
                write().map_err(|error| SqlError::Failed(error.to_string()))?;
            }
            Writer::Arrow(writer) => writer.write(batch).map_err(failed)?,
        }
        Ok(self.buffer.take())
    }

    fn finish(self) -> Result<Bytes> {
        match self.writer {
            Writer::Lines(mut writer) => writer.finish().map_err(failed)?,
            Writer::Csv(writer) => drop(writer),
            Writer::Parquet(writer) => {
                writer.close().map_err(|error| SqlError::Failed(error.to_string()))?;
            }
            Writer::Arrow(mut writer) => writer.finish().map_err(failed)?,
        }
        Ok(self.buffer.take())
    }
}

fn failed(error: ArrowError) -> SqlError {
    SqlError::Statement(format!("the rows have no form in this format: {error}"))
}

/// Lists and the like as text: a line of CSV has no place for more.
fn flat(batch: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| -> std::result::Result<ArrayRef, ArrowError> {
        if !column.data_type().is_nested() {
            return Ok(column.clone());
        }
        let texts = ArrayFormatter::try_new(column, &options)?;
        let text = |row| (!column.is_null(row)).then(|| texts.value(row).to_string());
        Ok(Arc::new((0..column.len()).map(text).collect::<StringArray>()))
    });
    RecordBatch::try_new(flat_schema(&batch.schema()), columns.collect::<std::result::Result<_, _>>()?)
}

fn flat_schema(schema: &SchemaRef) -> SchemaRef {
    let flat = |field: &Arc<Field>| match field.data_type().is_nested() {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        false => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(flat).collect::<Vec<_>>()))
}
