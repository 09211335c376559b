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
/// Most answers to reports are shorter, and are one piece.
const PIECE_BYTES: usize = 64 << 10;
/// Rows of such an answer that are written at a time.
const PIECE_ROWS: usize = 1_024;

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

/// A report's answer in a format, a piece at a time as it is taken. As JSON, an object on each line.
pub fn encode_answer(
    answer: Arc<Answer>,
    format: Format,
) -> Result<impl Iterator<Item = Result<Bytes>> + Send + 'static> {
    let fields = answer.columns.iter().map(|name| Field::new(name, answer_type(name), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let encoder = Some(Encoder::new(format, &schema)?);
    Ok(AnswerPieces { answer, schema, encoder, from: 0 })
}

fn answer_type(column: &str) -> DataType {
    match Metric::parse(column.strip_suffix("_as_of").unwrap_or(column)).map(|metric| metric.value(|_| 1)) {
        Some(Value::Whole(_)) => DataType::Int64,
        Some(Value::Ratio(_) | Value::Null) => DataType::Float64,
        None => DataType::Utf8,
    }
}

struct AnswerPieces {
    answer: Arc<Answer>,
    schema: SchemaRef,
    /// None once all is written, or something failed.
    encoder: Option<Encoder>,
    /// The row that is written next.
    from: usize,
}

impl AnswerPieces {
    /// Until there is enough to send, or no more.
    fn piece(&mut self) -> Result<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES
            && let Some(mut encoder) = self.encoder.take()
        {
            let upto = self.answer.rows.len().min(self.from + PIECE_ROWS);
            let rows = &self.answer.rows[self.from..upto];
            if rows.is_empty() {
                piece.extend_from_slice(&encoder.finish()?);
                break;
            }
            piece.extend_from_slice(&encoder.write(&self.batch(rows)?)?);
            self.from = upto;
            self.encoder = Some(encoder);
        }
        Ok(piece.into())
    }

    fn batch(&self, rows: &[Vec<Json>]) -> Result<RecordBatch> {
        let columns = self.schema.fields().iter().enumerate().map(|(at, field)| -> ArrayRef {
            let values = rows.iter().map(|row| &row[at]);
            match field.data_type() {
                DataType::Int64 => Arc::new(values.map(Json::as_i64).collect::<Int64Array>()),
                DataType::Float64 => Arc::new(values.map(Json::as_f64).collect::<Float64Array>()),
                _ => Arc::new(values.map(Json::as_str).collect::<StringArray>()),
            }
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect()).map_err(failed)
    }
}

impl Iterator for AnswerPieces {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        self.encoder.is_some().then(|| self.piece())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use serde_json::json;
    use tally_model::report::AnswerMeta;

    fn answer(rows: usize) -> Arc<Answer> {
        let columns = ["campaign_id", "clicks", "ctr"].map(str::to_owned).to_vec();
        let row = |n: usize| match n % 3 {
            0 => vec![json!(format!("c{n}")), json!(n), json!(0.5)],
            1 => vec![json!(""), json!(-1), Json::Null],
            _ => vec![Json::Null, json!(i64::MAX), json!(1.0)],
        };
        let meta =
            AnswerMeta { source: "campaign_day".to_owned(), table_version: 7, users_error: None, warnings: Vec::new() };
        Arc::new(Answer { columns, rows: (0..rows).map(row).collect(), meta })
    }

    fn pieces(answer: &Arc<Answer>, format: Format) -> Vec<Bytes> {
        encode_answer(answer.clone(), format).unwrap().collect::<Result<_>>().unwrap()
    }

    /// The rows that another reader of the format finds.
    fn read_back(bytes: Vec<u8>, format: Format) -> Vec<Vec<Json>> {
        let mut lines = JsonBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        let bytes = match format {
            Format::Parquet => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().build().unwrap();
                reader.for_each(|batch| lines.write(&batch.unwrap()).unwrap());
                lines.into_inner()
            }
            Format::Arrow => {
                let reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
                reader.for_each(|batch| lines.write(&batch.unwrap()).unwrap());
                lines.into_inner()
            }
            _ => bytes,
        };
        let rows = serde_json::Deserializer::from_slice(&bytes).into_iter::<Json>().map(|row| row.unwrap());
        rows.map(|row| ["campaign_id", "clicks", "ctr"].map(|name| row[name].clone()).to_vec()).collect()
    }

    #[test]
    fn an_answer_in_pieces_is_read_back_row_by_row() {
        for format in [Format::Ndjson, Format::Parquet, Format::Arrow] {
            for rows in [0, 1, PIECE_ROWS, PIECE_ROWS + 1, 50_000] {
                let answer = answer(rows);
                let whole = pieces(&answer, format).concat();
                assert!(read_back(whole, format) == answer.rows, "{rows} rows as {}", format.as_str());
            }
            assert_eq!(pieces(&answer(100), format).len(), 1, "{}", format.as_str());
        }
        for format in [Format::Ndjson, Format::Arrow] {
            let (pieces, most) = (pieces(&answer(50_000), format), 4 * PIECE_BYTES);
            assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.len() < most), "{}", format.as_str());
        }
    }
}
