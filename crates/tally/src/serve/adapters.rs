//! Between crates that do not know each other: the lake as the pipeline's sink, and as what answers the api.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use tally_api::{Freshness, Moment, Pieces, Query, QueryError, SqlQuestion, Table};
use tally_lake::{
    EventRows, FirstSighting, Lake, LakeError, Queries, Sql, SqlError, SqlLimits, Threads, WantedSightings,
    encode_answer,
};
use tally_model::analysis::{
    Funnel, FunnelAnswer, HeatMap, HeatMapAnswer, Percentiles, PercentilesAnswer, Sample, SampleAnswer,
};
use tally_model::report::{Answer, Report};
use tally_model::{
    Cells, CheckReport, Clock, ConversionFilter, ConversionRow, Days, EventId, Fact, Format, Judged, Life, Listed,
    Page, Partition, Positions, Quarantined, Reason,
};
use tally_pipeline::{Batch, LivePart, PersonsClick, Progress, Rows, Sighting, Sink, SinkError, Urgency, Wanted};
use tokio::sync::watch;

use super::live::LiveFigures;

pub(crate) struct LakeSink {
    lake: Lake,
    committed: Positions,
    /// Whom to tell of what was counted, where somebody may look.
    live: Option<Arc<LiveFigures>>,
    /// What the batch in hand adds to the live figures, once its cells are in.
    uncounted: LivePart,
}

impl LakeSink {
    pub async fn new(lake: Lake, live: Option<Arc<LiveFigures>>) -> Result<Self, LakeError> {
        let committed = lake.committed().await?;
        Ok(Self { lake, committed, live, uncounted: LivePart::default() })
    }
}

fn sink_error(error: LakeError) -> SinkError {
    match error {
        LakeError::Retry { .. } => SinkError::Retry(error.to_string()),
        LakeError::Fenced { .. } | LakeError::Damaged { .. } | LakeError::Report(_) | LakeError::Query(_) => {
            SinkError::Fatal(error.to_string())
        }
    }
}

/// What a batch adds to the lake, and to the live figures.
#[derive(Default)]
pub(crate) struct SinkRows {
    events: EventRows,
    live: LivePart,
}

impl Rows for SinkRows {
    fn add(&mut self, judged: &Judged<&str>) {
        self.events.add(judged);
        self.live.add(judged);
    }
}

impl Sink for LakeSink {
    type Rows = SinkRows;

    fn committed(&self) -> Positions {
        self.committed.clone()
    }

    async fn sightings(
        &mut self,
        wanted: Wanted,
        each: &mut (dyn FnMut(Sighting) + Send),
    ) -> Result<Vec<(Partition, i64)>, SinkError> {
        let wanted = WantedSightings {
            ids_from_s: wanted.ids_from_s,
            ids_for_s: wanted.ids_for_s,
            clicks_for_s: wanted.clicks_for_s,
        };
        let mut each = |first: FirstSighting<'_>| {
            let click = first
                .counted_click
                .map(|click| PersonsClick::new(click.user_hash, click.campaign_id, click.ad_id, click.occurred_at_us));
            each(Sighting { partition: first.partition, id: first.id, judged_at_s: first.judged_at_s, click });
        };
        self.lake.sightings(wanted, &mut each).await.map_err(sink_error)
    }

    async fn commit_events(&mut self, batch: &mut Batch<SinkRows>) -> Result<i64, SinkError> {
        let version =
            self.lake.commit_events(&mut batch.rows.events, &batch.from, &batch.upto).await.map_err(sink_error)?;
        self.committed = batch.upto.clone();
        self.uncounted = self.live.as_ref().map(|_| batch.rows.live.clone()).unwrap_or_default();
        Ok(version)
    }

    async fn commit_cells(&mut self, version: i64, cells: &Cells) -> Result<(), SinkError> {
        self.lake.commit_cells(version, cells).await.map_err(sink_error)?;
        let counted = std::mem::take(&mut self.uncounted);
        if let Some(live) = &self.live {
            live.add(counted);
        }
        Ok(())
    }

    async fn versions_to_count(&mut self) -> Result<Vec<i64>, SinkError> {
        self.lake.versions_to_count().await.map_err(sink_error)
    }

    async fn facts(&mut self, version: i64, each: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<(), SinkError> {
        self.lake.facts(version, each).await.map_err(sink_error)
    }
}

pub(crate) struct LakeQuery {
    pub queries: Queries,
    pub sql: Sql,
    pub progress: watch::Receiver<Progress>,
    pub urgency: Arc<Urgency>,
    pub clock: Arc<dyn Clock>,
    pub dedup_ttl_s: u64,
}

impl LakeQuery {
    /// Asks what takes raw events.
    async fn aside<T, W>(&self, ask: impl FnOnce(Queries) -> W) -> Result<T, QueryError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, LakeError>> + Send + 'static,
    {
        self.sql.threads().run(ask(self.queries.clone())).await.map_err(query_error)
    }
}

