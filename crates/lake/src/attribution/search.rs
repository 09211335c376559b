//! Finding clicks: the rows of `events` files that are wanted, with as few bytes read as can be.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
#[allow(deprecated, reason = "its successor is a trait to implement, in a release that Delta does not take yet")]
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use tally_model::{AttributionWindows, Class, EventId, Kind, persons_touch_fits};

use super::rows::{Conversion, EVENT_COLUMNS, Row, Touch, row};
use crate::error::{LakeError, Result};
use crate::events::Columns;
use crate::live_file::LiveFile;
use crate::query::{Queries, day, time};
use crate::schema::EVENTS_PARTITION_COLUMNS;
use crate::table::TableVersion;

/// Files that are searched at once: work that nobody waits for.
const SEARCHES_MAX: usize = 2;
/// People that are looked for in one scan: it takes as long for many as for few.
const PEOPLE_MAX: usize = 10_000;
/// How far the time in an id may be from the time of receipt: it is the same where the id was made by capture.
const ID_TIME_US: i64 = 1_000;

/// What a search cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Searched {
    /// Files that were looked into.
    pub files: u64,
    /// Row groups of them that were read, since their Bloom filter could not rule them out.
    pub row_groups: u64,
}

impl Searched {
    pub fn add(&mut self, other: Searched) {
        self.files += other.files;
        self.row_groups += other.row_groups;
    }
}

/// Which rows of a file are wanted, by some of its columns.
pub(super) type Test = dyn Fn(&RecordBatch) -> std::result::Result<BooleanArray, ArrowError> + Send + Sync;

/// The rows of a file that pass a test, with [`EVENT_COLUMNS`]. Of the others, only the columns of the test are read; of row
/// groups whose Bloom filter says that they have none of these ids, nothing.
#[allow(deprecated, reason = "as above")]
pub(super) async fn rows_that(
    store: &Arc<dyn ObjectStore>,
    file: &LiveFile,
    tested: &[&str],
    test: Arc<Test>,
    ids: Option<&[EventId]>,
) -> Result<(Vec<RecordBatch>, Searched)> {
    let mut searched = Searched { files: 1, row_groups: 0 };
    let reader = ParquetObjectReader::new(store.clone(), Path::from(file.path()));
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader.with_file_size(file.size_bytes())).await?;
    let mut groups: Vec<usize> = (0..builder.metadata().num_row_groups()).collect();
    if let Some(ids) = ids {
        let column = builder.parquet_schema().columns().iter().position(|column| column.name() == "event_id");
        let column =
            column.ok_or_else(|| LakeError::Damaged { what: "a data file has no column `event_id`".to_owned() })?;
        let mut possible = Vec::new();
        for group in groups {
            let filter = builder.get_row_group_column_bloom_filter(group, column).await?;
            let may_hold = |id: &EventId| filter.as_ref().is_none_or(|filter| filter.check(id.as_bytes().as_slice()));
            if ids.iter().any(may_hold) {
                possible.push(group);
            }
        }
        groups = possible;
    }
    searched.row_groups = groups.len() as u64;
    if groups.is_empty() {
        return Ok((Vec::new(), searched));
    }
    let tested = ProjectionMask::columns(builder.parquet_schema(), tested.iter().copied());
    let columns = ProjectionMask::columns(builder.parquet_schema(), EVENT_COLUMNS);
    let predicate = ArrowPredicateFn::new(tested, move |batch: RecordBatch| test(&batch));
    let filter = RowFilter::new(vec![Box::new(predicate)]);
    let rows = builder.with_row_groups(groups).with_projection(columns).with_row_filter(filter).build()?;
    Ok((rows.try_collect().await?, searched))
}

/// The clicks of these ids, each the first of its id. An id of version 7 says when it was made: files that hold what was
/// received then are looked into first, and for the ids that are not there all that may hold a click within the window.
pub(super) async fn clicks(
    store: &Arc<dyn ObjectStore>,
    events: &TableVersion,
    conversions: &[Conversion],
    windows: AttributionWindows,
) -> Result<(HashMap<EventId, Touch>, Searched)> {
    let mut found = HashMap::new();
    let mut searched = Searched::default();
    let wanted: HashMap<EventId, (i64, i64)> = wanted(conversions, windows);
    for by_id_time in [true, false] {
        let mut by_file: Vec<(Arc<LiveFile>, Vec<EventId>)> = Vec::new();
        for file in events.files.iter() {
            let received = received(file);
            let may_hold = |(id, window): (&EventId, &(i64, i64))| {
                let range = match made_at_us(*id) {
                    Some(at_us) if by_id_time => (at_us - ID_TIME_US, at_us + ID_TIME_US),
                    None if by_id_time => return None,
                    _ => *window,
                };
                let overlaps = received.0 <= range.1 && received.1 >= range.0;
                (overlaps && !found.contains_key(id)).then_some(*id)
            };
            let ids: Vec<EventId> = wanted.iter().filter_map(may_hold).collect();
            if !ids.is_empty() {
                by_file.push((file.clone(), ids));
            }
        }
        let search = async |(file, ids): (Arc<LiveFile>, Vec<EventId>)| -> Result<_> {
            let listed: HashSet<EventId> = ids.iter().copied().collect();
            let test = move |batch: &RecordBatch| {
                let ids = batch.column(0).as_binary::<i32>();
                let is_listed = |id: Option<&[u8]>| {
                    id.and_then(|id| EventId::from_slice(id).ok()).is_some_and(|id| listed.contains(&id))
                };
                Ok(ids.iter().map(|id| Some(is_listed(id))).collect::<BooleanArray>())
            };
            let (rows, cost) = rows_that(store, &file, &["event_id"], Arc::new(test), Some(&ids)).await?;
            Ok((file, rows, cost))
        };
        let searches = futures::stream::iter(by_file.into_iter().map(search)).buffer_unordered(SEARCHES_MAX);
        let results: Vec<_> = searches.try_collect().await?;
        for (file, batches, cost) in results {
            searched.add(cost);
            each_row(&batches, &file, |row| {
                if let Row::Touch(touch) = row {
                    keep_first(&mut found, touch);
                }
            })?;
        }
    }
    Ok((found, searched))
}

