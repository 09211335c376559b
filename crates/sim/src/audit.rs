//! The auditor: knows what the senders know, looks at what was committed and at what the journal still holds, and believes nobody.
//! Its own counting is plain and slow on purpose; nothing of the pipeline's is used for it.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tally_journal::Stored;
use tally_model::{Class, Country, Counts, Event, Grain, Judged, Kind, Reason, View, decode_record, partition_of};
use uuid::Uuid;

use crate::client::consent_of;
use crate::lake::Tables;
use crate::plan::Plan;
use crate::truth::Known;

/// After every restart: what was acknowledged is in the lake or in the journal behind it, and the lake is right as far as it is.
pub fn after_restart(plan: &Plan, tables: &Tables, journal: &[Stored], known: &Known) -> Result<()> {
    let rows = by_partition(tables);
    check_places(plan, &rows)?;
    check_verdicts(plan, &rows, &double_clicks(plan, tables))?;
    let mut events: Vec<Event> = tables.rows().map(|judged| judged.event.clone()).collect();
    for stored in journal {
        let event = decode_record(&stored.bytes).context("the journal holds what is no event")?;
        let committed = rows.get(&stored.partition).and_then(|rows| rows.get(stored.offset as usize));
        match committed {
            None => events.push(event),
            Some(row) => ensure!(row.event == event, "the place of {} was given twice: {}", row.event.id, event.id),
        }
    }
    check_senders(&events, known)
}

/// At the end, when everything that was in the journal is committed and counted.
pub fn at_the_end(plan: &Plan, tables: &Tables, known: &Known) -> Result<()> {
    after_restart(plan, tables, &[], known)?;
    let (marked, rows) = (tables.committed(plan.partitions).total(), tables.rows().count() as u64);
    ensure!(marked == rows, "the marks say that {marked} records are in, and {rows} rows are");
    check_rollups(tables)
}

/// Everything acknowledged before the watermark is in the lake. Tells whether anything was.
pub fn watermark(watermark_us: i64, tables: &Tables, known: &Known) -> Result<bool> {
    let mut promised: BTreeMap<u128, u64> = BTreeMap::new();
    for (_, ids) in known.acknowledged.iter().filter(|(at_us, _)| *at_us < watermark_us) {
        ids.iter().for_each(|id| *promised.entry(*id).or_default() += 1);
    }
    let mut found: HashMap<u128, u64> = HashMap::new();
    tables.rows().for_each(|judged| *found.entry(judged.event.id.as_u128()).or_default() += 1);
    let is_held = !promised.is_empty();
    for (id, times) in promised {
        let seen = found.get(&id).copied().unwrap_or(0);
        ensure!(
            seen >= times,
            "{} was acknowledged {times} times before the watermark and is in {seen} times",
            name(id)
        );
    }
    Ok(is_held)
}

fn name(id: u128) -> Uuid {
    Uuid::from_u128(id)
}

type Rows<'a> = BTreeMap<u16, Vec<&'a Judged>>;

fn by_partition(tables: &Tables) -> Rows<'_> {
    let mut rows: Rows<'_> = BTreeMap::new();
    tables.rows().for_each(|judged| rows.entry(judged.partition).or_default().push(judged));
    rows.values_mut().for_each(|rows| rows.sort_by_key(|judged| judged.offset));
    rows
}

/// Every place in the log stands in the lake once, without gaps, and in the partition that its id belongs to.
fn check_places(plan: &Plan, rows: &Rows<'_>) -> Result<()> {
    for (partition, rows) in rows {
        for (expected, judged) in (0..).zip(rows) {
            if judged.offset != expected {
                bail!("partition {partition} has offset {} where {expected} is due: lost or doubled", judged.offset);
            }
            ensure!(partition_of(judged.event.id, plan.partitions) == *partition, "{} is astray", judged.event.id);
        }
    }
    Ok(())
}

type Place = (u16, u64);

/// Clicks that occurred within the window of a counted one of the same person and ad, which stands before them in the log and
/// was judged within the last ten minutes of the log's time. Versions follow the log, and so do the rows of each.
fn double_clicks(plan: &Plan, tables: &Tables) -> HashSet<Place> {
    let window_us = plan.pipeline.double_click_ms as i64 * 1_000;
    let (mut found, mut counted, mut log_time_s) = (HashSet::new(), Vec::<&Judged>::new(), 0);
    for judged in tables.rows() {
        log_time_s = log_time_s.max(judged.judged_at_s);
        let event = &judged.event;
        if event.kind != Kind::Click || event.user_hash.is_none() {
            continue;
        }
        let is_double = counted.iter().any(|known| {
            let other = &known.event;
            (other.user_hash, &other.campaign_id, &other.ad_id) == (event.user_hash, &event.campaign_id, &event.ad_id)
                && (other.occurred_at_us - event.occurred_at_us).abs() < window_us
                && log_time_s - known.judged_at_s < 600
        });
        if is_double {
            found.insert((judged.partition, judged.offset));
        } else if judged.verdict.class() == Class::Counted {
            counted.push(judged);
        }
    }
    found
}

