//! Claims about generated traffic. The recount reads nothing but the lines.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is an explanation")]

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tally_model::Device;
use tally_traffic::{Generator, Plan, PlanError, Truth, write_to};
use uuid::Uuid;

fn plan(seed: u64) -> Plan {
    Plan { seed, events: 15_000, ..Plan::default() }
}

fn written(plan: Plan) -> (String, Truth) {
    let mut bytes = Vec::new();
    let truth = write_to(plan, &mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), truth)
}

fn text<'a>(event: &'a Value, field: &str) -> Option<&'a str> {
    event.get(field).map(|value| value.as_str().unwrap_or_else(|| panic!("`{field}` is no text in {event}")))
}

fn required<'a>(event: &'a Value, field: &str) -> &'a str {
    text(event, field).unwrap_or_else(|| panic!("`{field}` is missing in {event}"))
}

/// The truth, told from the lines alone. What was planted cannot be told from them.
fn recount(lines: &str) -> Truth {
    let mut truth = Truth::default();
    let (mut seen, mut users) = (HashSet::new(), HashMap::<String, HashSet<String>>::new());
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let kind = required(&event, "kind").to_owned();
        *truth.received.entry(kind.clone()).or_default() += 1;
        if !seen.insert(Uuid::parse_str(required(&event, "event_id")).unwrap()) {
            *truth.duplicate.entry(kind).or_default() += 1;
            continue;
        }
        let device = Device::of(text(&event, "user_agent"));
        if device.is_robot() {
            *truth.invalid_givt.entry(kind).or_default() += 1;
            continue;
        }
        *truth.counted.entry(kind.clone()).or_default() += 1;
        let occurred_at: Timestamp = required(&event, "occurred_at").parse().unwrap();
        let (day, campaign) = (Offset::UTC.to_datetime(occurred_at).date(), required(&event, "campaign_id"));
        let add = |counts: &mut tally_traffic::generate::Counts, value: &str| {
            *counts.entry(format!("{value}|{kind}")).or_default() += 1;
        };
        add(&mut truth.by_campaign_id, campaign);
        add(&mut truth.by_campaign_variant, &format!("{campaign}|{}", required(&event, "variant")));
        add(&mut truth.by_utc_day, &day.to_string());
        add(&mut truth.by_device, device.device);
        for (counts, field) in [
            (&mut truth.by_ad_id, "ad_id"),
            (&mut truth.by_placement_id, "placement_id"),
            (&mut truth.by_publisher_id, "publisher_id"),
            (&mut truth.by_variant, "variant"),
            (&mut truth.by_gender, "gender"),
            (&mut truth.by_age_group, "age_group"),
            (&mut truth.by_country, "country"),
        ] {
            if let Some(value) = text(&event, field) {
                add(counts, value);
            }
        }
        for (field, by_kind, by_campaign_id, by_currency) in [
            (
                "cost_micros",
                &mut truth.cost_micros,
                &mut truth.cost_micros_by_campaign_id,
                &mut truth.cost_micros_by_currency,
            ),
            (
                "revenue_micros",
                &mut truth.revenue_micros,
                &mut truth.revenue_micros_by_campaign_id,
                &mut truth.revenue_micros_by_currency,
            ),
        ] {
            let Some(micros) = event.get(field).map(|value| value.as_i64().unwrap()) else { continue };
            *by_kind.entry(kind.clone()).or_default() += micros;
            *by_campaign_id.entry(campaign.to_owned()).or_default() += micros;
            *by_currency.entry(required(&event, "currency").to_owned()).or_default() += micros;
        }
        if let Some(user) = text(&event, "user_id") {
            users.entry(kind).or_default().insert(user.to_owned());
        }
    }
    truth.distinct_users_total = users.values().flatten().collect::<HashSet<_>>().len() as u64;
    truth.distinct_users = users.into_iter().map(|(kind, users)| (kind, users.len() as u64)).collect();
    truth
}

