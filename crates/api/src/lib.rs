//! HTTP out: reports, proof, the life of an event, live figures, and the dashboard that shows them. Checks the question, asks whoever implements [`Query`], shapes the answer.

mod analyses;
mod cache;
mod conversions;
mod error;
mod exports;
mod extract;
mod live;
mod metrics;
mod openapi;
mod page;
mod proof;
mod quarantine;
mod report;
mod sql;
mod told_rows;
mod turns;
mod web;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use tally_model::analysis::{
    Funnel, FunnelAnswer, HeatMap, HeatMapAnswer, Percentiles, PercentilesAnswer, Sample, SampleAnswer,
};
use tally_model::report::{Answer, Report, ReportError};
use tally_model::{
    CheckReport, ConversionFilter, ConversionRow, Days, EventId, Format, Life, Listed, Page, Quarantined, Reason,
};

use cache::Answers;
use proof::Recent;
use turns::{Turns, Work};

pub use cache::SharedCache;
pub use error::{ApiError, Problem};
pub use exports::{Exports, router as exports_router};
pub use extract::Question;
pub use live::{Frame, Live, live_router};
pub use metrics::ApiMetrics;
pub use openapi::{ApiDocument, problem};
pub use sql::{SqlQuestion, Table};
pub use web::{is_web, web_router};

/// How long a question may run.
const RUN_TIME: Duration = Duration::from_secs(120);

/// How far the figures are, said with every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Every event acknowledged before this instant is in. Microseconds since the Unix epoch.
    pub watermark_us: i64,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question cannot be answered as asked.
    #[error(transparent)]
    Asked(#[from] ReportError),
    /// It is no SQL, or may not run.
    #[error("{0}")]
    Statement(String),
    #[error("{0}")]
    Busy(String),
    /// It used up what it may.
    #[error("{0}")]
    OverLimit(String),
    /// Something broke while answering.
    #[error("{0}")]
    Failed(String),
}

/// The tables at one moment. What is asked of it is answered alike, however much is committed meanwhile.
#[async_trait]
pub trait Moment: Send + Sync {
    /// The version of `events` that it is as of.
    fn version(&self) -> i64;
    /// What of the tables a report is about: two moments with the same have the same answer to it.
    fn state(&self, report: &Report) -> String;
    /// Whether it takes raw events, where another would take sums that are there.
    fn is_heavy(&self, report: &Report) -> bool;
    async fn answer(&self, report: &Report) -> Result<Answer, QueryError>;
    /// How it is answered.
    async fn explain(&self, report: &Report) -> Result<serde_json::Value, QueryError>;
}

/// An answer's bytes, made as they are taken.
pub type Pieces = Box<dyn Iterator<Item = Result<Bytes, QueryError>> + Send>;

/// Whoever knows the figures: the lake in this process, or another process over the network.
#[async_trait]
pub trait Query: Send + Sync + 'static {
    /// Taken before a question, so that the answer is at least as fresh as it says.
    fn freshness(&self) -> Freshness;
    /// Waits until all that was acknowledged before this is in the figures, and makes it hurry.
    async fn catch_up(&self) -> Result<(), QueryError>;
    /// Holds on to what a report is about: the tables as they are now, or as they were then.
    async fn moment(&self, report: &Report) -> Result<Arc<dyn Moment>, QueryError>;
    async fn report(&self, report: &Report) -> Result<Answer, QueryError> {
        self.moment(report).await?.answer(report).await
    }
    /// An answer in a format that this crate does not write itself.
    fn encode(&self, answer: Arc<Answer>, format: Format) -> Result<Pieces, QueryError>;
    /// The first rows of a statement's answer are there when this returns.
    async fn sql(&self, question: SqlQuestion) -> Result<Table, QueryError>;
    async fn check(&self, recount: bool) -> Result<CheckReport, QueryError>;
    /// A recount of some days only.
    async fn check_days(&self, days: Days) -> Result<CheckReport, QueryError>;
    async fn life(&self, id: EventId) -> Result<Life, QueryError>;
    async fn funnel(&self, asked: &Funnel) -> Result<FunnelAnswer, QueryError>;
    async fn heat_map(&self, asked: &HeatMap) -> Result<HeatMapAnswer, QueryError>;
    async fn percentiles(&self, asked: &Percentiles) -> Result<PercentilesAnswer, QueryError>;
    async fn sample(&self, asked: &Sample) -> Result<SampleAnswer, QueryError>;
    /// The newest events in quarantine.
    async fn quarantined(&self, reason: Option<Reason>, page: Page) -> Result<Listed<Quarantined>, QueryError>;
    /// The newest words about conversions.
    async fn conversions(&self, filter: &ConversionFilter, page: Page) -> Result<Listed<ConversionRow>, QueryError>;
}

pub struct Api {
    query: Arc<dyn Query>,
    metrics: ApiMetrics,
    turns: Turns,
    recent_check: tokio::sync::Mutex<Option<Recent>>,
    answers: Answers,
}

/// Where answers are kept.
#[derive(Default)]
pub struct CacheSettings {
    /// Memory for those of this process. 0: none is kept.
    pub bytes_max: u64,
    pub shared: Option<Arc<dyn SharedCache>>,
}

impl Api {
    pub fn new(query: Arc<dyn Query>, metrics: ApiMetrics, cache: CacheSettings) -> Arc<Self> {
        let answers = Answers::new(cache.bytes_max, cache.shared);
        let turns = Turns::new(metrics.waiting.clone());
        Arc::new(Self { query, metrics, turns, recent_check: Default::default(), answers })
    }

    /// Runs a question when its turn has come, for a bounded time.
    async fn run<T>(&self, work: Work, question: impl Future<Output = Result<T, QueryError>>) -> Result<T, ApiError> {
        let _turn = self.turns.take(work).await?;
        match tokio::time::timeout(RUN_TIME, question).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ApiError::TooLong { limit: RUN_TIME }),
        }
    }
}

pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/query", post(report::query).get(report::query_by_url))
        .route("/v1/catalog", get(report::catalog))
        .route("/v1/sql", post(sql::sql))
        .route("/v1/verify", get(proof::verify))
        .route("/v1/quarantine", get(quarantine::list))
        .route("/v1/conversions", get(conversions::list))
        .route("/v1/events/{event_id}", get(proof::life))
        .merge(analyses::routes())
        .with_state(api)
}

#[cfg(test)]
mod tests;
