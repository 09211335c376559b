//! One life of a process: opened as `tally serve` opens it, driven by hand in one thread, until it dies, stops or is done.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use prometheus_client::registry::Registry;
use tally_capture::{Capture, CaptureMetrics, CaptureParts, CaptureSettings, Front, HashKey, LimitSettings, Limits};
use tally_journal::{DiskJournal, DiskOptions, Journal, JournalError, Stepped, Stepper, Stored};
use tally_model::Judged;
use tally_pipeline::{Committing, DedupOptions, Judging, Pipeline, PipelineError, PipelineMetrics, Progress};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::audit;
use crate::bug::Bug;
use crate::client::Client;
use crate::disk::SimDisk;
use crate::eager::EagerJournal;
use crate::lake::{SimLake, SimSink};
use crate::truth::Truth;
use crate::world::{Fate, World};

/// Virtual time after which a life that does not end is stuck.
const LIFE_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
pub struct Surroundings {
    pub world: Arc<World>,
    pub disk: SimDisk,
    pub lake: Arc<SimLake>,
    pub truth: Arc<Truth>,
}

/// Why a life ended, where nothing is wrong with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Killed, or stopped by a trouble that a restart is the cure for.
    Died,
    /// Everything was sent, it was told to stop, and drained.
    Done,
}

impl Surroundings {
    /// Lives until death, or until all clients are done and everything is committed.
    pub async fn live(&self, fate: Fate) -> Result<End> {
        self.world.begin_life(fate);
        self.lake.tables().late_arrived = false;
        let lived = tokio::select! {
            biased;
            () = self.world.death() => Ok(End::Died),
            lived = tokio::time::timeout(LIFE_MAX, self.run()) => lived.unwrap_or_else(|_| bail!("stuck: nothing ends it")),
        };
        // What failed because the process was dying is no finding.
        let ended = if self.world.is_dead() { Ok(End::Died) } else { lived };
        self.world.end_life();
        ended
    }

    async fn run(&self) -> Result<End> {
        let world = &self.world;
        let plan = &world.plan;
        let options = DiskOptions {
            segment_bytes: plan.segment_bytes,
            retain_bytes: plan.retain_bytes,
            queue_bytes_max: plan.queue_bytes_max,
            ..DiskOptions::on(Arc::new(self.disk.clone()), plan.partitions)
        };
        let (journal, stepper) = match DiskJournal::open_stepped(options) {
            Ok(opened) => opened,
            // The disk failed, or is full: somebody mends that and starts it again.
            Err(JournalError::Io { .. }) if plan.troubles.of_the_disk() && !world.is_calm() => {
                world.count("start failed on the disk");
                return Ok(End::Died);
            }
            Err(error) => bail!("the journal does not open: {error}"),
        };
        self.disk.undisturbed(|| self.check_what_is_there(journal.as_ref()))?;

        let door_journal: Arc<dyn Journal> = match world.bug {
            Some(Bug::AckBeforeFsync) => Arc::new(EagerJournal(journal.clone())),
            _ => journal.clone(),
        };
        let capture = Capture::new(CaptureParts {
            journal: door_journal,
            clock: world.clone(),
            entropy: world.clone(),
            key: HashKey::from_bytes([7; 32]),
            signing_keys: None,
            settings: CaptureSettings::default(),
            limits: Arc::new(Limits::new(&LimitSettings::default(), world.clone(), &mut Registry::default())),
            metrics: CaptureMetrics::register(&mut Registry::default()),
        })?;
        let door = Front::new(Arc::new(capture));

        let mut background = JoinSet::new();
        background.spawn(write(world.clone(), stepper));
        background.spawn(late_commit(world.clone(), self.lake.clone()));
        let mut pipeline = tokio::task::spawn_local(self.clone().process(journal.clone()));
        let mut clients = JoinSet::new();
        for number in 0..plan.clients {
            let (world, truth) = (world.clone(), self.truth.clone());
            clients.spawn(Client { number, world, truth, door: door.clone() }.run());
        }
        let stops_early = !world.is_calm() && world.chance.permille(plan.troubles.stop);
        let mut asked_to_stop = pin!(tokio::time::sleep(Duration::from_millis(world.chance.below(20_000))));

        loop {
            tokio::select! {
                biased;
                ended = &mut pipeline => {
                    return self.pipeline_ended(ended.context("the pipeline panicked")?, journal.as_ref());
                }
                Some(ended) = background.join_next(), if !background.is_empty() => ended.context("the journal panicked")?,
                client = clients.join_next(), if !clients.is_empty() => {
                    client.context("a client is there")?.context("a client panicked")??;
                    if clients.is_empty() {
                        journal.close();
                    }
                }
                () = &mut asked_to_stop, if stops_early && !clients.is_empty() => {
                    world.count("asked to stop");
                    // Senders get no answer any more, as when the listener's time to drain is over.
                    clients.abort_all();
                    while clients.join_next().await.is_some() {}
                    journal.close();
                }
            }
        }
    }

