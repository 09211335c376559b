//! All roles in one process: how they are put together, and in which order they stop.

mod access;
pub(crate) mod adapters;
mod admin;
mod attribution;
mod door;
mod live;
mod looking;
mod maintenance;
mod openapi;
mod operations;
mod postgres;
mod recount;
mod refresh;
mod session;
mod shared_cache;
mod truth;
mod warm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tally_api::{Api, ApiMetrics, CacheSettings, Exports, Frame, Live};
use tally_capture::{Capture, CaptureMetrics, CaptureParts, Front, HashKey, Limits};
use tally_journal::{DiskJournal, DiskOptions, Journal};
use tally_lake::Lake;
use tally_model::{Clock, SystemClock, SystemEntropy};
use tally_pipeline::{Pipeline, PipelineError, PipelineMetrics, Progress, Urgency};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::config::{Config, DataFolder};
use crate::keys::KeyFile;
use crate::outbound::{self, Outbound, OutboundParts};
use access::{Access, AccessParts, Guarded, Keyring};
use adapters::{LakeQuery, LakeSink};
use admin::Admin;
use attribution::{Attribution, AttributionMetrics};
pub(crate) use door::{Door, DoorMetrics};
use live::LiveFigures;
use maintenance::Maintenance;
use operations::Operations;
use postgres::Holders;
use recount::{Recount, RecountMetrics};
use session::Sessions;
pub(crate) use truth::{ComparedFigure, Comparison, KnownTruth};

