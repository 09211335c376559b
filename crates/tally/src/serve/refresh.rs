//! Has capture look at the files that may change under it: signing keys that are rotated, and the like.

use std::sync::Arc;
use std::time::Duration;

use tally_capture::Capture;

use super::looking::Looking;

/// How long a changed file may go unnoticed. A look at it costs one question to the file system.
const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(capture: Arc<Capture>) {
    let mut looking = Looking::every(EVERY);
    loop {
        looking.next().await;
        let capture = capture.clone();
        // A large file takes a while to read, and no request should wait for that.
        let refreshing = tokio::task::spawn_blocking(move || capture.refresh());
        if refreshing.await.is_err() {
            tracing::error!("looking at changed files failed; it is tried again");
        }
    }
}
