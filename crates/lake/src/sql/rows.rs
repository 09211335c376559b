//! The rows of a running statement, as they come. Dropped, the statement stops; late, too many or too large, it stops too.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::engine::SqlLimits;
use super::error::{Result, SqlError};
use super::stop::Stop;

pub struct Rows {
    pub(super) schema: SchemaRef,
    /// The version of `events` that all of it is as of.
    pub(super) table_version: i64,
    pub(super) limits: SqlLimits,
    pub(super) batches: mpsc::Receiver<RecordBatch>,
    /// How the statement ended; none once that is told.
    pub(super) running: Option<JoinHandle<Result<()>>>,
    pub(super) stop: Stop,
    /// Beside the time limit of the task itself, which it does not notice while it computes.
    pub(super) deadline: Pin<Box<Sleep>>,
    pub(super) first: Option<RecordBatch>,
    pub(super) given: usize,
}

impl Rows {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn table_version(&self) -> i64 {
        self.table_version
    }

    /// The columns, and the names that their types have in SQL.
    pub fn columns(&self) -> Vec<(String, &'static str)> {
        let columns = self.schema.fields().iter();
        columns.map(|field| (field.name().clone(), type_name(field.data_type()))).collect()
    }

    /// The same rows, the first of them being there: what is wrong at once is told before anything is answered.
    pub(super) async fn with_first(mut self) -> Result<Self> {
        if let Some(batch) = self.next().await {
            let batch = batch?;
            self.given -= batch.num_rows();
            self.first = Some(batch);
        }
        Ok(self)
    }

    fn end(&mut self, error: SqlError) -> Poll<Option<Result<RecordBatch>>> {
        self.stop_now();
        Poll::Ready(Some(Err(error)))
    }

    fn stop_now(&mut self) {
        self.stop.now();
        if let Some(running) = self.running.take() {
            running.abort();
        }
        self.batches.close();
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = match this.first.take() {
            Some(batch) => Poll::Ready(Some(batch)),
            None if this.running.is_none() => return Poll::Ready(None),
            None => this.batches.poll_recv(context),
        };
        match next {
            Poll::Ready(Some(batch)) => {
                this.given += batch.num_rows();
                match this.limits.rows {
                    Some(limit) if this.given > limit => this.end(SqlError::TooManyRows { limit }),
                    _ => Poll::Ready(Some(Ok(batch))),
                }
            }
            Poll::Ready(None) => {
                let Some(running) = &mut this.running else { return Poll::Ready(None) };
                let ended = ready!(running.poll_unpin(context));
                this.running = None;
                match ended {
                    Ok(Ok(())) => Poll::Ready(None),
                    Ok(Err(error)) => Poll::Ready(Some(Err(error))),
                    Err(error) => Poll::Ready(Some(Err(SqlError::Failed(error.to_string())))),
                }
            }
            Poll::Pending => {
                ready!(this.deadline.poll_unpin(context));
                let limit = this.limits.time;
                this.end(SqlError::TooLong { limit })
            }
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.stop_now();
    }
}

fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "numeric"
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_) => "array",
        _ => "other",
    }
}