/// How long open requests may take to finish once we are told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How long the pipeline may take to commit what the journal holds, before the next start is left to do so.
const COMMIT_TIME: Duration = Duration::from_secs(60);

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    journal: Arc<DiskJournal>,
    door: Door,
    pipeline: JoinHandle<Result<(), PipelineError>>,
    /// Tells the live figures; whoever looks is let go when it ends.
    live: tokio::task::JoinHandle<()>,
    /// What runs beside the events, and may be dropped at any time.
    beside: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// With the truth that its figures are compared with, where that is known.
    pub async fn start(config: &Config, truth: Option<KnownTruth>) -> Result<Self> {
        let folder = DataFolder::new(&config.server.data);
        let mut registry = Registry::default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let journal = open_journal(config, &folder, &mut registry)?;
        let key = HashKey::load_or_create(&folder.hash_key(), &SystemEntropy)?;
        let limits = Arc::new(Limits::new(&config.limits, clock.clone(), &mut registry));
        let (access, keyring) = open_access(config, &folder, limits.clone(), &mut registry)?;
        let lake = Lake::open(&folder.lake(), config.journal.partitions, clock.clone()).await?;
        let lake = lake.with_cells_bytes(config.reports.cells_bytes);

        let progress = watch::Sender::new(Progress::default());
        let urgency = Arc::new(Urgency::default());
        let figures = LiveFigures::new(clock.clone(), urgency.clone(), &mut registry);
        let pipeline = Pipeline {
            journal: journal.clone(),
            sink: LakeSink::new(lake.clone(), Some(figures.clone())).await?,
            clock: clock.clone(),
            settings: config.pipeline_settings(),
            dedup: config.dedup_options(&folder),
            metrics: PipelineMetrics::register(&mut registry),
            progress: progress.clone(),
            urgency: urgency.clone(),
        };
        let pipeline = run_pipeline(pipeline)?;
        let maintenance = Maintenance::new(lake.clone(), &config.lake, &mut registry);
        let metrics = RecountMetrics::register(&mut registry);
        let dedup_ttl_s = config.pipeline.dedup_ttl_s;
        let recount = config.verify.recount_at_s()?;
        let recount = recount.map(|at_s| Recount::new(lake.clone(), clock.clone(), at_s, dedup_ttl_s, metrics));

        let attribution = Attribution {
            lake: lake.clone(),
            clock: clock.clone(),
            windows: config.attribution.windows(),
            progress: progress.subscribe(),
            metrics: AttributionMetrics::register(&mut registry),
        };

        let parts = OutboundParts {
            lake: lake.clone(),
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            folder: folder.outbound(),
        };
        let outbound = Outbound::open(&config.outbound, parts, &mut registry)?;
        let told = outbound.as_ref().map(Outbound::listed).unwrap_or_default();

        let sessions = Sessions {
            keyring: keyring.clone(),
            clock: clock.clone(),
            is_required: config.server.requires_keys(),
            is_secure: config.tls.is_on(),
            is_demo: truth.is_some(),
        };
        let admin = Admin { lake: lake.clone(), journal: journal.clone(), clock: clock.clone() };
        let capture = Arc::new(Capture::new(CaptureParts {
            journal: journal.clone(),
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            key,
            signing_keys: Some(folder.signing_keys()),
            settings: config.capture.clone(),
            limits: limits.clone(),
            metrics: CaptureMetrics::register(&mut registry),
        })?);
        let (frames, newest_frame) = watch::channel(Frame::default());
        let live = Live::new(newest_frame, &mut registry);
        let door_metrics = DoorMetrics::register(&mut registry);
        let sql = lake.sql(config.reports.statement_bytes)?;
        let holders = Holders { keyring: keyring.clone(), limits: limits.clone(), clock: clock.clone() };
        let postgres = postgres::open(config, sql.clone(), holders, &door_metrics, &mut registry)?;
        let query = Arc::new(LakeQuery {
            queries: lake.queries().with_audience_people_min(config.reports.audience_people_min),
            sql,
            progress: progress.subscribe(),
            urgency,
            clock: clock.clone(),
            dedup_ttl_s,
        });
        let exports = Exports::open(folder.exports(), query.clone(), clock, Arc::new(SystemEntropy), &mut registry)
            .with_context(|| format!("cannot open the folder of exports `{}`", folder.exports().display()))?;
        let cache = CacheSettings {
            bytes_max: config.reports.cache_bytes,
            shared: shared_cache::open(&config.reports.redis_url)?,
        };
        let api = Api::new(query, ApiMetrics::register(&mut registry), cache);
        let operations = Operations::new(registry, journal.clone(), progress.subscribe(), pipeline.is_running());
        let questions = tally_api::router(api.clone())
            .merge(tally_api::exports_router(exports.clone()))
            .merge(tally_api::live_router(live.clone()))
            .merge(tally_api::web_router())
            .merge(session::router(Arc::new(sessions)))
            .merge(truth.map(truth::router).unwrap_or_default())
            .merge(admin::router(Arc::new(admin)))
            .merge(operations::router(operations))
            .merge(outbound::router(told))
            .merge(openapi::router());
        let questions = aside(questions);
        let questions = questions.fallback(openapi::unknown_path).method_not_allowed_fallback(openapi::wrong_method);
        let endpoints = Guarded::new(access, Front::new(capture.clone()).before(questions));

        let door = Door::open(config, endpoints, tally_capture::gather_receipts_here, &door_metrics)?;
        let address = door.address;
        info!(%address, data = %folder.root().display(), "serving");
        Ok(Self {
            address,
            journal,
            door,
            pipeline: pipeline.thread,
            live: tokio::spawn(live::run(figures, live, progress.subscribe(), frames)),
            beside: [
                tokio::spawn(maintenance.run()),
                tokio::spawn(attribution.run()),
                tokio::spawn(refresh::run(capture)),
                tokio::spawn(access::keep_up(keyring)),
                tokio::spawn(exports.keep_up()),
                tokio::spawn(warm::run(api, progress.subscribe())),
            ]
            .into_iter()
            .chain(recount.map(|recount| tokio::spawn(recount.run())))
            .chain(postgres.map(tokio::spawn))
            .chain(outbound.map(|outbound| tokio::spawn(outbound.run())))
            .collect(),
        })
    }

    /// Stops so that a restart finds nothing to redo: who looks at the live figures is let go, the listener closes, open requests are answered, the journal is
    /// synced and closed, the pipeline commits all of it.
    pub async fn stop(self) -> Result<()> {
        info!("stopping");
        self.live.abort();
        match tokio::time::timeout(DRAIN_TIME, self.door.close()).await {
            Ok(done) => done?,
            Err(_) => warn!(waited_s = DRAIN_TIME.as_secs(), "some requests did not end in time"),
        }
        self.beside.iter().for_each(tokio::task::JoinHandle::abort);
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await?;
        let asked = Instant::now();
        while !self.pipeline.is_finished() {
            if asked.elapsed() > COMMIT_TIME {
                warn!("the lake does not take what is left; the journal keeps it, and the next start goes on there");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.pipeline.join().map_err(|_| anyhow::anyhow!("the pipeline ended unexpectedly"))??;
        info!("stopped; everything acknowledged is committed");
        Ok(())
    }
}

/// Serves until told to stop by SIGTERM or Ctrl-C.
pub async fn serve(config: &Config) -> Result<()> {
    let server = Server::start(config, None).await?;
    stop_signal().await?;
    server.stop().await
}

async fn stop_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// Answered on this runtime, which serves no connections: however long a question computes, no click waits for it.
fn aside(routes: Router) -> Router {
    let runtime = tokio::runtime::Handle::current();
    routes.layer(from_fn(move |request: Request, next: Next| {
        // Given up with the connection.
        let mut answering = JoinSet::new();
        answering.spawn_on(next.run(request), &runtime);
        async move {
            let answered = answering.join_next().await.and_then(Result::ok);
            answered.unwrap_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }))
}

/// The keys, and the layer that asks for them.
fn open_access(
    config: &Config,
    folder: &DataFolder,
    limits: Arc<Limits>,
    registry: &mut Registry,
) -> Result<(Arc<Access>, Arc<Keyring>)> {
    let registry = registry.sub_registry_with_prefix("tally_access");
    let keyring = Arc::new(Keyring::open(KeyFile::new(folder.keys()), registry)?);
    let is_required = config.server.requires_keys();
    if is_required && keyring.is_empty() {
        let data = folder.root().display();
        warn!(
            "there is no API key: clicks, pixels and single events are taken, all else is refused; make one with \
             `tally keys create NAME --scopes query --data {data}`, no restart is needed"
        );
    }
    if !is_required && !config.server.listens_on_loopback() {
        warn!("`server.auth` is off: whoever reaches {} may send events and ask for all figures", config.server.listen);
    }
    let parts = AccessParts { keyring: keyring.clone(), is_required, limits, clock: Arc::new(SystemClock) };
    Ok((Arc::new(Access::new(parts, registry)), keyring))
}

fn open_journal(config: &Config, folder: &DataFolder, registry: &mut Registry) -> Result<Arc<DiskJournal>> {
    let syncs = Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
    let (records, bytes) = (Counter::<u64>::default(), Counter::<u64>::default());
    let metrics = registry.sub_registry_with_prefix("tally_journal");
    metrics.register_with_unit("sync", "Time to write and sync a group of records", Unit::Seconds, syncs.clone());
    metrics.register("records", "Records made durable", records.clone());
    metrics.register_with_unit("written", "Bytes made durable", Unit::Bytes, bytes.clone());
    let options = DiskOptions {
        segment_bytes: config.journal.segment_bytes,
        retain_bytes: config.journal.retain_bytes,
        queue_bytes_max: config.journal.queue_bytes,
        unreleased_bytes_max: config.journal.behind_bytes,
        on_sync: Box::new(move |sync| {
            syncs.observe(sync.elapsed.as_secs_f64());
            records.inc_by(sync.records);
            bytes.inc_by(sync.bytes);
        }),
        ..DiskOptions::new(folder.journal(), config.journal.partitions)
    };
    let journal = DiskJournal::open(options)?;
    info!(start = journal.start().total(), end = journal.end().total(), "journal opened");
    Ok(journal)
}

struct RunningPipeline {
    thread: JoinHandle<Result<(), PipelineError>>,
    is_running: watch::Receiver<bool>,
}

impl RunningPipeline {
    fn is_running(&self) -> watch::Receiver<bool> {
        self.is_running.clone()
    }
}

/// On a thread of its own: judging and encoding take whole milliseconds, which no request should wait for.
fn run_pipeline(pipeline: Pipeline<LakeSink>) -> Result<RunningPipeline> {
    let runtime = tokio::runtime::Handle::current();
    let (running, is_running) = watch::channel(true);
    let thread = std::thread::Builder::new().name("tally-pipeline".to_owned()).spawn(move || {
        // And the thread that judges with it.
        tally_lake::step_back();
        let ended = runtime.block_on(pipeline.run());
        running.send_replace(false);
        if let Err(error) = &ended {
            // Capture goes on: what arrives is durable in the journal and is counted after a restart.
            error!(%error, "the pipeline stopped; events are kept, but not counted until this is mended and tally restarted");
        }
        ended
    })?;
    Ok(RunningPipeline { thread, is_running })
}
