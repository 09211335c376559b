//! Threads for what computes long, statements and questions over raw events, so that however long that is, no click and no
//! report from rollups waits for it.

use std::future::Future;
use std::sync::Arc;

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
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

/// Of 0 to 99, where 49 is what threads begin with: a niceness of 10, with which a thread gets a tenth of what one that serves
/// connections gets where both want the processor, and all of it where only one does.
const BACKGROUND: u8 = 22;

/// From now on this thread, and each that it starts, leaves the processor to those that serve connections and write the journal. A
/// commit or a compaction wants all cores for a moment, and a click would wait for it (docs/performance.md).
pub fn step_back() {
    let priority = ThreadPriorityValue::try_from(BACKGROUND).map(ThreadPriority::Crossplatform);
    // Refused only where the whole process runs at less already, as somebody wanted it (and never to root).
    let _ = priority.map(set_current_thread_priority);
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
            .on_thread_start(step_back)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, behind_name) = stat.rsplit_once(") ").unwrap();
        behind_name.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_steps_back_does_so_with_those_that_it_starts_and_no_other() {
        let before = niceness();
        let stepped_back = std::thread::spawn(|| {
            step_back();
            (niceness(), std::thread::spawn(niceness).join().unwrap())
        });
        let (own, of_another) = stepped_back.join().unwrap();
        // Whoever runs the tests at less has no right to more.
        assert!((10..=before.max(10)).contains(&own), "{own}");
        assert_eq!(own, of_another);
        assert_eq!(niceness(), before);
    }
}