    fn pipeline_ended(&self, ended: Result<(), PipelineError>, journal: &DiskJournal) -> Result<End> {
        match ended {
            Ok(()) => {
                let committed = self.lake.tables().committed(self.world.plan.partitions);
                ensure!(committed == journal.end(), "it drained to {committed:?} of {:?}", journal.end());
                let is_done = self.truth.known().is_done(self.world.plan.clients, self.world.plan.requests);
                Ok(if is_done { End::Done } else { End::Died })
            }
            // A restart is the cure, where there was cause.
            Err(PipelineError::Journal(JournalError::Poisoned { cause })) => {
                let has_cause = self.world.plan.troubles.disk_error > 0 && !self.world.is_calm();
                ensure!(has_cause, "the journal stopped, and the disk was well: {cause}");
                self.world.count("journal poisoned");
                Ok(End::Died)
            }
            Err(PipelineError::Sink(cause)) if cause.contains("another process") => {
                ensure!(self.lake.tables().late_arrived, "fenced, and nobody else wrote");
                self.world.count("fenced by a late commit");
                Ok(End::Died)
            }
            Err(error) => bail!("the pipeline stopped: {error}"),
        }
    }

    fn check_what_is_there(&self, journal: &DiskJournal) -> Result<()> {
        let mut held: Vec<Stored> = Vec::new();
        let mut reader = journal.reader(&journal.start()).context("the journal cannot be read")?;
        loop {
            let some = reader.read(1_000, Duration::ZERO).context("the journal cannot be read")?;
            if some.is_empty() {
                break;
            }
            held.extend(some);
        }
        let tables = self.lake.tables();
        let committed = tables.committed(self.world.plan.partitions);
        ensure!(committed.covers(&journal.start()), "the journal let go of what is not committed");
        audit::after_restart(&self.world.plan, &tables, &held, &self.truth.known())
    }

    async fn process(self, journal: Arc<DiskJournal>) -> Result<(), PipelineError> {
        let pipeline = Pipeline {
            journal,
            sink: SimSink::new(self.world.clone(), self.lake.clone()),
            clock: self.world.clone(),
            settings: self.world.plan.pipeline,
            dedup: DedupOptions { folder: None, memory_bytes_max: u64::MAX, seed: self.world.plan.dedup_seed },
            metrics: PipelineMetrics::register(&mut Registry::default()),
            progress: watch::Sender::new(Progress::default()),
            urgency: Arc::default(),
        };
        let progress = pipeline.progress.subscribe();
        let (mut judging, mut committing): (Judging<Vec<Judged>>, Committing<SimSink>) = pipeline.start().await?;
        let (to_commit, mut batches) = mpsc::channel(1);
        let world = self.world.clone();
        let judging = async move {
            loop {
                match judging.step(Duration::ZERO) {
                    Ok(None) => {}
                    Ok(Some(due)) => {
                        if to_commit.send(due).await.is_err() {
                            return Ok(());
                        }
                    }
                    // As the judging thread does.
                    Err(PipelineError::Journal(JournalError::Io { .. })) => {
                        world.count("journal could not be read for a while");
                        world.sleep_ms(1_000, 1_000).await;
                    }
                    Err(error) => return Err(error),
                }
                world.sleep_ms(0, 20).await;
            }
        };
        let around = &self;
        // With its end of the channel, so that judging ends too where a commit cannot go on.
        let committing = async move {
            while let Some(mut due) = batches.recv().await {
                committing.commit(&mut due).await?;
                around.check_watermark(&progress);
            }
            Ok::<(), PipelineError>(())
        };
        let (judged, committed) = tokio::join!(judging, committing);
        committed?;
        match judged {
            Err(PipelineError::Journal(JournalError::Closed)) => Ok(()),
            other => other,
        }
    }

    /// Where the clock was set back, an earlier instant is told twice, and the promise is about the second.
    fn check_watermark(&self, progress: &watch::Receiver<Progress>) {
        if self.world.was_set_back() {
            return;
        }
        let watermark_us = progress.borrow().watermark_us;
        match audit::watermark(watermark_us, &self.lake.tables(), &self.truth.known()) {
            Ok(false) => {}
            Ok(true) => self.world.count("watermark held its promise"),
            Err(error) => self.world.found(error),
        }
    }
}

async fn write(world: Arc<World>, mut stepper: Stepper) {
    loop {
        match stepper.step() {
            Stepped::Ended => return,
            Stepped::Wrote => {
                let is_slow = world.plan.troubles.disk_slow_ms > 0 && world.trouble("disk is slow", 300);
                world.sleep_ms(0, if is_slow { world.plan.troubles.disk_slow_ms } else { 3 }).await;
            }
            Stepped::Idle => world.sleep_ms(1, 5).await,
        }
    }
}

async fn late_commit(world: Arc<World>, lake: Arc<SimLake>) {
    let within_ms = world.chance.one_of(&[1, 30, 300, 3_000]);
    world.sleep_ms(0, within_ms).await;
    lake.late_commit_arrives(&world);
}
