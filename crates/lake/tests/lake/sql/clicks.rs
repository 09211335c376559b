//! A lake of clicks, and SQL asked of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tally_lake::{EventRows, Lake, Sql, SqlError, SqlLimits};
use tally_model::{Country, Device, Event, Format, Judged, Kind, ManualClock, Positions, Reason, Region, Verdict};
use tally_pipeline::RollupBuilder;
use uuid::Uuid;

pub const T0_US: i64 = 1_700_000_000_000_000;
pub const LIMITS: SqlLimits = SqlLimits { time: Duration::from_secs(60), rows: None };

pub fn judged(offset: u64) -> Judged {
    let at_us = T0_US + i64::try_from(offset).unwrap() * 1_000;
    let campaign = if offset.is_multiple_of(2) { "even" } else { "odd" };
    let mut event = Event::new(Uuid::from_u128(offset.into()), Kind::Click, at_us, campaign, "ad");
    event.received_at_us = at_us;
    event.country = Country::parse(["DE", "US", "JP"][(offset % 3) as usize]);
    event.region = Region::of(event.country);
    event.user_hash = Some(offset % 50);
    event.cost_micros = 1_000;
    event.currency = Some("EUR".to_owned());
    event.segments = vec!["s".to_owned(), "t, u".to_owned()];
    let verdict = match offset % 10 {
        0 => Verdict::Not(Reason::DeclaredBot),
        _ => Verdict::Counted,
    };
    Judged { partition: 0, offset, judged_at_s: at_us / 1_000_000, event, device: Device::NONE, verdict }
}

/// A lake of so many clicks, a tenth of them by robots, in two commits.
pub async fn lake(folder: &Path, clicks: u64) -> (Lake, Sql) {
    let lake = Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
    for part in [0..clicks / 2, clicks / 2..clicks] {
        commit(&lake, &part.map(judged).collect::<Vec<_>>()).await;
    }
    let sql = lake.sql(256 << 20).unwrap();
    (lake, sql)
}

/// Commits events of offsets one after the other, with their cells.
pub async fn commit(lake: &Lake, rows: &[Judged]) {
    let (from, upto) = (rows[0].offset, rows[rows.len() - 1].offset + 1);
    let positions = |next: u64| Positions::from_offsets(vec![next]);
    let version =
        lake.commit_events(&mut EventRows::from_iter(rows), &positions(from), &positions(upto)).await.unwrap();
    let mut rollups = RollupBuilder::default();
    rows.iter().for_each(|row| rollups.add(&row.fact()));
    lake.commit_cells(version, &rollups.finish()).await.unwrap();
}

pub async fn bytes(sql: &Sql, statement: &str, format: Format, limits: SqlLimits) -> Result<Vec<u8>, SqlError> {
    let rows = sql.run(statement, limits).await?;
    let mut chunks = std::pin::pin!(rows.encoded(format));
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

pub async fn ask(sql: &Sql, statement: &str) -> Vec<Value> {
    let lines = bytes(sql, statement, Format::Ndjson, LIMITS).await;
    let lines = lines.unwrap_or_else(|error| panic!("{statement}: {error}"));
    serde_json::Deserializer::from_slice(&lines).into_iter().map(|row| row.unwrap()).collect()
}