/// Of an id that was remembered twice, a time to live apart, the first is the click.
pub(super) fn keep_first(found: &mut HashMap<EventId, Touch>, touch: Touch) {
    let known = found.get(&touch.event_id);
    if touch.kind == Kind::Click && known.is_none_or(|known| touch.received_at_us < known.received_at_us) {
        found.insert(touch.event_id, touch);
    }
}

pub(super) fn each_row(batches: &[RecordBatch], file: &LiveFile, mut each: impl FnMut(Row)) -> Result<()> {
    let region = file.partition_value("region").unwrap_or_default();
    for batch in batches {
        for at in 0..batch.num_rows() {
            each(row(batch, region, at)?);
        }
    }
    Ok(())
}

/// The clicks that are named, and when they can have been received.
fn wanted(conversions: &[Conversion], windows: AttributionWindows) -> HashMap<EventId, (i64, i64)> {
    let mut wanted: HashMap<EventId, (i64, i64)> = HashMap::new();
    for conversion in conversions {
        let Some(id) = conversion.named_click() else { continue };
        // A click is received when it occurs or later; how much later than its conversion, the window says.
        let from_us = conversion.occurred_at_us.saturating_sub(windows.click_us);
        let to_us = conversion.received_at_us.saturating_add(windows.click_us);
        let range = wanted.entry(id).or_insert((from_us, to_us));
        *range = (range.0.min(from_us), range.1.max(to_us));
    }
    wanted
}

/// When an id of version 7 says that it was made.
fn made_at_us(id: EventId) -> Option<i64> {
    let (s, ns) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    i64::try_from(s).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(ns / 1_000))
}

/// The first and last time of receipt in a file; without statistics, any.
fn received(file: &LiveFile) -> (i64, i64) {
    (file.oldest_us("received_at").unwrap_or(i64::MIN), file.newest_us("received_at").unwrap_or(i64::MAX))
}

/// For each conversion of a known person that something of this kind brought, the last of those, by the conversion's place in
/// the list.
pub(super) async fn last_of_people(
    queries: &Queries,
    events: &TableVersion,
    conversions: &[&Conversion],
    kind: Kind,
    windows: AttributionWindows,
) -> Result<HashMap<usize, Touch>> {
    let mut last: HashMap<usize, Touch> = HashMap::new();
    let mut places: HashMap<i64, Vec<usize>> = HashMap::new();
    for (place, conversion) in conversions.iter().enumerate() {
        places.entry(conversion.user_hash.unwrap_or_default()).or_default().push(place);
    }
    let people: Vec<i64> = places.keys().copied().collect();
    for people in people.chunks(PEOPLE_MAX) {
        let theirs = || people.iter().flat_map(|person| &places[person]).map(|place| conversions[*place]);
        let from_us = theirs().map(|conversion| conversion.occurred_at_us).min().unwrap_or(0) - windows.after(kind);
        let to_us = theirs().map(|conversion| conversion.occurred_at_us).max().unwrap_or(0);
        let is_theirs = ident("user_hash").in_list(people.iter().map(|person| lit(*person)).collect(), false);
        let rows = queries.table(events, &EVENTS_PARTITION_COLUMNS)?.filter(
            ident("event_date")
                .gt_eq(day(from_us))
                .and(ident("event_date").lt_eq(day(to_us)))
                .and(ident("occurred_at").gt_eq(time(from_us)))
                .and(ident("occurred_at").lt_eq(time(to_us)))
                .and(ident("kind").eq(lit(kind.as_str())))
                .and(ident("verdict").eq(lit(Class::Counted.as_str())))
                .and(is_theirs),
        )?;
        let columns: Vec<Expr> = EVENT_COLUMNS.into_iter().chain(["region"]).map(ident).collect();
        let mut stream = rows.select(columns)?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let columns = Columns(&batch);
            let regions = columns.texts("region")?;
            for at in 0..batch.num_rows() {
                let Row::Touch(touch) = row(&batch, regions.value(at), at)? else { continue };
                for place in places.get(&touch.user_hash.unwrap_or_default()).into_iter().flatten() {
                    let is_later = |known: &Touch| rank(&touch) > rank(known);
                    if persons_touch_fits(&conversions[*place].converted(), &touch.touched(), windows)
                        && last.get(place).is_none_or(is_later)
                    {
                        last.insert(*place, touch.clone());
                    }
                }
            }
        }
    }
    Ok(last)
}

/// The later one; of two at one moment always the same.
fn rank(touch: &Touch) -> (i64, i64, EventId) {
    (touch.occurred_at_us, touch.received_at_us, touch.event_id)
}
