//! Conversions and what they are owed to: from rows of `events`, into rows of `attributions` and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use sha2::{Digest, Sha256};
use tally_model::{Class, ConversionStatus, Converted, EventId, Kind, Partition, Reason, Resolution, Touched};
use uuid::Builder;

use crate::error::{LakeError, Result};
use crate::events::Columns;
use crate::layout::{FileLayout, ZSTD_LEVEL};
use crate::schema::{ATTRIBUTION_DIMENSIONS, ATTRIBUTION_STATISTICS, ATTRIBUTIONS};

pub(crate) const ATTRIBUTIONS_LAYOUT: FileLayout = FileLayout {
    zstd_level: ZSTD_LEVEL,
    statistics: &ATTRIBUTION_STATISTICS,
    few_values: &["status", "verdict", "partition", "currency", "resolution", "touch_verdict"],
    often_read: &[],
    distinct: &["event_id", "transaction_id", "txn_id", "click_id", "touch_id"],
    rising: &["received_at", "offset"],
    looked_up: &["transaction_id"],
};

/// What is read of an event, whatever it is. Files of older versions lack the last two.
pub(super) const EVENT_COLUMNS: [&str; 27] = [
    "event_id",
    "kind",
    "occurred_at",
    "received_at",
    "partition",
    "offset",
    "verdict",
    "reason",
    "campaign_id",
    "ad_id",
    "placement_id",
    "publisher_id",
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
    "click_id",
    "props",
    "txn_id",
    "status",
];

/// In `props` of an event that was mended and sent again: see `tally quarantine resubmit`.
const RESUBMITTED: &str = "resubmitted_from";

/// One word about a conversion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversion {
    pub event_id: EventId,
    pub transaction_id: EventId,
    pub txn_id: Option<String>,
    pub status: ConversionStatus,
    pub verdict: Class,
    pub partition: Partition,
    pub offset: i64,
    pub received_at_us: i64,
    pub occurred_at_us: i64,
    pub campaign_id: String,
    pub click_id: Option<String>,
    pub cost_micros: i64,
    pub revenue_micros: i64,
    pub currency: Option<String>,
    /// Not kept in the table.
    pub user_hash: Option<i64>,
}

/// A click or a view.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Touch {
    pub event_id: EventId,
    pub kind: Kind,
    pub class: Class,
    pub occurred_at_us: i64,
    pub received_at_us: i64,
    pub user_hash: Option<i64>,
    /// In the order of [`ATTRIBUTION_DIMENSIONS`], the campaign first.
    pub values: [Option<String>; ATTRIBUTION_DIMENSIONS.len()],
}

/// A row of `attributions`.
#[derive(Debug, Clone)]
pub(super) struct Attribution {
    pub conversion: Conversion,
    pub owed_to: Option<(Resolution, Touch)>,
}

impl Conversion {
    pub fn converted(&self) -> Converted<'_> {
        Converted {
            occurred_at_us: self.occurred_at_us,
            received_at_us: self.received_at_us,
            campaign_id: &self.campaign_id,
        }
    }

    /// The click that it names, where that can be the id of one.
    pub fn named_click(&self) -> Option<EventId> {
        EventId::parse_str(self.click_id.as_deref()?).ok()
    }
}

impl Touch {
    pub fn touched(&self) -> Touched<'_> {
        Touched {
            kind: self.kind,
            class: self.class,
            occurred_at_us: self.occurred_at_us,
            received_at_us: self.received_at_us,
            campaign_id: self.values[0].as_deref().unwrap_or_default(),
        }
    }
}

/// What a row of `events` is to attribution.
pub(super) enum Row {
    Conversion(Conversion),
    Touch(Touch),
    /// A copy, or a conversion that no person made.
    Nothing,
}

