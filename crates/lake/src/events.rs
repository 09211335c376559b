//! How `events` is written, and its rows as what the pipeline asks for.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use jiff::Timestamp;
use tally_model::{Class, EventId, Fact, Kind, Partition, Reason};

use crate::error::{LakeError, Result};
use crate::layout::{FileLayout, ZSTD_LEVEL};
use crate::schema::EVENTS_STATISTICS;

pub(crate) const SECOND_US: i64 = 1_000_000;

pub(crate) const EVENTS_LAYOUT: FileLayout = FileLayout {
    zstd_level: ZSTD_LEVEL,
    statistics: &EVENTS_STATISTICS,
    few_values: &[
        "kind",
        "utc_offset_minutes",
        "partition",
        "verdict",
        "reason",
        "variant",
        "device",
        "os",
        "browser",
        "country",
        "age_group",
        "gender",
        "currency",
        "purpose",
        "gdpr",
        "us_privacy",
        "gpc",
        "status",
    ],
    often_read: &["cost_micros", "revenue_micros"],
    distinct: &["event_id", "user_hash", "click_id", "txn_id"],
    rising: &["occurred_at", "received_at", "offset"],
    looked_up: &["event_id"],
};

/// The name of a day's partition.
pub(crate) fn date(day: i64) -> Result<String> {
    let midnight = Timestamp::from_second(day * 86_400);
    let midnight = midnight.map_err(|error| LakeError::Damaged { what: format!("day {day} has no date: {error}") })?;
    Ok(midnight.strftime("%Y-%m-%d").to_string())
}

/// The columns that [`each_fact`] reads, in the files' order.
pub(crate) const FACT_COLUMNS: [&str; 17] = [
    "kind",
    "occurred_at",
    "verdict",
    "campaign_id",
    "ad_id",
    "variant",
    "user_hash",
    "device",
    "os",
    "browser",
    "country",
    "age_group",
    "gender",
    "cost_micros",
    "revenue_micros",
    "currency",
    "offset",
];

