//! Attribution from outside: conversions before and behind their clicks, restarts in between, and reports of what came of it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tally_lake::{AttributionRound, CompactionSettings, Lake};
use tally_model::report::{Report, ReportRequest};
use tally_model::{
    AttributionWindows, ConversionFilter, ConversionRow, ConversionStatus, Event, Kind, ManualClock, Page, Positions,
    Resolution,
};
use uuid::{Builder, Uuid};

use crate::common::commit;

/// 2023-11-14T22:13:20Z
const T0_US: i64 = 1_700_000_000_000_000;
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

fn windows() -> AttributionWindows {
    AttributionWindows::of_days(30, 1)
}

async fn open(folder: &Path) -> Lake {
    Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US + DAY_US))).await.unwrap()
}

/// An id as capture makes it.
fn id_of(at_us: i64, n: u8) -> Uuid {
    Builder::from_unix_timestamp_millis((at_us / 1_000) as u64, &[n; 10]).into_uuid()
}

fn click(n: u8, at_us: i64) -> Event {
    let mut click = Event::new(id_of(at_us, n), Kind::Click, at_us, "spring", "ad");
    click.placement_id = Some(format!("p{n}"));
    click
}

fn conversion(id: u128, click: Option<Uuid>, at_us: i64, status: ConversionStatus) -> Event {
    let mut event = Event::new(Uuid::from_u128(id), Kind::Conversion, at_us, "", "");
    event.click_id = click.map(|id| id.to_string());
    event.txn_id = Some("order".to_owned());
    event.status = Some(status);
    event.revenue_micros = 5_000_000;
    event.currency = Some("EUR".to_owned());
    event
}

/// A round by somebody who was just started.
async fn attribute(lake: &Lake) -> AttributionRound {
    lake.attributor(windows()).await.unwrap().round(&lake.view()).await.unwrap()
}

async fn listed(lake: &Lake) -> Vec<ConversionRow> {
    let page = Page { limit: 100, after: None };
    lake.queries().conversions(&ConversionFilter::default(), page).await.unwrap().rows
}

async fn ask(lake: &Lake, attribution: &str, group_by: &[&str]) -> Value {
    let request = json!({
        "metrics": ["clicks", "conversions", "revenue_micros", "cvr"], "group_by": group_by, "attribution": attribution,
        "from": "2023-11-01T00:00:00Z", "to": "2023-12-01T00:00:00Z",
    });
    let request: ReportRequest = serde_json::from_value(request).unwrap();
    json!(lake.queries().report(&Report::try_from(&request).unwrap()).await.unwrap().rows)
}

#[tokio::test]
async fn a_conversion_counts_for_its_clicks_campaign_on_the_day_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let clicks = vec![click(1, T0_US), click(2, T0_US + SECOND_US)];
    let id = clicks[0].id;
    commit(&lake, clicks).await;
    commit(&lake, vec![conversion(9, Some(id), T0_US + DAY_US, ConversionStatus::Approved)]).await;
    let round = attribute(&lake).await;
    assert_eq!((round.conversions, round.resolved, round.waiting), (1, 1, 0));

    let rows = listed(&lake).await;
    assert_eq!(rows.len(), 1);
    let found = (rows[0].campaign_id.as_deref(), rows[0].touch_id.as_deref(), rows[0].time_to_convert_s);
    assert_eq!(found, (Some("spring"), Some(id.to_string().as_str()), Some(86_400)));
    assert_eq!(rows[0].resolution, Resolution::ClickId.as_str());

    let by_click = ask(&lake, "click_date", &["campaign_id", "day"]).await;
    assert_eq!(by_click, json!([["spring", "2023-11-14", 2, 1, 5_000_000, 0.5]]));
    let by_conversion = ask(&lake, "conversion_date", &["campaign_id", "day"]).await;
    let expected = json!([["spring", "2023-11-14", 2, 0, 0, 0.0], ["spring", "2023-11-15", 0, 1, 5_000_000, null]]);
    assert_eq!(by_conversion, expected);
    let by_placement = ask(&lake, "click_date", &["placement_id"]).await;
    assert_eq!(by_placement, json!([["p1", 1, 1, 5_000_000, 1.0], ["p2", 1, 0, 0, 0.0]]));
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn a_click_that_comes_late_is_found_also_by_somebody_who_was_restarted_meanwhile() {
    for is_restarted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut lake = open(folder.path()).await;
        let late = click(1, T0_US);
        let mut attributor = lake.attributor(windows()).await.unwrap();
        for n in 0..3 {
            let missing = if n == 0 { late.id } else { Uuid::from_u128(77) };
            let mut unresolved =
                conversion(9 + n, Some(missing), T0_US + n as i64 * SECOND_US, ConversionStatus::Approved);
            unresolved.txn_id = Some(n.to_string());
            commit(&lake, vec![unresolved]).await;
            attributor.round(&lake.view()).await.unwrap();
        }
        assert_eq!(listed(&lake).await.iter().filter(|row| row.resolution == "unresolved").count(), 3);
        if is_restarted {
            drop(lake);
            lake = open(folder.path()).await;
            attributor = lake.attributor(windows()).await.unwrap();
        }
        commit(&lake, vec![late]).await;
        let round = attributor.round(&lake.view()).await.unwrap();
        assert_eq!((round.conversions, round.resolved, round.waiting), (0, 1, 2), "restarted: {is_restarted}");
        let rows = listed(&lake).await;
        assert_eq!(rows.len(), 3, "one row for each conversion: {rows:?}");
        assert_eq!(rows.iter().filter(|row| row.resolution == "unresolved").count(), 2);
        assert_eq!(ask(&lake, "click_date", &[]).await, json!([[1, 1, 5_000_000, 1.0]]));
        assert_eq!(attributor.round(&lake.view()).await.unwrap().conversions, 0, "taken up twice");
        assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
    }
}

