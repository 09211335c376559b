//! What can go wrong in the lake, split by what the caller does about it.

use deltalake_core::DeltaTableError;
use tally_model::report::ReportError;

#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The store is away, full or slow, or somebody was faster: the same call may succeed later.
    #[error("cannot {doing}: {cause}")]
    Retry { doing: &'static str, cause: String },
    /// The tables are not as this process left them: another writer is at work.
    #[error("another process writes to this lake ({what}); stop it, since two writers would count twice")]
    Fenced { what: String },
    /// The data is not what it must be. Never skipped.
    #[error("the lake is damaged: {what}")]
    Damaged { what: String },
    /// The question cannot be answered as asked.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The query failed while running.
    #[error("the query failed: {0}")]
    Query(#[from] datafusion::error::DataFusionError),
}

pub(crate) type Result<T> = std::result::Result<T, LakeError>;

/// For errors of the store and of Delta: what was being done, and the library's own words.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, DeltaTableError> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| LakeError::Retry { doing, cause: error.to_string() })
    }
}

impl<T> Doing<T> for std::result::Result<T, object_store::Error> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| LakeError::Retry { doing, cause: error.to_string() })
    }
}

impl<T> Doing<T> for std::result::Result<T, tokio::task::JoinError> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| LakeError::Retry { doing, cause: error.to_string() })
    }
}

impl From<parquet::errors::ParquetError> for LakeError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        LakeError::Damaged { what: error.to_string() }
    }
}

impl From<arrow::error::ArrowError> for LakeError {
    fn from(error: arrow::error::ArrowError) -> Self {
        LakeError::Damaged { what: error.to_string() }
    }
}
