//! What is in quarantine, and the whole of one such event, so that it can be mended and sent again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int16Type};
use datafusion::logical_expr::{ident, lit};
use serde_json::Value as Json;
use tally_model::{
    Class, ConversionStatus, Country, Event, EventId, Kind, Listed, Page, Privacy, Purpose, Quarantined, Reason,
    Region, Subdivision,
};

use super::Queries;
use super::life::{rows_of, time_text};
use super::page::{newest_first, page_of};
use crate::error::{LakeError, Result};
use crate::events::Columns;
use crate::live_file::LiveFile;
use crate::schema::EVENTS_PARTITION_COLUMNS;
use crate::store::SyncedStore;

impl Queries {
    /// The newest events in quarantine, for one reason or any.
    pub async fn quarantined(&self, reason: Option<Reason>, page: Page) -> Result<Listed<Quarantined>> {
        let view = self.current();
        let rows = self.table(&view.events, &EVENTS_PARTITION_COLUMNS)?;
        let mut rows = rows.filter(ident("verdict").eq(lit(Class::Quarantined.as_str())))?;
        if let Some(reason) = reason {
            rows = rows.filter(ident("reason").eq(lit(reason.as_str())))?;
        }
        let columns = [
            "event_id",
            "partition",
            "offset",
            "received_at",
            "occurred_at",
            "kind",
            "reason",
            "campaign_id",
            "click_id",
            "txn_id",
            "props",
        ];
        let rows = rows.select(columns.map(ident).to_vec())?;
        page_of(newest_first(rows, page)?, page, |batch, at| listed(&batch.slice(at, 1))).await
    }

    /// A quarantined event as it was judged, and why; none where the lake has no such event.
    pub async fn quarantined_event(&self, id: EventId) -> Result<Option<(Event, Reason)>> {
        let view = self.current();
        let store = SyncedStore::open();
        let mut first: Option<(i64, Event, Reason)> = None;
        for file in view.events.files.iter() {
            for row in rows_of(&store, file, id).await? {
                let columns = Columns(&row);
                let offset = columns.numbers("offset")?.value(0);
                let verdict = columns.texts("verdict")?.value(0);
                let reason = columns.texts("reason")?;
                let reason = Some(reason).filter(|_| verdict == Class::Quarantined.as_str());
                let reason = reason.and_then(|reason| Reason::parse(reason.value(0)));
                if let Some(reason) = reason.filter(|_| first.as_ref().is_none_or(|(before, ..)| offset < *before)) {
                    first = Some((offset, event_of(&row, file)?, reason));
                }
            }
        }
        Ok(first.map(|(_, event, reason)| (event, reason)))
    }
}

fn listed(row: &RecordBatch) -> Result<Quarantined> {
    let columns = Columns(row);
    let text = |name| -> Result<String> { Ok(optional_text(&columns, name)?.unwrap_or_default()) };
    let reason = text("reason")?;
    let props: Json = serde_json::from_str(&text("props")?).unwrap_or_default();
    let why = match Reason::parse(&reason) {
        Some(Reason::ClickUnresolved) => format!("it names click {:?}, and no campaign", text("click_id")?),
        Some(Reason::NotApproved) => format!("its transaction {:?} is not approved", text("txn_id")?),
        Some(Reason::Undecodable) => props["undecodable_record"]["why"].as_str().unwrap_or("unknown").to_owned(),
        _ => "a rule failed on it; see the log of that time".to_owned(),
    };
    Ok(Quarantined {
        event_id: event_id(&columns)?.to_string(),
        partition: columns.column("partition")?.as_primitive::<arrow::datatypes::Int32Type>().value(0),
        offset: columns.numbers("offset")?.value(0),
        received_at: time_text(columns.times("received_at")?.value(0)),
        occurred_at: time_text(columns.times("occurred_at")?.value(0)),
        kind: text("kind")?,
        campaign_id: text("campaign_id")?,
        reason,
        why,
    })
}

