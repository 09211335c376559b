//! Claims about rate limits, from the request to the record.

use axum::body::Body;
use axum::http::{Method, Request};

use super::*;
use crate::{Caller, LimitSettings, OverLimit};

const CLICK_URL: &str = "/v1/click?campaign_id=c&ad_id=a&to=https%3A%2F%2Fshop.example%2F";

fn by_user(user: &str, campaign: &str) -> String {
    format!(r#"{{"kind":"click","campaign_id":"{campaign}","ad_id":"a","user_id":"{user}"}}"#)
}

fn from_stranger(path: &str, body: impl Into<Body>) -> Request<Body> {
    request(Method::POST, path, STRANGER, &[], body)
}

async fn statuses(door: &Door, times: usize, request: impl Fn() -> Request<Body>) -> Vec<u16> {
    let mut statuses = Vec::with_capacity(times);
    for _ in 0..times {
        statuses.push(door.send(request()).await.status.as_u16());
    }
    statuses
}

fn marked(door: &Door) -> usize {
    door.events().iter().filter(|event| event.is_rate_limited()).count()
}

#[tokio::test]
async fn an_address_that_sends_too_much_is_told_when_to_come_back() {
    let door = Door::with_limits(LimitSettings { ip_per_s: 1, ..LimitSettings::default() });
    assert_eq!(statuses(&door, 10, || from_stranger("/v1/events", CLICK)).await, [202; 10]);
    let refused = door.send(from_stranger("/v1/events", CLICK)).await.expect(429);
    assert_eq!(refused.headers["retry-after"], "2");
    assert_eq!(refused.json()["type"], "urn:tally:problem:rate-limited");
    door.get("/v1/pixel.gif?campaign_id=c&ad_id=a").await.expect(429);
    door.send(from_stranger("/v1/events/batch", CLICK)).await.expect(429);
    assert_eq!(door.events().len(), 10);
    let other = request(Method::POST, "/v1/events", "203.0.113.10:1", &[], CLICK);
    door.send(other).await.expect(202);
    door.clock.advance_ms(1_000);
    assert_eq!(statuses(&door, 2, || from_stranger("/v1/events", CLICK)).await, [202, 429]);
    assert_eq!(door.metric(r#"tally_limits_exceeded_total{limit="ip",outcome="refused"}"#), 4.0);
}

#[tokio::test]
async fn a_person_behind_a_busy_address_is_still_redirected_and_the_click_is_kept_with_a_mark() {
    let door = Door::with_limits(LimitSettings { ip_per_s: 1, ..LimitSettings::default() });
    for _ in 0..12 {
        door.get(CLICK_URL).await.expect(302);
    }
    assert_eq!((door.events().len(), marked(&door)), (12, 2));
    assert_eq!(door.metric(r#"tally_limits_exceeded_total{limit="ip",outcome="marked"}"#), 2.0);
}

#[tokio::test]
async fn our_own_servers_and_who_shows_a_key_are_not_limited_by_address() {
    let door = Door::with_limits(LimitSettings { ip_per_s: 1, ..LimitSettings::default() });
    let from_here = || request(Method::POST, "/v1/events", LOOPBACK, &[], CLICK);
    let from_ours = || request(Method::POST, "/v1/events", "10.0.0.1:1", &[], CLICK);
    let with_key = || {
        let mut request = from_stranger("/v1/events", CLICK);
        request.extensions_mut().insert(Caller { key_id: 1 });
        request
    };
    assert_eq!(statuses(&door, 15, from_here).await, [202; 15]);
    assert_eq!(statuses(&door, 15, from_ours).await, [202; 15]);
    assert_eq!(statuses(&door, 15, with_key).await, [202; 15]);
}

#[tokio::test]
async fn events_over_a_persons_or_a_campaigns_limit_are_kept_with_a_mark() {
    let door = Door::with_limits(LimitSettings { user_per_s: 1, campaign_per_s: 2, ..LimitSettings::default() });
    for _ in 0..12 {
        door.post("/v1/events", by_user("alice", "c")).await.expect(202);
    }
    assert_eq!(marked(&door), 2, "the eleventh and the twelfth of one person");
    for n in 0..12 {
        door.post("/v1/events", by_user(&n.to_string(), "c")).await.expect(202);
    }
    assert_eq!(marked(&door), 4, "10 of alice and 10 of others are the campaign's 20");
    door.post("/v1/events", by_user("bob", "other")).await.expect(202);
    assert_eq!(marked(&door), 4);
    assert_eq!(door.metric(r#"tally_limits_exceeded_total{limit="campaign",outcome="marked"}"#), 2.0);
}

#[tokio::test]
async fn a_batch_is_kept_whole_and_what_is_over_a_limit_in_it_is_marked() {
    let settings = LimitSettings { campaign_per_s: 1, over_limit: OverLimit::Refuse, ..LimitSettings::default() };
    let door = Door::with_limits(settings);
    let answer = door.post("/v1/events/batch", format!("{CLICK}\n").repeat(25)).await.expect(202);
    assert_eq!(answer.json()["accepted"], 25);
    assert_eq!(marked(&door), 15);
}

#[tokio::test]
async fn where_that_is_asked_for_single_events_over_a_limit_are_refused_and_people_still_redirected() {
    let settings = LimitSettings { campaign_per_s: 1, over_limit: OverLimit::Refuse, ..LimitSettings::default() };
    let door = Door::with_limits(settings);
    assert_eq!(statuses(&door, 10, || from_stranger("/v1/events", CLICK)).await, [202; 10]);
    let refused = door.post("/v1/events", CLICK).await.expect(429);
    assert!(
        refused.json()["detail"].as_str().unwrap().contains("this campaign gets events faster"),
        "{}",
        refused.text()
    );
    door.get(CLICK_URL).await.expect(302);
    assert_eq!((door.events().len(), marked(&door)), (10, 0));
    assert_eq!(door.metric(r#"tally_limits_exceeded_total{limit="campaign",outcome="refused"}"#), 2.0);
    assert_eq!(door.metric("tally_capture_redirects_unrecorded_total"), 0.0);
}

#[tokio::test]
async fn what_a_trusted_server_brings_of_the_past_comes_at_whatever_rate_a_file_is_read() {
    let door = Door::with_limits(LimitSettings { user_per_s: 1, ..LimitSettings::default() });
    let past = by_user("alice", "c").replace('}', r#","occurred_at":"2023-11-14T22:12:19Z"}"#);
    let batch = format!("{past}\n").repeat(25);
    door.post("/v1/events/batch", batch.clone()).await.expect(202);
    assert_eq!(marked(&door), 0);
    door.send(from_stranger("/v1/events/batch", batch)).await.expect(202);
    assert_eq!(marked(&door), 15, "a stranger says what suits him");
}

#[tokio::test]
async fn a_batch_is_charged_to_its_key_by_its_events() {
    let door = Door::with_limits(LimitSettings { key_per_s: 10, ..LimitSettings::default() });
    let caller = Caller { key_id: 7 };
    assert_eq!(door.capture.limits.key(caller), Ok(()));
    let mut batch = from_stranger("/v1/events/batch", format!("{CLICK}\n").repeat(120));
    batch.extensions_mut().insert(caller);
    door.send(batch).await.expect(202);
    let limited = door.capture.limits.key(caller).unwrap_err();
    assert_eq!(limited.retry_after_s(), 3, "20 events and the next one over 100 are earned in 2.1 s");
    assert_eq!(door.capture.limits.key(Caller { key_id: 8 }), Ok(()));
    door.clock.advance_ms(2_100);
    assert_eq!(door.capture.limits.key(caller), Ok(()));
}