/// The row of a batch that has [`EVENT_COLUMNS`], from a file of this region.
pub(super) fn row(rows: &RecordBatch, region: &str, at: usize) -> Result<Row> {
    let columns = Columns(rows);
    let text = |name| -> Result<Option<String>> {
        let column = columns.texts(name)?;
        Ok(column.is_valid(at).then(|| column.value(at).to_owned()))
    };
    let needed = |name| -> Result<String> { Ok(text(name)?.unwrap_or_default()) };
    let number = |name| columns.numbers(name).map(|column| column.value(at));
    let unknown = |name: &str, value: &str| LakeError::Damaged { what: format!("{value:?} is no {name}") };
    let reason = text("reason")?.as_deref().and_then(Reason::parse);
    if reason.is_some_and(|reason| !reason.remembers_id()) {
        return Ok(Row::Nothing);
    }
    let (kind, verdict) = (needed("kind")?, needed("verdict")?);
    let kind = Kind::parse(&kind).ok_or_else(|| unknown("kind", &kind))?;
    let class = Class::parse(&verdict).ok_or_else(|| unknown("verdict", &verdict))?;
    let event_id = id(&columns, "event_id", at)?;
    let occurred_at_us = columns.times("occurred_at")?.value(at);
    let received_at_us = columns.times("received_at")?.value(at);
    let user_hash = columns.numbers("user_hash")?;
    let user_hash = user_hash.is_valid(at).then(|| user_hash.value(at));
    if kind != Kind::Conversion {
        let value = |name| if name == "region" { Ok(Some(region.to_owned())) } else { text(name) };
        let mut values: [Option<String>; ATTRIBUTION_DIMENSIONS.len()] = Default::default();
        for (place, dimension) in values.iter_mut().zip(ATTRIBUTION_DIMENSIONS) {
            *place = value(dimension.as_str())?;
        }
        return Ok(Row::Touch(Touch { event_id, kind, class, occurred_at_us, received_at_us, user_hash, values }));
    }
    if !matches!(reason, None | Some(Reason::ClickUnresolved | Reason::NotApproved)) {
        return Ok(Row::Nothing);
    }
    let later = |name| {
        let column = rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.filter(|column| column.is_valid(at)).map(|column| column.value(at).to_owned())
    };
    let (campaign_id, click_id, txn_id) = (needed("campaign_id")?, text("click_id")?, later("txn_id"));
    let props = text("props")?;
    let mended = props.as_deref().filter(|props| props.contains(RESUBMITTED)).and_then(resubmitted_from);
    let transaction_id = match &txn_id {
        // What was quarantined for want of a campaign is the same transaction once it has one.
        Some(txn_id) if campaign_id.is_empty() || mended.is_some() => {
            transaction(click_id.as_deref().unwrap_or_default(), txn_id)
        }
        Some(txn_id) => transaction(&campaign_id, txn_id),
        None => mended.unwrap_or(event_id),
    };
    Ok(Row::Conversion(Conversion {
        event_id,
        transaction_id,
        status: later("status").as_deref().and_then(ConversionStatus::parse).unwrap_or(ConversionStatus::Approved),
        txn_id,
        verdict: class,
        partition: partition(&columns, at)?,
        offset: number("offset")?,
        received_at_us,
        occurred_at_us,
        campaign_id,
        click_id,
        cost_micros: number("cost_micros")?,
        revenue_micros: number("revenue_micros")?,
        currency: text("currency")?,
        user_hash,
    }))
}

fn resubmitted_from(props: &str) -> Option<EventId> {
    let props: serde_json::Value = serde_json::from_str(props).ok()?;
    EventId::parse_str(props[RESUBMITTED].as_str()?).ok()
}

/// All words about one transaction have one id: that of its number within its campaign, or for its click.
fn transaction(scope: &str, txn_id: &str) -> EventId {
    let mut digest = Sha256::new_with_prefix(b"tally transaction");
    for text in [scope, txn_id] {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

pub(super) fn id(columns: &Columns<'_>, name: &str, at: usize) -> Result<EventId> {
    let ids = columns.column(name)?.as_binary_opt::<i32>();
    let ids = ids.ok_or_else(|| LakeError::Damaged { what: format!("column `{name}` is not binary") })?;
    EventId::from_slice(ids.value(at)).map_err(|error| LakeError::Damaged { what: error.to_string() })
}

pub(super) fn partition(columns: &Columns<'_>, at: usize) -> Result<Partition> {
    let partitions = columns.column("partition")?.as_primitive_opt::<Int32Type>();
    let partitions = partitions.ok_or_else(|| LakeError::Damaged { what: "a partition is no number".to_owned() })?;
    Ok(Partition::try_from(partitions.value(at)).unwrap_or_default())
}

pub(super) fn encode(rows: &[Attribution]) -> Result<RecordBatch> {
    let texts = |of: &dyn Fn(&Attribution) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    };
    let times = |of: &dyn Fn(&Attribution) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let numbers = |of: &dyn Fn(&Attribution) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let ids = |of: &dyn Fn(&Attribution) -> Option<EventId>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).map(EventId::into_bytes)).collect::<BinaryArray>())
    };
    let touch = |row: &Attribution| row.owed_to.as_ref().map(|(_, touch)| touch.clone());
    let partitions = rows.iter().map(|row| i32::from(row.conversion.partition));
    let mut columns: Vec<ArrayRef> = vec![
        ids(&|row| Some(row.conversion.event_id)),
        ids(&|row| Some(row.conversion.transaction_id)),
        texts(&|row| row.conversion.txn_id.clone()),
        texts(&|row| Some(row.conversion.status.as_str().to_owned())),
        texts(&|row| Some(row.conversion.verdict.as_str().to_owned())),
        Arc::new(Int32Array::from_iter_values(partitions)),
        numbers(&|row| Some(row.conversion.offset)),
        times(&|row| Some(row.conversion.received_at_us)),
        times(&|row| Some(row.conversion.occurred_at_us)),
        texts(&|row| Some(row.conversion.campaign_id.clone())),
        texts(&|row| row.conversion.click_id.clone()),
        numbers(&|row| Some(row.conversion.cost_micros)),
        numbers(&|row| Some(row.conversion.revenue_micros)),
        texts(&|row| row.conversion.currency.clone()),
        texts(&|row| {
            let resolution = row.owed_to.as_ref().map_or(Resolution::Unresolved, |(resolution, _)| *resolution);
            Some(resolution.as_str().to_owned())
        }),
        ids(&|row| Some(touch(row)?.event_id)),
        times(&|row| Some(touch(row)?.occurred_at_us)),
        texts(&|row| Some(touch(row)?.class.as_str().to_owned())),
        // Clocks that differ do not make a conversion come before its click.
        numbers(&|row| {
            Some(row.conversion.occurred_at_us.saturating_sub(touch(row)?.occurred_at_us).max(0) / 1_000_000)
        }),
    ];
    for at in 0..ATTRIBUTION_DIMENSIONS.len() {
        let own = |row: &Attribution| {
            let is_campaign = at == 0 && !row.conversion.campaign_id.is_empty();
            is_campaign.then(|| row.conversion.campaign_id.clone())
        };
        columns.push(texts(&|row| match &row.owed_to {
            Some((_, touch)) => touch.values[at].clone(),
            None => own(row),
        }));
    }
    Ok(RecordBatch::try_new(ATTRIBUTIONS.clone(), columns)?)
}

