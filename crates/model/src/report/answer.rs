//! What a report answers.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The rows of a report, and where they come from.
#[derive(Debug, Clone)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Json>>,
    pub meta: AnswerMeta,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AnswerMeta {
    /// The rollup that answered (`campaign_day`), or `events`.
    pub source: String,
    /// The version of `events` that all figures are as of, whichever table they were read from.
    pub table_version: i64,
    /// How far `users` may be off (relative standard error); none where it is exact or not asked for.
    pub users_error: Option<f64>,
    pub warnings: Vec<String>,
}
