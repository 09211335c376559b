//! One runtime for all requests, on the thread that asks: nothing of it is on trial.

use std::sync::OnceLock;

use tokio::runtime::{self, Runtime};

pub fn block_on<F: Future>(work: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs no resources");
    RUNTIME.get_or_init(build).block_on(work)
}
