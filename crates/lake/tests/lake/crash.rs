//! Kills between every two steps: the store stops at its n-th write, once before and once after that write takes effect, for
//! every n; what a restart then makes of it must be whole.

use std::fmt;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tally_lake::{CompactionSettings, EventRows, Lake, LakeError};
use tally_model::{
    AttributionWindows, ConversionFilter, Days, Device, Event, Judged, Kind, ManualClock, Page, Positions,
    RebuildReport, Region, Verdict,
};
use tally_pipeline::RollupBuilder;
use uuid::{Builder, Uuid};

use crate::common::commit;

const T0_US: i64 = 1_700_000_000_000_000;
const DAY_US: i64 = 86_400_000_000;
const EVENTS: u64 = 24;
const BATCH: u64 = 8;

/// A local store that dies at a write, as a killed process does: nothing after that has any effect.
#[derive(Debug)]
struct Fuse {
    files: LocalFileSystem,
    writes_left: AtomicI64,
    takes_effect: bool,
}

impl Fuse {
    fn new(writes: i64, takes_effect: bool) -> Arc<Self> {
        Arc::new(Self { files: LocalFileSystem::new(), writes_left: AtomicI64::new(writes), takes_effect })
    }

    fn blew(&self) -> bool {
        self.writes_left.load(Ordering::SeqCst) < 0
    }

    /// Whether this write still happens, and whether its answer still arrives.
    fn write(&self) -> (bool, bool) {
        let left = self.writes_left.fetch_sub(1, Ordering::SeqCst) - 1;
        (left >= 0 || (left == -1 && self.takes_effect), left >= 0)
    }
}

fn killed<T>() -> Result<T> {
    Err(object_store::Error::Generic { store: "fuse", source: "killed".into() })
}

impl fmt::Display for Fuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fuse")
    }
}

#[async_trait]
impl ObjectStore for Fuse {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (happens, is_told) = self.write();
        let result = if happens { self.files.put_opts(location, payload, opts).await } else { killed() };
        if is_told { result } else { killed() }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if self.write().1 { self.files.put_multipart_opts(location, opts).await } else { killed() }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.blew() { killed() } else { self.files.get_opts(location, options).await }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if self.blew() { killed() } else { self.files.list_with_delimiter(prefix).await }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if self.write().1 { self.files.copy_opts(from, to, options).await } else { killed() }
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if self.write().1 { self.files.rename_opts(from, to, options).await } else { killed() }
    }
}

fn log(from: u64, upto: u64) -> Vec<Judged> {
    (from..upto)
        .map(|offset| {
            let at_us = T0_US + offset as i64 * 40_000_000;
            let mut event = Event::new(Uuid::from_u128(u128::from(offset)), Kind::Click, at_us, "c", "a");
            event.region = if offset % 2 == 0 { Region::Eu } else { Region::Na };
            event.cost_micros = 10;
            Judged {
                partition: 0,
                offset,
                judged_at_s: at_us / 1_000_000,
                event,
                device: Device::NONE,
                verdict: Verdict::Counted,
            }
        })
        .collect()
}

/// What the pipeline does from a start on: catch up, commit the rest of the log batch by batch; and compact in between.
async fn run(store: Arc<dyn ObjectStore>, folder: &FsPath) -> std::result::Result<Lake, LakeError> {
    let lake = Lake::open_on(store, folder, 1, Arc::new(ManualClock::at_us(T0_US))).await?;
    for version in lake.versions_to_count().await? {
        let mut rollups = RollupBuilder::default();
        lake.facts(version, &mut |fact| rollups.add(fact)).await?;
        lake.commit_cells(version, &rollups.finish()).await?;
    }
    let mut from = lake.committed().await?.next(0);
    while from < EVENTS {
        let upto = (from + BATCH).min(EVENTS);
        let rows = log(from, upto);
        let (before, after) = (Positions::from_offsets(vec![from]), Positions::from_offsets(vec![upto]));
        let version = lake.commit_events(&mut EventRows::from_iter(&rows), &before, &after).await?;
        let mut rollups = RollupBuilder::default();
        rows.iter().for_each(|row| rollups.add(&row.fact()));
        lake.commit_cells(version, &rollups.finish()).await?;
        lake.compact(CompactionSettings { files_min: 2, rows_max: 10_000 }).await?;
        from = upto;
    }
    Ok(lake)
}

