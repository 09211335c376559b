//! The threads that serve connections: one a core, each with a runtime of its own, so that a request is read, answered and
//! written on one core. They serve nothing else: questions and the lake have other threads, and cannot take these.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a worker may do aside: taking batches apart is work for a core, and there are as many workers as cores.
const ASIDE_THREADS_MAX: usize = 2;

/// One at least.
pub(super) struct Workers(Worker, Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Counts, by its clones, what runs there.
    load: Arc<()>,
    /// Ends the thread when dropped.
    _ends: oneshot::Sender<()>,
}

impl Workers {
    /// `prepare` runs on each thread, within its runtime.
    pub fn start(prepare: fn()) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |nth| Worker::start(nth, prepare).context("cannot start the threads that serve connections");
        Ok(Self(start(0)?, (1..cores).map(start).collect::<Result<_>>()?))
    }

    /// Runs where least does so far.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let worker = self.least_busy();
        let load = Arc::clone(&worker.load);
        worker.runtime.spawn(async move {
            work.await;
            drop(load);
        })
    }

    /// Makes something that belongs to the runtime where the next work is spawned.
    pub fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _within = self.least_busy().runtime.enter();
        make()
    }

    fn least_busy(&self) -> &Worker {
        let Self(first, others) = self;
        others.iter().fold(first, |least, worker| if worker.load() < least.load() { worker } else { least })
    }
}

impl Worker {
    fn start(nth: usize, prepare: fn()) -> io::Result<Self> {
        // Those aside are started by the runtime; the one that serves is not.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(ASIDE_THREADS_MAX)
            .on_thread_start(tally_lake::step_back)
            .build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("tally-door-{nth}")).spawn(move || {
            runtime.block_on(async {
                prepare();
                let _ = ended.await;
            });
            // What is not answered by now is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), _ends: ends })
    }

    fn load(&self) -> usize {
        Arc::strong_count(&self.load)
    }
}
