//! After a commit, has the reports that are asked again and again found out anew.

use std::sync::Arc;
use std::time::Duration;

use tally_api::Api;
use tally_pipeline::Progress;
use tokio::sync::watch;

/// Commits come faster than anybody looks at a report.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(api: Arc<Api>, mut progress: watch::Receiver<Progress>) {
    while progress.changed().await.is_ok() {
        api.warm().await;
        tokio::time::sleep(AT_MOST_EVERY).await;
    }
}