#[tokio::test]
async fn a_transaction_stands_as_its_last_word_says() {
    use ConversionStatus::{Approved, Pending, Rejected};
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let first = click(1, T0_US);
    let id = first.id;
    commit(&lake, vec![first]).await;
    for (n, (status, counts)) in [(Pending, 0), (Approved, 1), (Rejected, 0)].into_iter().enumerate() {
        let at_us = T0_US + (n as i64 + 1) * DAY_US;
        commit(&lake, vec![conversion(9 + n as u128, Some(id), at_us, status)]).await;
        attribute(&lake).await;
        assert_eq!(listed(&lake).await.len(), n + 1);
        let rows = ask(&lake, "conversion_date", &[]).await;
        assert_eq!(rows, json!([[1, counts, counts * 5_000_000, counts as f64]]), "{status:?}");
        // Booked on the day of the first word, whatever is said later.
        let by_day = ask(&lake, "conversion_date", &["day"]).await;
        assert_eq!(by_day.as_array().unwrap().iter().any(|row| row[0] == "2023-11-15"), counts == 1, "{by_day}");
    }
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn a_person_is_followed_to_the_last_click_and_to_a_view_where_there_was_none() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let of = |person: u64, mut event: Event| {
        event.user_hash = Some(person);
        event
    };
    let view = |n, at_us| Event { kind: Kind::Impression, ..click(n, at_us) };
    let after = |person, id, at_us| {
        let event = Event::new(Uuid::from_u128(id), Kind::Conversion, at_us, "spring", "ad");
        of(person, event)
    };
    commit(
        &lake,
        vec![
            of(1, click(1, T0_US)),
            of(1, click(2, T0_US + SECOND_US)),
            of(1, view(3, T0_US + 2 * SECOND_US)),
            of(2, view(4, T0_US)),
            of(2, view(5, T0_US + DAY_US)),
            of(3, view(6, T0_US)),
            of(1, click(7, T0_US + 9 * SECOND_US)),
        ],
    )
    .await;
    let conversions = [
        (1, T0_US + 5 * SECOND_US, "last_click", Some("p2")),
        (2, T0_US + 5 * SECOND_US, "last_view", Some("p4")),
        (3, T0_US + DAY_US + 1, "unresolved", None),
        (4, T0_US, "unresolved", None),
    ];
    let events = conversions.iter().map(|(person, at_us, ..)| after(*person, 100 + u128::from(*person), *at_us));
    commit(&lake, events.collect()).await;
    attribute(&lake).await;
    let mut rows = listed(&lake).await;
    rows.sort_by(|a, b| a.event_id.cmp(&b.event_id));
    let found: Vec<_> = rows.iter().map(|row| row.resolution.as_str()).collect();
    assert_eq!(found, conversions.map(|(_, _, resolution, _)| resolution));
    let by_placement = ask(&lake, "click_date", &["placement_id"]).await;
    for (.., placement) in conversions.iter().filter(|(.., placement)| placement.is_some()) {
        let row = by_placement.as_array().unwrap().iter().find(|row| row[0] == json!(placement)).unwrap();
        assert_eq!(row[2], 1, "{by_placement}");
    }
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());
}