/// A row as the event that it was made of.
fn event_of(row: &RecordBatch, file: &Arc<LiveFile>) -> Result<Event> {
    let columns = Columns(row);
    let text = |name| optional_text(&columns, name);
    let hash = |name| -> Result<Option<u64>> {
        let column = columns.numbers(name)?;
        Ok(column.is_valid(0).then(|| column.value(0) as u64))
    };
    let float = |name| -> Result<Option<f32>> {
        let column = columns.column(name)?.as_primitive::<Float32Type>();
        Ok(column.is_valid(0).then(|| column.value(0)))
    };
    let kind = text("kind")?.unwrap_or_default();
    let kind = Kind::parse(&kind).ok_or_else(|| LakeError::Damaged { what: format!("{kind:?} is no kind") })?;
    let segments = columns.column("segments")?.as_list::<i32>();
    let segments = segments.is_valid(0).then(|| segments.value(0));
    let segments = segments.iter().flat_map(|list| list.as_string::<i32>().iter().flatten().map(ToOwned::to_owned));
    Ok(Event {
        id: event_id(&columns)?,
        kind,
        occurred_at_us: columns.times("occurred_at")?.value(0),
        utc_offset_minutes: columns.column("utc_offset_minutes")?.as_primitive::<Int16Type>().value(0),
        received_at_us: columns.times("received_at")?.value(0),
        campaign_id: text("campaign_id")?.unwrap_or_default(),
        ad_id: text("ad_id")?.unwrap_or_default(),
        placement_id: text("placement_id")?,
        publisher_id: text("publisher_id")?,
        variant: text("variant")?,
        user_hash: hash("user_hash")?,
        ip_hash: hash("ip_hash")?,
        user_agent: text("user_agent")?,
        referrer: text("referrer")?,
        x: float("x")?,
        y: float("y")?,
        country: text("country")?.as_deref().and_then(Country::parse),
        region: file.partition_value("region").and_then(Region::parse).unwrap_or(Region::Other),
        age_group: text("age_group")?,
        gender: text("gender")?,
        segments: segments.collect(),
        cost_micros: columns.numbers("cost_micros")?.value(0),
        revenue_micros: columns.numbers("revenue_micros")?.value(0),
        currency: text("currency")?,
        click_id: text("click_id")?,
        props: text("props")?,
        // From here on: columns that files of older versions lack.
        subdivision: later_text(row, "subdivision").as_deref().and_then(Subdivision::parse),
        purpose: later_text(row, "purpose").as_deref().and_then(Purpose::parse),
        privacy: privacy_of(row).some(),
        txn_id: later_text(row, "txn_id"),
        status: later_text(row, "status").as_deref().and_then(ConversionStatus::parse),
    })
}

fn privacy_of(row: &RecordBatch) -> Privacy {
    let flag = |name| later_column(row, name).and_then(|column| Some(column.as_boolean_opt()?.value(0)));
    Privacy {
        gdpr: flag("gdpr"),
        gdpr_consent: later_text(row, "gdpr_consent"),
        gpp: later_text(row, "gpp"),
        gpp_sid: later_text(row, "gpp_sid"),
        us_privacy: later_text(row, "us_privacy"),
        gpc: flag("gpc"),
    }
}

fn later_column<'a>(row: &'a RecordBatch, name: &str) -> Option<&'a ArrayRef> {
    row.column_by_name(name).filter(|column| column.is_valid(0))
}

fn later_text(row: &RecordBatch, name: &str) -> Option<String> {
    Some(later_column(row, name)?.as_string_opt::<i32>()?.value(0).to_owned())
}

fn optional_text(columns: &Columns<'_>, name: &str) -> Result<Option<String>> {
    let column = columns.texts(name)?;
    Ok(column.is_valid(0).then(|| column.value(0).to_owned()))
}

fn event_id(columns: &Columns<'_>) -> Result<EventId> {
    let ids = columns.column("event_id")?.as_binary::<i32>();
    EventId::from_slice(ids.value(0)).map_err(|error| LakeError::Damaged { what: error.to_string() })
}
