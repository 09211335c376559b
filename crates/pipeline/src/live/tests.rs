use tally_model::{Class, Device, Event, Kind, Reason, Verdict};

use super::*;

fn judged(at_s: i64, campaign: &str, kind: Kind, verdict: Verdict) -> Judged {
    let mut event = Event::new(uuid::Uuid::nil(), kind, 0, campaign, "a");
    event.received_at_us = at_s * US_PER_S + 999_999;
    event.cost_micros = 5;
    Judged { partition: 0, offset: 0, judged_at_s: at_s, device: Device::of(None), event, verdict }
}

fn click(at_s: i64, campaign: &str) -> Judged {
    judged(at_s, campaign, Kind::Click, Verdict::Counted)
}

fn window_of(events: &[Judged], now_s: i64) -> LiveWindow {
    let mut window = LiveWindow::default();
    window.add(part_of(events), now_s);
    window
}

fn part_of(events: &[Judged]) -> LivePart {
    let mut part = LivePart::default();
    events.iter().for_each(|judged| part.add(judged));
    part
}

#[test]
fn an_event_leaves_the_minute_after_sixty_seconds_and_the_window_after_three_hundred() {
    let mut window = window_of(&[click(1_000, "c")], 1_000);
    for (now_s, in_minute, in_five) in [(1_000, 1, 1), (1_059, 1, 1), (1_060, 0, 1), (1_299, 0, 1), (1_300, 0, 0)] {
        let view = window.view(now_s, 10);
        let clicks = |counts: Counts| counts.of(Kind::Click, Class::Counted);
        assert_eq!((clicks(view.minute), clicks(view.five_minutes)), (in_minute, in_five), "at {now_s}");
        assert_eq!(view.campaigns.len() as u64, in_five, "at {now_s}");
    }
    assert_eq!(window.cells(), 0);
}

#[test]
fn every_class_is_told_and_only_counted_events_cost() {
    let copy = judged(1_000, "c", Kind::Click, Verdict::Not(Reason::SameId));
    let robot = judged(1_001, "c", Kind::Impression, Verdict::Not(Reason::DeclaredBot));
    let view = window_of(&[click(1_000, "c"), copy, robot], 1_001).view(1_001, 10);
    assert_eq!(view.minute.received(), 3);
    assert_eq!(view.minute.of(Kind::Click, Class::Duplicate), 1);
    assert_eq!(view.minute.of(Kind::Impression, Class::InvalidGivt), 1);
    assert_eq!(view.minute.cost_micros, 5);
    assert_eq!((view.seconds.len(), view.seconds[298].received(), view.seconds[299].received()), (300, 2, 1));
}

#[test]
fn the_busiest_campaigns_come_first_and_the_rest_is_in_the_sums() {
    let events = [click(9, "quiet"), click(9, "busy"), click(10, "busy"), click(10, "also quiet")];
    let view = window_of(&events, 10).view(10, 2);
    let names: Vec<&str> = view.campaigns.iter().map(|campaign| &*campaign.campaign_id).collect();
    assert_eq!(names, ["busy", "also quiet"]);
    assert_eq!((view.campaigns_total, view.five_minutes.received()), (3, 4));
}

#[test]
fn parts_of_one_second_add_up_and_what_is_outside_the_window_is_left_out() {
    let mut window = window_of(&[click(500, "c"), click(200, "c"), click(501, "c")], 500);
    window.add(part_of(&[click(500, "c")]), 501);
    let view = window.view(501, 10);
    assert_eq!((view.five_minutes.received(), window.cells()), (2, 1));
    assert_eq!(window.view(499, 10).five_minutes.received(), 0, "the clock was set back");
}

#[test]
fn campaigns_beyond_the_bound_are_still_in_the_sums() {
    let names: Vec<String> = (0..CELLS_MAX + 7).map(|nth| nth.to_string()).collect();
    let events: Vec<Judged> = names.iter().map(|name| click(1, name)).collect();
    let mut window = LiveWindow::default();
    assert_eq!(window.add(part_of(&events), 1), 7);
    let view = window.view(1, 1);
    assert_eq!((window.cells(), view.unnamed), (CELLS_MAX, 7));
    assert_eq!(view.minute.received(), CELLS_MAX as u64 + 7);
}