/// An unresolved row as the conversion that it was made of.
pub(super) fn decode(rows: &RecordBatch, at: usize) -> Result<Conversion> {
    let columns = Columns(rows);
    let text = |name| -> Result<Option<String>> {
        let column = columns.texts(name)?;
        Ok(column.is_valid(at).then(|| column.value(at).to_owned()))
    };
    let needed = |name| -> Result<String> { Ok(text(name)?.unwrap_or_default()) };
    let number = |name| columns.numbers(name).map(|column| column.value(at));
    let (status, verdict) = (needed("status")?, needed("verdict")?);
    let unknown = |what: &str| LakeError::Damaged { what: format!("`attributions` has {what:?}") };
    Ok(Conversion {
        event_id: id(&columns, "event_id", at)?,
        transaction_id: id(&columns, "transaction_id", at)?,
        txn_id: text("txn_id")?,
        status: ConversionStatus::parse(&status).ok_or_else(|| unknown(&status))?,
        verdict: Class::parse(&verdict).ok_or_else(|| unknown(&verdict))?,
        partition: partition(&columns, at)?,
        offset: number("offset")?,
        received_at_us: columns.times("received_at")?.value(at),
        occurred_at_us: columns.times("occurred_at")?.value(at),
        campaign_id: needed("own_campaign_id")?,
        click_id: text("click_id")?,
        cost_micros: number("cost_micros")?,
        revenue_micros: number("revenue_micros")?,
        currency: text("currency")?,
        user_hash: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unresolved_conversion_reads_back_as_it_was() {
        let conversion = Conversion {
            event_id: EventId::from_u128(1),
            transaction_id: transaction("spring", "7"),
            txn_id: Some("7".to_owned()),
            status: ConversionStatus::Pending,
            verdict: Class::Quarantined,
            partition: 3,
            offset: 9,
            received_at_us: 5,
            occurred_at_us: 4,
            campaign_id: "spring".to_owned(),
            click_id: Some("x".to_owned()),
            cost_micros: 1,
            revenue_micros: 2,
            currency: Some("EUR".to_owned()),
            user_hash: None,
        };
        let rows = encode(&[Attribution { conversion: conversion.clone(), owed_to: None }]).unwrap();
        assert_eq!(decode(&rows, 0).unwrap(), conversion);
        assert_eq!(rows.column_by_name("campaign_id").unwrap().as_string::<i32>().value(0), "spring");
    }

    #[test]
    fn a_transaction_is_its_number_within_its_campaign() {
        assert_eq!(transaction("a", "1"), transaction("a", "1"));
        let others = [transaction("b", "1"), transaction("a", "2"), transaction("a1", ""), transaction("", "a1")];
        assert!(!others.contains(&transaction("a", "1")));
        assert_ne!(others[2], others[3], "where one text ends and the next begins makes no difference");
    }
}
