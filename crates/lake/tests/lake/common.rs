//! Ways to fill a lake that several tests share.

use tally_lake::{EventRows, Lake};
use tally_model::{ConversionStatus, Device, Event, Judged, Reason, Verdict};
use tally_pipeline::RollupBuilder;

const SECOND_US: i64 = 1_000_000;

/// Commits events behind what is committed, with the verdicts that they would get.
pub async fn commit(lake: &Lake, events: Vec<Event>) {
    let from = lake.committed().await.unwrap();
    let mut upto = from.clone();
    upto.advance(0, from.next(0) + events.len() as u64);
    let verdict = |event: &Event| match (event.status, event.campaign_id.as_str()) {
        (Some(ConversionStatus::Pending | ConversionStatus::Rejected), _) => Verdict::Not(Reason::NotApproved),
        (_, "") => Verdict::Not(Reason::ClickUnresolved),
        _ => Verdict::Counted,
    };
    let judged = events.into_iter().zip(from.next(0)..).map(|(event, offset)| Judged {
        partition: 0,
        offset,
        judged_at_s: event.received_at_us / SECOND_US,
        verdict: verdict(&event),
        event,
        device: Device::NONE,
    });
    let rows: Vec<Judged> = judged.collect();
    let version = lake.commit_events(&mut EventRows::from_iter(&rows), &from, &upto).await.unwrap();
    let mut rollups = RollupBuilder::default();
    rows.iter().for_each(|row| rollups.add(&row.fact()));
    lake.commit_cells(version, &rollups.finish()).await.unwrap();
}