#[test]
fn the_truth_is_what_a_recount_of_the_lines_finds() {
    let crowded = Plan { campaigns: 1, ads_per_campaign: 1, publishers: 1, duration_s: 60, ..plan(4) };
    let long =
        Plan { duration_s: 9 * 86_400, duplicate_fraction: 0.2, late_fraction: 0.3, bot_fraction: 0.1, ..plan(5) };
    for plan in [plan(1), plan(2), plan(3), crowded, long] {
        let (lines, truth) = written(plan.clone());
        let found = Truth { planted: truth.planted.clone(), ..recount(&lines) };
        assert_eq!(found, truth, "{plan:?}");
    }
}

#[test]
fn the_same_plan_yields_the_same_bytes_and_another_seed_others() {
    assert_eq!(written(plan(1)), written(plan(1)));
    assert_ne!(written(plan(1)).0, written(plan(2)).0);
    let iterated: String = Generator::new(plan(1)).unwrap().map(|event| event.line + "\n").collect();
    assert_eq!(iterated, written(plan(1)).0, "the iterator and the writer differ");
}

#[test]
fn a_plan_yields_these_bytes_on_every_machine() {
    // Fixed by the truths that others keep: whoever changes this says so in the changelog.
    let hash = Sha256::digest(written(plan(1)).0);
    assert_eq!(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>(), "c933a0f33894c781");
}

#[test]
fn every_line_carries_what_an_event_must() {
    let (lines, _) = written(plan(1));
    let mut clicks = HashSet::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(line.len() < 1_000, "a line of {} bytes: {line}", line.len());
        for field in ["event_id", "kind", "occurred_at", "campaign_id", "ad_id", "ip", "user_agent", "country"] {
            assert!(!required(&event, field).is_empty(), "`{field}` is empty in {line}");
        }
        match required(&event, "kind") {
            "impression" => {}
            "click" => {
                assert!((0.0..1.0).contains(&event["x"].as_f64().unwrap()), "x lies outside of the ad in {line}");
                clicks.insert(required(&event, "event_id").to_owned());
            }
            "conversion" => {
                assert!(clicks.contains(required(&event, "click_id")), "no click came before {line}");
                assert!(event["revenue_micros"].as_i64().unwrap() > 0 && event["currency"].is_string(), "{line}");
            }
            other => panic!("`{other}` is no kind"),
        }
    }
    assert!(clicks.len() > 500, "only {} clicks", clicks.len());
}

#[test]
fn a_click_shares_its_impressions_campaign_ad_and_user_and_comes_soon_after() {
    let plan = Plan { duplicate_fraction: 0.0, bot_fraction: 0.0, ..plan(1) };
    let mut shown = HashMap::<[Option<String>; 4], Vec<Timestamp>>::new();
    let (lines, _) = written(plan);
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let what = ["campaign_id", "ad_id", "user_agent", "ip"].map(|field| text(&event, field).map(str::to_owned));
        let at: Timestamp = required(&event, "occurred_at").parse().unwrap();
        match required(&event, "kind") {
            "impression" => shown.entry(what).or_default().push(at),
            "click" => {
                let waited = |then: &Timestamp| at.duration_since(*then).as_secs_f64();
                let is_soon =
                    shown.get(&what).is_some_and(|times| times.iter().any(|then| (0.0..70.0).contains(&waited(then))));
                assert!(is_soon, "no impression shortly before {line}");
            }
            _ => {}
        }
    }
}

