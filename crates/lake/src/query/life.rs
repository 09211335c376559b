//! The life of one event: every time it came in, what was made of it, and which cells and file hold it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};
#[allow(deprecated, reason = "its successor is a trait to implement, in a release that Delta does not take yet")]
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use serde_json::{Map, Value as Json, json};
use tally_model::{EventId, Fact, Grain, Life, LifeCell, LifeEvent, Reason, View, bucket_start_us};

use super::Queries;
use crate::error::{LakeError, Result};
use crate::events::{Columns, each_fact};
use crate::live_file::LiveFile;
use crate::store::SyncedStore;

/// Files that are searched at once.
const SEARCHES_MAX: usize = 8;

/// What is told of an event besides the columns with a place of their own.
const FIELDS: [&str; 31] = [
    "campaign_id",
    "ad_id",
    "placement_id",
    "publisher_id",
    "variant",
    "user_agent",
    "device",
    "os",
    "browser",
    "referrer",
    "country",
    "age_group",
    "gender",
    "currency",
    "click_id",
    "props",
    "subdivision",
    "purpose",
    "gdpr",
    "gdpr_consent",
    "gpp",
    "gpp_sid",
    "us_privacy",
    "gpc",
    "txn_id",
    "status",
    "cost_micros",
    "revenue_micros",
    "utc_offset_minutes",
    "x",
    "y",
];

impl Queries {
    /// Everything known of an id; no sightings where the lake has none.
    pub async fn life(&self, id: EventId) -> Result<Life> {
        let view = self.current();
        let store = SyncedStore::open();
        let mut sightings = Vec::new();
        let files = view.events.files.iter().cloned();
        let search = async |file: Arc<LiveFile>| -> Result<Vec<LifeEvent>> {
            let rows = rows_of(&store, &file, id).await?;
            rows.iter().map(|row| sighting(row, &file)).collect()
        };
        let mut searches = std::pin::pin!(futures::stream::iter(files.map(&search)).buffer_unordered(SEARCHES_MAX));
        while let Some(found) = searches.next().await {
            sightings.extend(found?);
        }
        sightings.sort_by_key(|sighting| (sighting.partition, sighting.offset));
        let mut counted_at = None;
        for sighting in &mut sightings {
            if sighting.reason.as_deref() == Some(Reason::SameId.as_str()) {
                sighting.duplicate_of_offset = counted_at;
            } else {
                counted_at = Some(sighting.offset);
            }
        }
        Ok(Life { event_id: id.to_string(), events_version: view.events_version(), sightings })
    }
}

/// The rows of a file that carry an id. Its Bloom filters say for most row groups, without reading them, that none does.
#[allow(deprecated, reason = "as above")]
pub(super) async fn rows_of(store: &Arc<dyn ObjectStore>, file: &LiveFile, id: EventId) -> Result<Vec<RecordBatch>> {
    let reader = ParquetObjectReader::new(store.clone(), file.scan.object_meta.location.clone());
    let reader = reader.with_file_size(file.size_bytes());
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let column = builder.parquet_schema().columns().iter().position(|column| column.name() == "event_id");
    let column =
        column.ok_or_else(|| LakeError::Damaged { what: "a data file has no column `event_id`".to_owned() })?;
    let mut groups = Vec::new();
    for group in 0..builder.metadata().num_row_groups() {
        let filter = builder.get_row_group_column_bloom_filter(group, column).await?;
        if filter.is_none_or(|filter| filter.check(id.as_bytes().as_slice())) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let ids_only = ProjectionMask::leaves(builder.parquet_schema(), [column]);
    let is_wanted = ArrowPredicateFn::new(ids_only, move |batch: RecordBatch| {
        let ids = batch.column(0).as_binary::<i32>();
        Ok(ids.iter().map(|stored| Some(stored == Some(id.as_bytes().as_slice()))).collect())
    });
    let rows = builder.with_row_groups(groups).with_row_filter(RowFilter::new(vec![Box::new(is_wanted)])).build()?;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    Ok(batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| batch.slice(at, 1))).collect())
}

fn sighting(row: &RecordBatch, file: &LiveFile) -> Result<LifeEvent> {
    let columns = Columns(row);
    let text = |name| columns.texts(name).map(|column| column.is_valid(0).then(|| column.value(0).to_owned()));
    let time = |name| columns.times(name).map(|column| time_text(column.value(0)));
    let region = file.partition_value("region").unwrap_or_default();
    let mut cells = Vec::new();
    each_fact(row, region, &mut |fact| cells = cells_of(fact))?;
    let mut fields: Map<String, Json> =
        FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), json_of(row, name)?))).collect();
    fields.insert("region".to_owned(), json!(region));
    Ok(LifeEvent {
        partition: columns.column("partition")?.as_primitive::<Int32Type>().value(0),
        offset: columns.numbers("offset")?.value(0),
        received_at: time("received_at")?,
        occurred_at: time("occurred_at")?,
        kind: text("kind")?.unwrap_or_default(),
        verdict: text("verdict")?.unwrap_or_default(),
        reason: text("reason")?,
        duplicate_of_offset: None,
        file: format!("events/{}", file.path()),
        fields,
        cells,
    })
}

fn cells_of(fact: &Fact<'_>) -> Vec<LifeCell> {
    let mut cells = Vec::new();
    for view in View::ALL {
        let mut values = Map::from_iter([("campaign_id".to_owned(), json!(fact.campaign_id))]);
        let own = view.own_dimensions().iter().zip(fact.values(view));
        values.extend(own.map(|(dimension, value)| (dimension.as_str().to_owned(), json!(value))));
        values.insert("currency".to_owned(), json!(fact.currency));
        for grain in Grain::ALL {
            let bucket = time_text(bucket_start_us(grain, fact.occurred_at_us));
            let rollup = format!("{}_{}", view.as_str(), grain.as_str());
            cells.push(LifeCell { rollup, bucket, values: values.clone() });
        }
    }
    cells
}

fn json_of(row: &RecordBatch, name: &str) -> Option<Json> {
    use arrow::datatypes::{Float32Type, Int16Type, Int64Type};
    let column = row.column_by_name(name).filter(|column| column.is_valid(0))?;
    column
        .as_string_opt::<i32>()
        .map(|texts| json!(texts.value(0)))
        .or_else(|| column.as_boolean_opt().map(|flags| json!(flags.value(0))))
        .or_else(|| column.as_primitive_opt::<Int64Type>().map(|numbers| json!(numbers.value(0))))
        .or_else(|| column.as_primitive_opt::<Int16Type>().map(|numbers| json!(numbers.value(0))))
        .or_else(|| column.as_primitive_opt::<Float32Type>().map(|numbers| json!(numbers.value(0))))
}

pub(super) fn time_text(at_us: i64) -> String {
    Timestamp::from_microsecond(at_us).unwrap_or_default().to_string()
}
