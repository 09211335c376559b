//! Threads for what computes long, statements and questions over raw events, so that however long that is, no click and no
//! report from rollups waits for it.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, JoinHandle};

use crate::error::{Doing, LakeError, Result};

/// Threads for work that blocks (files, compression, merging), for each core and at the least. Each keeps memory of its own for as long
/// as it lives: without a bound there were 90 of them under load, with two thirds more memory and a fifth more CPU time an event
/// (docs/performance.md).
const BLOCKING_A_CORE: usize = 6;
const BLOCKING_MIN: usize = 12;

/// How many threads for work that blocks a runtime may have.
pub fn blocking_threads() -> usize {
    BLOCKING_MIN.max(cores() * BLOCKING_A_CORE)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// As many as there are cores. Cheap to clone; they end with the last clone.
#[derive(Clone)]
pub struct Threads(Arc<Ends>);

/// Taken when the threads go.
struct Ends(Option<Runtime>);

impl Threads {
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(Self::count())
            .max_blocking_threads(blocking_threads())
            .thread_name("tally-questions")
            .enable_all()
            .build()
            .map_err(|error| LakeError::Retry { doing: "start the threads of questions", cause: error.to_string() })?;
        Ok(Self(Arc::new(Ends(Some(runtime)))))
    }

    pub(crate) fn count() -> usize {
        cores()
    }

    /// Nothing, while they end.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        self.0.0.as_ref().map(|runtime| runtime.spawn(work))
    }

    /// Does it there, and stops it when nobody waits for it any more.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let ending = || LakeError::Retry { doing: "answer", cause: "the server stops".to_owned() };
        let running = self.spawn(work).ok_or_else(ending)?;
        let _stops = AbortOnDrop(running.abort_handle());
        running.await.doing("answer")?
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waits for nobody: this may run on a thread that must not block.
            runtime.shutdown_background();
        }
    }
}