#[tokio::test]
async fn merging_files_loses_no_row_and_no_click_that_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let late = click(1, T0_US);
    let mut attributor = lake.attributor(windows()).await.unwrap();
    for n in 0..40_u128 {
        // Every other one has its click, and one waits for it.
        let known = click(2 + n as u8, T0_US + n as i64 * SECOND_US);
        let named = match n {
            7 => late.id,
            n if n % 2 == 0 => known.id,
            _ => Uuid::from_u128(n),
        };
        let mut event = conversion(1_000 + n, Some(named), T0_US + DAY_US, ConversionStatus::Approved);
        event.txn_id = Some(n.to_string());
        commit(&lake, vec![known, event]).await;
        attributor.round(&lake.view()).await.unwrap();
        lake.compact(CompactionSettings { files_min: 4, rows_max: 1_000 }).await.unwrap();
    }
    assert!(lake.view().sizes()[2].files < 40, "{:?}", lake.view().sizes());
    commit(&lake, vec![late]).await;
    assert_eq!(attributor.round(&lake.view()).await.unwrap().resolved, 1);
    let rows = listed(&lake).await;
    assert_eq!((rows.len(), rows.iter().filter(|row| row.touch_id.is_some()).count()), (40, 21));
    assert!(lake.queries().check(true, 86_400).await.unwrap().holds());

    // From nothing but `events`, all at once, the same comes out.
    let again = open(&folder.path().join("again")).await;
    let again_of = attribute(&again).await;
    assert_eq!(again_of, AttributionRound { is_level: true, ..AttributionRound::default() });
    let folder_of = |lake: &str| folder.path().join(lake);
    drop(again);
    std::fs::remove_dir_all(folder_of("again")).unwrap();
    std::fs::create_dir(folder_of("again")).unwrap();
    copy(&folder_of("events"), &folder_of("again/events"));
    copy(&folder_of("rollups"), &folder_of("again/rollups"));
    let again = open(&folder_of("again")).await;
    attribute(&again).await;
    let compared = lake.queries().compare(&again.queries()).await.unwrap();
    assert!(compared.is_identical(), "{:?}", compared.attributions);
    assert_eq!(compared.attributions.rows, [40, 40]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn positions_of_a_lake_without_conversions_are_shown_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, vec![click(1, T0_US)]).await;
    assert!(attribute(&lake).await.is_level);
    assert_eq!(lake.view().attributed, Positions::from_offsets(vec![1]));
    assert_eq!(listed(&lake).await, [], "a table without files cannot be listed");
    assert_eq!(ask(&lake, "conversion_date", &["campaign_id"]).await, json!([["spring", 1, 0, 0, 0.0]]));
}

/// A minute of clicks for each of so many commits, and conversions for clicks all over them: with ids of version 7, as capture
/// makes them, or of version 4, as clients do. What finding them cost.
async fn cost_of_finding(minutes: u64, clicks_per_minute: u64, version: u8) -> (AttributionRound, std::time::Duration) {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut named = Vec::new();
    for minute in 0..minutes {
        let start_us = T0_US + minute as i64 * 60 * SECOND_US;
        let clicks = (0..clicks_per_minute).map(|n| {
            let at_us = start_us + (n * 59_000_000 / clicks_per_minute) as i64;
            let bits =
                u128::from(minute * clicks_per_minute + n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let id = match version {
                7 => Builder::from_unix_timestamp_millis(
                    (at_us / 1_000) as u64,
                    &bits.to_be_bytes()[..10].try_into().unwrap(),
                )
                .into_uuid(),
                _ => Builder::from_random_bytes(bits.to_be_bytes()).into_uuid(),
            };
            Event::new(id, Kind::Click, at_us, ["spring", "summer", "autumn"][(n % 3) as usize], "ad")
        });
        let clicks: Vec<Event> = clicks.collect();
        named.push(clicks[clicks.len() / 2].id);
        commit(&lake, clicks).await;
    }
    let conversions = named.iter().enumerate().map(|(n, id)| {
        let mut event = conversion(1_000_000 + n as u128, Some(*id), T0_US + DAY_US / 2, ConversionStatus::Approved);
        event.txn_id = Some(n.to_string());
        event
    });
    let conversions: Vec<Event> = conversions.step_by(10).collect();
    let of = conversions.len() as u64;
    // The rounds before are somebody else's: only the search is measured.
    let mut attributor = lake.attributor(windows()).await.unwrap();
    while !attributor.round(&lake.view()).await.unwrap().is_level {}
    commit(&lake, conversions).await;
    let view = lake.view();
    let started = std::time::Instant::now();
    let round = attributor.round(&view).await.unwrap();
    assert_eq!((round.conversions, round.resolved), (of, of));
    (round, started.elapsed())
}

#[tokio::test]
async fn a_click_of_ours_is_looked_for_in_the_file_of_its_moment_and_nowhere_else() {
    let (round, _) = cost_of_finding(60, 50, 7).await;
    assert_eq!((round.conversions, round.searched.files, round.searched.row_groups), (6, 6, 6), "{round:?}");
    let (round, _) = cost_of_finding(60, 50, 4).await;
    assert_eq!(round.searched.files, 61, "a client's id says nothing of its time");
    assert!(round.searched.row_groups <= 20, "Bloom filters ruled out too little: {round:?}");
}

/// The figures of decision 17: `cargo test --workspace --test attribution -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes a minute"]
#[allow(clippy::print_stderr, reason = "a measurement")]
async fn finding_a_click_among_millions_takes_milliseconds() {
    for version in [7, 4] {
        let (round, took) = cost_of_finding(100, 30_000, version).await;
        let each_ms = took.as_secs_f64() * 1e3 / round.conversions as f64;
        eprintln!("version {version}: {:?}, {each_ms:.1} ms a conversion", round.searched);
        assert!(each_ms < 5_000.0, "{each_ms} ms");
    }
}
