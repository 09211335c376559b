//! When to look at files that may have changed: every so often, and at once on SIGHUP, as operators expect.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) struct Looking {
    every: Duration,
    /// None where the system has no place for a handler; then only time tells.
    hangup: Option<Signal>,
}

impl Looking {
    pub fn every(every: Duration) -> Self {
        Self { every, hangup: signal(SignalKind::hangup()).ok() }
    }

    /// Waits until it is time to look again.
    pub async fn next(&mut self) {
        let pause = tokio::time::sleep(self.every);
        match &mut self.hangup {
            Some(hangup) => {
                tokio::select! {
                    () = pause => {}
                    _ = hangup.recv() => {}
                }
            }
            None => pause.await,
        }
    }
}
