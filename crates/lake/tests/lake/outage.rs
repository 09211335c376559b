//! A store that is away for a while: what fails meanwhile succeeds once it is back, by nothing but being tried again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tally_lake::{EventRows, Lake, LakeError};
use tally_model::{Device, Event, Judged, Kind, ManualClock, Positions, Verdict};
use tally_pipeline::RollupBuilder;
use uuid::Uuid;

const T0_US: i64 = 1_700_000_000_000_000;
/// After so many commits a table is loaded anew, which then is one of the steps.
const CALM_COMMITS: u64 = 50;
const COMMITS: u64 = 53;
/// More than a commit makes, with the library's own retries.
const CALLS_MAX: i64 = 400;

/// A local store that goes away after some calls, as one does for a process that runs out of file descriptors.
#[derive(Debug)]
struct Fickle {
    files: LocalFileSystem,
    calls_left: AtomicI64,
}

impl Fickle {
    fn go_away_after(&self, calls: i64) {
        self.calls_left.store(calls, Ordering::SeqCst);
    }

    fn call(&self) -> Result<()> {
        match self.calls_left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Ok(()),
            _ => Err(object_store::Error::Generic { store: "fickle", source: "away".into() }),
        }
    }
}

impl fmt::Display for Fickle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fickle")
    }
}

#[async_trait]
impl ObjectStore for Fickle {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.call()?;
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.call()?;
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.files.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.files.list_with_offset(prefix, offset),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call()?;
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call()?;
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.call()?;
        self.files.rename_opts(from, to, options).await
    }
}

fn click(offset: u64) -> Judged {
    let at_us = T0_US + offset as i64 * 1_000_000;
    let event = Event::new(Uuid::from_u128(u128::from(offset)), Kind::Click, at_us, "c", "a");
    let judged_at_s = at_us / 1_000_000;
    Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict: Verdict::Counted }
}

/// Tries again until it is in, with a store that goes away after the first so many calls, and each time one later.
async fn through_outages<T>(
    store: &Fickle,
    first: i64,
    mut commit: impl AsyncFnMut() -> std::result::Result<T, LakeError>,
) -> T {
    let mut failed = String::new();
    for calls in first..CALLS_MAX {
        store.go_away_after(calls);
        match commit().await {
            Ok(done) => return done,
            Err(LakeError::Retry { doing, cause }) => failed = format!("cannot {doing}: {cause}"),
            Err(error) => panic!("an outage is taken for more than that: {error}"),
        }
    }
    panic!("it never gets in, though the store is back: {failed}");
}

#[tokio::test]
async fn a_commit_that_finds_the_store_away_at_any_step_gets_in_once_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Fickle { files: LocalFileSystem::new(), calls_left: AtomicI64::new(i64::MAX) });
    let lake = Lake::open_on(store.clone(), folder.path(), 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
    for offset in 0..COMMITS {
        let rows = [click(offset)];
        let calls = if offset < CALM_COMMITS { CALLS_MAX - 1 } else { 0 };
        let (from, upto) = (Positions::from_offsets(vec![offset]), Positions::from_offsets(vec![offset + 1]));
        let version = through_outages(&store, calls, async || {
            lake.commit_events(&mut EventRows::from_iter(&rows), &from, &upto).await
        })
        .await;
        let mut rollups = RollupBuilder::default();
        rollups.add(&rows[0].fact());
        let cells = rollups.finish();
        through_outages(&store, calls, async || lake.commit_cells(version, &cells).await).await;
    }
    store.go_away_after(i64::MAX);
    let report = lake.queries().check(true, 86_400).await.unwrap();
    assert!(report.holds(), "{:#?}", report.found.differences);
    assert_eq!(report.received, COMMITS);
}