#[test]
fn no_person_clicks_the_same_ad_twice_within_ten_seconds() {
    // So dense that it would happen all the time.
    let plan = Plan { duration_s: 600, campaigns: 1, ads_per_campaign: 1, click_fraction: 0.5, ..plan(3) };
    let (mut clicks, mut ids) = (HashMap::<String, Vec<Timestamp>>::new(), HashSet::new());
    for line in written(plan).0.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let is_first = ids.insert(required(&event, "event_id").to_owned());
        if let Some(user) = text(&event, "user_id").filter(|_| is_first && required(&event, "kind") == "click") {
            clicks.entry(user.to_owned()).or_default().push(required(&event, "occurred_at").parse().unwrap());
        }
    }
    assert!(clicks.values().any(|times| times.len() > 5), "nobody clicks often");
    for (user, times) in &mut clicks {
        times.sort_unstable();
        for pair in times.windows(2) {
            let apart_us = pair[1].as_microsecond() - pair[0].as_microsecond();
            assert!(apart_us >= 10_000_000, "{user} clicks at {} and {}", pair[0], pair[1]);
        }
    }
}

#[test]
fn shares_are_as_planned() {
    let (_, truth) = written(Plan { events: 100_000, ..plan(9) });
    let received = Truth::total(&truth.received);
    assert_eq!(received, 100_000);
    let check = |what: &str, part: u64, low: f64, high: f64| {
        let share = part as f64 / received as f64;
        assert!((low..high).contains(&share), "{what}: {share:.4} of all, expected {low} to {high}");
    };
    check("duplicates", Truth::total(&truth.duplicate), 0.027, 0.033);
    check("robots", Truth::total(&truth.invalid_givt), 0.017, 0.022);
    check("late", truth.planted["late"], 0.016, 0.022);
    check("impressions", truth.received["impression"], 0.88, 0.95);
    check("clicks", truth.received["click"], 0.05, 0.09);
    check("conversions", truth.received["conversion"], 0.004, 0.012);
    check("resent long after", truth.planted["resent_old"], 0.005, 0.01);
    check("resent with other figures", truth.planted["resent_altered"], 0.005, 0.01);
    let rate = |variant: &str| {
        truth.by_variant[&format!("{variant}|click")] as f64 / truth.by_variant[&format!("{variant}|impression")] as f64
    };
    assert!(rate("b") > rate("a") * 1.1, "b clicks at {}, a at {}", rate("b"), rate("a"));
    assert!(truth.cost_micros_by_currency.len() == 2 && truth.by_utc_day.len() >= 2, "{truth:?}");
}

#[test]
fn live_events_occur_now_and_are_counted_too() {
    let mut generator = Generator::new(Plan { late_fraction: 0.0, duplicate_fraction: 0.0, ..plan(1) }).unwrap();
    let now_us = 1_900_000_000_000_000;
    for tick in 0..5_000 {
        let event: Value = serde_json::from_str(&generator.next_at(now_us + tick * 10_000).line).unwrap();
        let occurred_at: Timestamp = required(&event, "occurred_at").parse().unwrap();
        let ago_us = now_us + tick * 10_000 - occurred_at.as_microsecond();
        assert!((0..70_000_000).contains(&ago_us), "an event of {ago_us} us ago passes for live");
    }
    let truth = generator.truth();
    assert_eq!(Truth::total(&truth.received), 5_000);
    assert!(truth.received["conversion"] > 0, "a short demo shows no conversion");
}

#[test]
fn a_plan_that_cannot_be_kept_is_refused() {
    let refused = |plan: Plan| Generator::new(plan).err();
    let fraction = PlanError::Fraction { field: "bot_fraction", value: 1.5, max: 1.0 };
    assert_eq!(refused(Plan { bot_fraction: 1.5, ..plan(1) }), Some(fraction));
    assert_eq!(refused(Plan { campaigns: 0, ..plan(1) }), Some(PlanError::Zero { field: "campaigns" }));
    assert_eq!(refused(Plan { start_us: i64::MAX, ..plan(1) }), Some(PlanError::Span));
    assert!(refused(Plan { late_fraction: f64::NAN, ..plan(1) }).is_some(), "NaN was taken for a fraction");
}

#[test]
fn a_truth_reads_back_from_its_json() {
    let (_, truth) = written(plan(1));
    let json = serde_json::to_string(&truth).unwrap();
    assert_eq!(serde_json::from_str::<Truth>(&json).unwrap(), truth);
}