#[tokio::test]
async fn a_kill_between_any_two_steps_loses_nothing_and_doubles_nothing() {
    let mut kills = 0;
    for takes_effect in [false, true] {
        for writes in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let fuse = Fuse::new(writes, takes_effect);
            let first = run(fuse.clone(), folder.path()).await;
            if first.is_ok() && !fuse.blew() {
                break;
            }
            kills += 1;
            let lake = run(Fuse::new(i64::MAX, false), folder.path()).await;
            let lake = lake.unwrap_or_else(|error| panic!("killed at write {writes} ({takes_effect}): {error}"));
            let report = lake.queries().check(true, 86_400).await.unwrap();
            assert!(report.holds(), "killed at write {writes} ({takes_effect}): {:#?}", report.found.differences);
            assert_eq!(
                (report.received, report.kinds["click"].counted),
                (EVENTS, EVENTS as i64),
                "killed at write {writes}"
            );
        }
    }
    assert!(kills > 40, "only {kills} kills: the run has more steps than that");
}

/// A lake whose rollups lack one event of the last batch.
async fn damaged(folder: &FsPath) {
    let lake = Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
    for from in (0..EVENTS).step_by(BATCH as usize) {
        let rows = log(from, from + BATCH);
        let (before, after) = (Positions::from_offsets(vec![from]), Positions::from_offsets(vec![from + BATCH]));
        let version = lake.commit_events(&mut EventRows::from_iter(&rows), &before, &after).await.unwrap();
        let mut rollups = RollupBuilder::default();
        rows.iter().filter(|row| row.offset + 1 < EVENTS).for_each(|row| rollups.add(&row.fact()));
        lake.commit_cells(version, &rollups.finish()).await.unwrap();
    }
}

fn copy(from: &FsPath, to: &FsPath) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn rebuild(store: Arc<dyn ObjectStore>, folder: &FsPath) -> std::result::Result<RebuildReport, LakeError> {
    let lake = Lake::open_on(store, folder, 1, Arc::new(ManualClock::at_us(T0_US))).await?;
    let mut rebuild = lake.rebuild(Days::of(T0_US)).await?;
    for day in rebuild.days() {
        let mut rollups = RollupBuilder::default();
        rebuild.facts(day, &mut |fact| rollups.add(fact)).await?;
        rebuild.count(day, &[rollups.finish()]).await?;
    }
    rebuild.commit().await
}