/// The first of an id counts, unless it is a robot's or a double click; every later one within the time to live is a duplicate.
fn check_verdicts(plan: &Plan, rows: &Rows<'_>, double_clicks: &HashSet<Place>) -> Result<()> {
    let ttl_s = plan.pipeline.dedup_ttl_s as i64;
    for rows in rows.values() {
        let mut now_s = 0;
        let mut first_seen_s: HashMap<Uuid, i64> = HashMap::new();
        for judged in rows {
            now_s = now_s.max(judged.event.received_at_us / 1_000_000);
            let is_copy = first_seen_s.get(&judged.event.id).is_some_and(|first_s| now_s - first_s < ttl_s);
            let is_robot = judged.event.user_agent.as_deref().is_some_and(|agent| agent.contains("Googlebot"));
            let is_double_click = double_clicks.contains(&(judged.partition, judged.offset));
            let expected = match (is_copy, is_robot, is_double_click) {
                (true, _, _) => Some(Reason::SameId),
                (false, true, _) => Some(Reason::DeclaredBot),
                (false, false, true) => Some(Reason::DoubleClick),
                (false, false, false) => None,
            };
            if !is_copy {
                first_seen_s.insert(judged.event.id, now_s);
            }
            ensure!(
                judged.verdict.reason() == expected && judged.judged_at_s == now_s,
                "{} at partition {} offset {} is {:?}, and should be {expected:?}",
                judged.event.id,
                judged.partition,
                judged.offset,
                judged.verdict
            );
        }
    }
    Ok(())
}

/// As often as its sender was told that it is safe, at most as often as it was sent, and as it was sent.
fn check_senders(events: &[Event], known: &Known) -> Result<()> {
    let mut times: HashMap<u128, u64> = HashMap::new();
    for event in events {
        let id = event.id.as_u128();
        let sent = known.events.get(&id).with_context(|| format!("nobody sent {}", event.id))?;
        let same = event.kind == sent.kind
            && event.campaign_id == sent.campaign_id
            && event.ad_id == sent.ad_id
            && event.occurred_at_us == sent.occurred_at_us
            && event.cost_micros == sent.cost_micros
            && event.revenue_micros == sent.revenue_micros
            && event.currency.as_deref() == Some(sent.currency)
            && event.country.as_ref().map(Country::as_str) == Some(sent.country)
            && event.privacy.as_deref().and_then(|privacy| privacy.gdpr_consent.clone()) == consent_of(id)
            && event.user_hash.is_some();
        ensure!(same, "{} is not what was sent: {event:?} instead of {sent:?}", event.id);
        *times.entry(id).or_default() += 1;
    }
    for (id, sent) in &known.events {
        let found = times.get(id).copied().unwrap_or(0);
        let (least, most) = (sent.acknowledged, sent.attempts);
        ensure!(found >= least, "{} was acknowledged {least} times and is there {found} times: lost", name(*id));
        ensure!(found <= most, "{} was sent {most} times and is there {found} times: doubled", name(*id));
    }
    Ok(())
}

/// By the calendar, a way of its own beside the arithmetic of the rollups.
fn window_start_us(grain: Grain, at_us: i64) -> Result<i64> {
    let at = Timestamp::from_microsecond(at_us)?.to_zoned_datetime(TimeZone::UTC);
    let start = match grain {
        Grain::Minute => at.with().second(0).subsec_nanosecond(0).build()?,
        Grain::Hour => at.with().minute(0).second(0).subsec_nanosecond(0).build()?,
        Grain::Day => at.start_of_day()?,
        Grain::Month => at.first_of_month()?.start_of_day()?,
    };
    Ok(start.timestamp().as_microsecond())
}

type CellName = (Grain, View, i64, String, Option<String>, [Option<String>; 3]);

/// Every cell of every rollup is what a count of the rows gives, and there is no other.
fn check_rollups(tables: &Tables) -> Result<()> {
    let mut expected: BTreeMap<CellName, Counts> = BTreeMap::new();
    for judged in tables.rows() {
        let fact = judged.fact();
        let is_counted = fact.class == Class::Counted;
        for view in View::ALL {
            for grain in Grain::ALL {
                let bucket_us = window_start_us(grain, fact.occurred_at_us)?;
                let values = fact.values(view).map(|value| value.map(str::to_owned));
                let currency = fact.currency.map(str::to_owned);
                let cell = expected
                    .entry((grain, view, bucket_us, fact.campaign_id.to_owned(), currency, values))
                    .or_default();
                cell.events[fact.kind as usize][fact.class as usize] += 1;
                cell.cost_micros += if is_counted { fact.cost_micros } else { 0 };
                cell.revenue_micros += if is_counted { fact.revenue_micros } else { 0 };
            }
        }
    }
    let mut found: BTreeMap<CellName, Counts> = BTreeMap::new();
    for cell in tables.parts.iter().flat_map(|(_, cells)| cells.iter()) {
        let values = cell.values.map(|value| value.map(str::to_owned));
        let currency = cell.currency.map(str::to_owned);
        let name = (cell.grain, cell.view, cell.bucket_us, cell.campaign_id.to_owned(), currency, values);
        found.entry(name).or_default().merge(&cell.counts);
    }
    for (name, counts) in &expected {
        let found = found.remove(name).unwrap_or_default();
        ensure!(found == *counts, "cell {name:?} holds {found:?}, and should hold {counts:?}");
    }
    ensure!(found.is_empty(), "{} cells that no event belongs to, such as {:?}", found.len(), found.keys().next());
    Ok(())
}