fn query_error(error: LakeError) -> QueryError {
    match error {
        LakeError::Report(asked) => QueryError::Asked(asked),
        other => QueryError::Failed(other.to_string()),
    }
}

fn sql_error(error: SqlError) -> QueryError {
    let what = error.to_string();
    match error {
        SqlError::Statement(_) | SqlError::Refused { .. } => QueryError::Statement(what),
        SqlError::Busy => QueryError::Busy(what),
        SqlError::TooLong { .. } | SqlError::TooLarge { .. } | SqlError::TooManyRows { .. } => {
            QueryError::OverLimit(what)
        }
        SqlError::Cancelled | SqlError::Failed(_) => QueryError::Failed(what),
    }
}

struct LakeMoment {
    moment: tally_lake::Moment,
    threads: Threads,
}

#[async_trait]
impl Moment for LakeMoment {
    fn version(&self) -> i64 {
        self.moment.version()
    }

    fn state(&self, report: &Report) -> String {
        self.moment.state(report)
    }

    fn is_heavy(&self, report: &Report) -> bool {
        self.moment.is_heavy(report)
    }

    async fn answer(&self, report: &Report) -> Result<Answer, QueryError> {
        if !self.is_heavy(report) {
            return self.moment.answer(report).await.map_err(query_error);
        }
        let (moment, report) = (self.moment.clone(), report.clone());
        self.threads.run(async move { moment.answer(&report).await }).await.map_err(query_error)
    }

    async fn explain(&self, report: &Report) -> Result<serde_json::Value, QueryError> {
        self.moment.explain(report).await.map_err(query_error)
    }
}

#[async_trait]
impl Query for LakeQuery {
    fn freshness(&self) -> Freshness {
        Freshness { watermark_us: self.progress.borrow().watermark_us }
    }

    async fn catch_up(&self) -> Result<(), QueryError> {
        let now_us = self.clock.now_us();
        let _waiting = self.urgency.wait();
        let mut progress = self.progress.clone();
        let caught_up = progress.wait_for(|progress| progress.watermark_us >= now_us).await;
        caught_up.map(drop).map_err(|_| QueryError::Busy("the server stops, and counts no more events".to_owned()))
    }

    async fn moment(&self, report: &Report) -> Result<Arc<dyn Moment>, QueryError> {
        let moment = self.queries.moment(report).await.map_err(query_error)?;
        Ok(Arc::new(LakeMoment { moment, threads: self.sql.threads() }))
    }

    fn encode(&self, answer: Arc<Answer>, format: Format) -> Result<Pieces, QueryError> {
        let pieces = encode_answer(answer, format).map_err(sql_error)?;
        Ok(Box::new(pieces.map(|piece| piece.map_err(sql_error))))
    }

    async fn sql(&self, question: SqlQuestion) -> Result<Table, QueryError> {
        let limits = SqlLimits { time: question.time_limit, rows: question.rows_max };
        let rows = self.sql.run(&question.statement, limits).await.map_err(sql_error)?;
        let (columns, table_version) = (rows.columns(), rows.table_version());
        let body = rows.encoded(question.format).map(|chunk| chunk.map_err(sql_error)).boxed();
        Ok(Table { columns, table_version, body })
    }

    async fn check(&self, recount: bool) -> Result<CheckReport, QueryError> {
        let ttl_s = self.dedup_ttl_s;
        self.aside(|queries| async move { queries.check(recount, ttl_s).await }).await
    }

    async fn check_days(&self, days: Days) -> Result<CheckReport, QueryError> {
        let ttl_s = self.dedup_ttl_s;
        self.aside(|queries| async move { queries.check_days(days, ttl_s).await }).await
    }

    async fn life(&self, id: EventId) -> Result<Life, QueryError> {
        self.queries.life(id).await.map_err(query_error)
    }

    async fn funnel(&self, asked: &Funnel) -> Result<FunnelAnswer, QueryError> {
        let asked = asked.clone();
        self.aside(|queries| async move { queries.funnel(&asked).await }).await
    }

    async fn heat_map(&self, asked: &HeatMap) -> Result<HeatMapAnswer, QueryError> {
        let asked = asked.clone();
        self.aside(|queries| async move { queries.heat_map(&asked).await }).await
    }

    async fn percentiles(&self, asked: &Percentiles) -> Result<PercentilesAnswer, QueryError> {
        let asked = asked.clone();
        self.aside(|queries| async move { queries.percentiles(&asked).await }).await
    }

    async fn sample(&self, asked: &Sample) -> Result<SampleAnswer, QueryError> {
        let asked = asked.clone();
        self.aside(|queries| async move { queries.sample(&asked).await }).await
    }

    async fn quarantined(&self, reason: Option<Reason>, page: Page) -> Result<Listed<Quarantined>, QueryError> {
        self.queries.quarantined(reason, page).await.map_err(query_error)
    }

    async fn conversions(&self, filter: &ConversionFilter, page: Page) -> Result<Listed<ConversionRow>, QueryError> {
        self.queries.conversions(filter, page).await.map_err(query_error)
    }
}