#[tokio::test]
async fn a_kill_at_any_write_of_a_rebuild_leaves_the_figures_as_they_were_or_as_they_should_be() {
    let (mut kills, mut mended) = (0, 0);
    let before = tempfile::tempdir().unwrap();
    damaged(before.path()).await;
    for takes_effect in [false, true] {
        for writes in 0.. {
            let folder = tempfile::tempdir().unwrap();
            copy(before.path(), folder.path());
            let fuse = Fuse::new(writes, takes_effect);
            let first = rebuild(fuse.clone(), folder.path()).await;
            if let Ok(report) = first
                && !fuse.blew()
            {
                assert!(report.replaced);
                break;
            }
            kills += 1;
            let lake = Lake::open(folder.path(), 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
            let found = lake.queries().check(true, 86_400).await.unwrap().found;
            // One click and its cost in all 16 rollups, as totals and as cells: all of them, or none.
            assert!(
                [0, 64].contains(&found.differences_total),
                "killed at write {writes} ({takes_effect}): {found:#?}"
            );
            mended += usize::from(found.differences_total == 0);
            let again = rebuild(Fuse::new(i64::MAX, false), folder.path()).await.unwrap();
            assert_eq!(again.replaced, found.differences_total > 0);
            let lake = Lake::open(folder.path(), 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
            let report = lake.queries().check(true, 86_400).await.unwrap();
            assert!(report.holds(), "killed at write {writes} ({takes_effect}): {:#?}", report.found);
        }
    }
    assert!(
        kills > 20 && mended > 0,
        "{kills} kills, {mended} of them after the commit: there are more steps than that"
    );
}

fn clicked(at_us: i64, n: u8) -> Event {
    let id = Builder::from_unix_timestamp_millis((at_us / 1_000) as u64, &[n; 10]).into_uuid();
    Event::new(id, Kind::Click, at_us, "spring", "ad")
}

fn converted(id: u128, click: &Event, at_us: i64) -> Event {
    let mut event = Event::new(Uuid::from_u128(id), Kind::Conversion, at_us, "", "");
    event.click_id = Some(click.id.to_string());
    event.revenue_micros = 5_000_000;
    event
}

/// What somebody does who was just started, until all is taken up; and the conversions as they are told then.
async fn attribute(store: Arc<dyn ObjectStore>, folder: &FsPath) -> std::result::Result<Vec<String>, LakeError> {
    let lake = Lake::open_on(store, folder, 1, Arc::new(ManualClock::at_us(T0_US + DAY_US))).await?;
    let mut attributor = lake.attributor(AttributionWindows::of_days(30, 1)).await?;
    while !attributor.round(&lake.view()).await?.is_level {}
    let page = Page { limit: 100, after: None };
    let told = lake.queries().conversions(&ConversionFilter::default(), page).await?.rows;
    let mut told: Vec<String> = told
        .iter()
        .map(|row| format!("{} {} {:?} {:?}", row.event_id, row.resolution, row.touch_id, row.campaign_id))
        .collect();
    told.sort();
    Ok(told)
}

#[tokio::test]
async fn a_kill_at_any_write_of_attribution_leaves_each_conversion_attributed_once() {
    let before = tempfile::tempdir().unwrap();
    let clicks: Vec<Event> = (0..3).map(|n| clicked(T0_US + i64::from(n) * 60_000_000, n)).collect();
    let later_us = T0_US + 3_600_000_000;
    {
        let lake = Lake::open(before.path(), 1, Arc::new(ManualClock::at_us(T0_US + DAY_US))).await.unwrap();
        commit(&lake, vec![clicks[0].clone(), clicks[1].clone(), converted(1, &clicks[0], later_us)]).await;
        commit(&lake, vec![converted(2, &clicks[2], later_us)]).await;
    }
    // One is attributed, one waits for its click, which comes now, with one more.
    let told = attribute(Fuse::new(i64::MAX, false), before.path()).await.unwrap();
    assert_eq!(told.iter().filter(|row| row.contains("unresolved")).count(), 1, "{told:?}");
    {
        let lake = Lake::open(before.path(), 1, Arc::new(ManualClock::at_us(T0_US + DAY_US))).await.unwrap();
        commit(&lake, vec![clicks[2].clone(), converted(3, &clicks[1], later_us)]).await;
    }
    let undisturbed = tempfile::tempdir().unwrap();
    copy(before.path(), undisturbed.path());
    let expected = attribute(Fuse::new(i64::MAX, false), undisturbed.path()).await.unwrap();
    assert!(expected.len() == 3 && expected.iter().all(|row| row.contains("spring")), "{expected:?}");

    let mut kills = 0;
    for takes_effect in [false, true] {
        for writes in 0.. {
            let folder = tempfile::tempdir().unwrap();
            copy(before.path(), folder.path());
            let fuse = Fuse::new(writes, takes_effect);
            let first = attribute(fuse.clone(), folder.path()).await;
            if first.is_ok() && !fuse.blew() {
                break;
            }
            kills += 1;
            let told = attribute(Fuse::new(i64::MAX, false), folder.path()).await;
            let told = told.unwrap_or_else(|error| panic!("killed at write {writes} ({takes_effect}): {error}"));
            assert_eq!(told, expected, "killed at write {writes} ({takes_effect})");
        }
    }
    assert!(kills >= 4, "only {kills} kills: attribution has more steps than that");
}