/// Calls `each` with what rollups need of every row.
pub(crate) fn each_fact(rows: &RecordBatch, region: &str, each: &mut (dyn FnMut(&Fact<'_>) + Send)) -> Result<()> {
    let columns = Columns(rows);
    let (kind, verdict) = (columns.texts("kind")?, columns.texts("verdict")?);
    let occurred_at = columns.times("occurred_at")?;
    let (campaign_id, ad_id, variant) =
        (columns.texts("campaign_id")?, columns.texts("ad_id")?, columns.texts("variant")?);
    let (device, os, browser) = (columns.texts("device")?, columns.texts("os")?, columns.texts("browser")?);
    let (country, age_group, gender) =
        (columns.texts("country")?, columns.texts("age_group")?, columns.texts("gender")?);
    let (user_hash, currency) = (columns.numbers("user_hash")?, columns.texts("currency")?);
    let (cost_micros, revenue_micros) = (columns.numbers("cost_micros")?, columns.numbers("revenue_micros")?);
    let text = |column: &'_ StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
    for row in 0..rows.num_rows() {
        let unknown = |name: &str, value: &str| LakeError::Damaged { what: format!("{value:?} is no {name}") };
        let (variant, country, age_group) = (text(variant, row), text(country, row), text(age_group, row));
        let (gender, currency) = (text(gender, row), text(currency, row));
        each(&Fact {
            kind: Kind::parse(kind.value(row)).ok_or_else(|| unknown("kind", kind.value(row)))?,
            class: Class::parse(verdict.value(row)).ok_or_else(|| unknown("verdict", verdict.value(row)))?,
            occurred_at_us: occurred_at.value(row),
            campaign_id: campaign_id.value(row),
            currency: currency.as_deref(),
            ad_id: ad_id.value(row),
            variant: variant.as_deref(),
            country: country.as_deref(),
            region,
            age_group: age_group.as_deref(),
            gender: gender.as_deref(),
            device: device.value(row),
            os: os.value(row),
            browser: browser.value(row),
            user_hash: user_hash.is_valid(row).then(|| user_hash.value(row) as u64),
            cost_micros: cost_micros.value(row),
            revenue_micros: revenue_micros.value(row),
        });
    }
    Ok(())
}

/// A row whose id was not known when it was judged.
#[derive(Debug, Clone, Copy)]
pub struct FirstSighting<'a> {
    pub partition: Partition,
    pub id: EventId,
    /// The partition's time, in seconds.
    pub judged_at_s: i64,
    /// Where it is a click that counted, of a known person, and such were asked for.
    pub counted_click: Option<CountedClick<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub struct CountedClick<'a> {
    pub user_hash: u64,
    pub campaign_id: &'a str,
    pub ad_id: &'a str,
    pub occurred_at_us: i64,
}

/// The columns that [`each_sighting`] reads..
pub(crate) const SIGHTING_COLUMNS: [&str; 5] = ["event_id", "received_at", "judged_at", "partition", "reason"];

/// ..and where it is to tell of clicks.
pub(crate) const SIGHTING_AND_CLICK_COLUMNS: [&str; 10] = [
    "event_id",
    "kind",
    "occurred_at",
    "received_at",
    "judged_at",
    "partition",
    "reason",
    "campaign_id",
    "ad_id",
    "user_hash",
];

/// Calls `each` with the partition and judging time in seconds of every row, and what it is where it was a first sighting.
pub(crate) fn each_sighting(
    rows: &RecordBatch,
    mut each: impl FnMut(Partition, i64, Option<FirstSighting<'_>>),
) -> Result<()> {
    let columns = Columns(rows);
    let clicks = rows.column_by_name("kind").map(|_| Clicks::of(&columns)).transpose()?;
    let ids = columns.column("event_id")?.as_binary::<i32>();
    let (received_at, judged_at) = (columns.times("received_at")?, columns.times("judged_at")?);
    let partitions = columns.column("partition")?.as_primitive::<Int32Type>();
    let reason = columns.texts("reason")?;
    for row in 0..rows.num_rows() {
        let judged_at_us = if judged_at.is_valid(row) { judged_at.value(row) } else { received_at.value(row) };
        let partition = Partition::try_from(partitions.value(row)).unwrap_or_default();
        let id = EventId::from_slice(ids.value(row)).map_err(|error| LakeError::Damaged { what: error.to_string() })?;
        let reason = reason.is_valid(row).then(|| Reason::parse(reason.value(row))).flatten();
        let is_first = reason.is_none_or(Reason::remembers_id);
        let judged_at_s = judged_at_us.div_euclid(SECOND_US);
        let counted_click = clicks.as_ref().filter(|_| reason.is_none()).and_then(|clicks| clicks.at(row));
        let first = FirstSighting { partition, id, judged_at_s, counted_click };
        each(partition, judged_at_s, is_first.then_some(first));
    }
    Ok(())
}

/// The columns that say whose click on which ad a row is.
struct Clicks<'a> {
    kind: &'a StringArray,
    user_hash: &'a Int64Array,
    campaign_id: &'a StringArray,
    ad_id: &'a StringArray,
    occurred_at: &'a TimestampMicrosecondArray,
}

impl<'a> Clicks<'a> {
    fn of(columns: &Columns<'a>) -> Result<Self> {
        Ok(Self {
            kind: columns.texts("kind")?,
            user_hash: columns.numbers("user_hash")?,
            campaign_id: columns.texts("campaign_id")?,
            ad_id: columns.texts("ad_id")?,
            occurred_at: columns.times("occurred_at")?,
        })
    }

    fn at(&self, row: usize) -> Option<CountedClick<'a>> {
        let is_persons = self.kind.value(row) == Kind::Click.as_str() && self.user_hash.is_valid(row);
        is_persons.then(|| CountedClick {
            user_hash: self.user_hash.value(row) as u64,
            campaign_id: self.campaign_id.value(row),
            ad_id: self.ad_id.value(row),
            occurred_at_us: self.occurred_at.value(row),
        })
    }
}

/// Columns by name, with a clear word where a file lacks one.
pub(crate) struct Columns<'a>(pub &'a RecordBatch);

impl<'a> Columns<'a> {
    pub fn column(&self, name: &str) -> Result<&'a ArrayRef> {
        self.0
            .column_by_name(name)
            .ok_or_else(|| LakeError::Damaged { what: format!("a data file has no column `{name}`") })
    }

    pub fn texts(&self, name: &str) -> Result<&'a StringArray> {
        let column = self.column(name)?;
        column.as_string_opt::<i32>().ok_or_else(|| LakeError::Damaged { what: format!("column `{name}` is not text") })
    }

    pub fn numbers(&self, name: &str) -> Result<&'a Int64Array> {
        let column = self.column(name)?;
        column
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| LakeError::Damaged { what: format!("column `{name}` is not a number") })
    }

    pub fn times(&self, name: &str) -> Result<&'a TimestampMicrosecondArray> {
        let column = self.column(name)?;
        column
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| LakeError::Damaged { what: format!("column `{name}` is not a time") })
    }
}
