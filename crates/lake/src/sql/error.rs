//! Why a statement has no answer, split by what whoever sent it does about it.

use std::time::Duration;

use datafusion::error::DataFusionError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// It is no SQL, or names what is not there, or computes what has no value.
    #[error("{0}")]
    Statement(String),
    /// It is understood, and not done here.
    #[error("{what} is not done here: SQL is read-only; use SELECT, WITH or EXPLAIN")]
    Refused { what: String },
    #[error("too many SQL statements are running; try again in a moment")]
    Busy,
    #[error(
        "the statement ran for {} s, which is its limit; ask for a shorter time or fewer columns, or give it more time", limit.as_secs_f64()
    )]
    TooLong { limit: Duration },
    #[error(
        "the statement needs more than {} MiB of memory, which is its limit; group by fewer columns, or filter first", limit_bytes >> 20
    )]
    TooLarge { limit_bytes: usize },
    #[error("the answer has more than {limit} rows; add a LIMIT, or make an export of it (POST /v1/exports)")]
    TooManyRows { limit: usize },
    #[error("the statement was cancelled")]
    Cancelled,
    /// Ours to mend.
    #[error("the statement failed: {0}")]
    Failed(String),
}

pub(super) type Result<T> = std::result::Result<T, SqlError>;

impl SqlError {
    /// What came out of the engine while it ran with so much memory.
    pub(super) fn of(error: &DataFusionError, limit_bytes: usize) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => SqlError::TooLarge { limit_bytes },
            DataFusionError::External(cause) => match cause.downcast_ref::<SqlError>() {
                Some(ours) => ours.clone(),
                None => SqlError::Failed(cause.to_string()),
            },
            DataFusionError::ParquetError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ExecutionJoin(_)
            | DataFusionError::Internal(_) => SqlError::Failed(error.strip_backtrace()),
            // Where the words of the root are the statement's own fault, the path to it only repeats the engine's insides.
            root => SqlError::Statement(root.strip_backtrace()),
        }
    }
}
