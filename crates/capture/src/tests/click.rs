//! `/v1/click` and `/v1/pixel.gif`: what a person's browser calls.

use std::time::Duration;

use axum::http::Method;
use tally_journal::JournalError;
use tally_model::{Kind, Purpose};

use super::{Door, Mood, NOW_US, STRANGER, request};

const SHOP: &str = "/v1/click?campaign_id=c&ad_id=a&to=https%3A%2F%2Fshop.example%2Fshoes%3Fsize%3D42";

#[tokio::test]
async fn a_click_is_kept_and_goes_on_with_its_id() {
    let door = Door::new();
    let headers = [("user-agent", "Mozilla/5.0"), ("referer", "https://news.example/")];
    let path = format!("{SHOP}&variant=B&utm_source=n");
    let answer = door.send(request(Method::GET, &path, STRANGER, &headers, "")).await.expect(302);
    let event = door.event();
    let location = format!("https://shop.example/shoes?size=42&click_id={}", event.id);
    assert_eq!(answer.headers["location"], location);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!((event.kind, event.occurred_at_us, event.received_at_us), (Kind::Click, NOW_US, NOW_US));
    assert_eq!((event.campaign_id.as_str(), event.ad_id.as_str(), event.variant.as_deref()), ("c", "a", Some("B")));
    assert_eq!(event.user_agent.as_deref(), Some("Mozilla/5.0"));
    assert_eq!(event.referrer.as_deref(), Some("https://news.example/"));
    assert_eq!(event.props.as_deref(), Some(r#"{"utm_source":"n"}"#), "`to` is no prop");
}

#[tokio::test]
async fn a_head_gets_the_same_answer_and_its_event_is_marked() {
    let door = Door::new();
    let answer = door.send(request(Method::HEAD, SHOP, STRANGER, &[], "")).await.expect(302);
    assert!(answer.headers["location"].to_str().unwrap().starts_with("https://shop.example/shoes?size=42&click_id="));
    let event = door.event();
    assert_eq!((event.purpose, event.props), (Some(Purpose::Head), None));
}

#[tokio::test]
async fn what_is_fetched_ahead_gets_the_same_answer_and_its_event_is_marked() {
    for path in [SHOP, "/v1/pixel.gif?campaign_id=c&ad_id=a"] {
        let door = Door::new();
        let person = door.get(path).await;
        let machine = door.send(request(Method::GET, path, STRANGER, &[("sec-purpose", "prefetch")], "")).await;
        assert_eq!((machine.status, machine.body), (person.status, person.body), "{path}");
        let purposes: Vec<_> = door.events().iter().map(|event| event.purpose).collect();
        assert!(purposes.contains(&None) && purposes.contains(&Some(Purpose::Prefetch)), "{path}: {purposes:?}");
    }
}

#[tokio::test]
async fn nobody_is_sent_to_a_host_that_is_not_listed() {
    let door = Door::new();
    for to in [
        "https%3A%2F%2Fevil.example",
        "%2F%2Fshop.example",
        "javascript%3Aalert(1)",
        "https%3A%2F%2Fshop.example%40evil.example",
        "",
    ] {
        let problem = door.get(&format!("/v1/click?campaign_id=c&ad_id=a&to={to}")).await.expect(400).json();
        assert_eq!(problem["field"], "to", "{to}: {problem}");
    }
    let problem = door.get("/v1/click?campaign_id=c&ad_id=a&to=https://evil.example").await.json();
    assert_eq!(problem["cure"], "add the host to capture.redirect_hosts");
    assert_eq!(door.events(), []);
}

#[tokio::test]
async fn a_wrong_field_in_a_query_is_named() {
    let door = Door::new();
    for (path, field) in [
        ("/v1/click?campaign_id=c&to=https://shop.example", "ad_id"),
        ("/v1/click?campaign_id=c&ad_id=a&to=https://shop.example&cost_micros=1.5", "cost_micros"),
        ("/v1/click?campaign_id=c%FF&ad_id=a&to=https://shop.example", "campaign_id"),
        ("/v1/pixel.gif?campaign_id=c&ad_id=a&x=NaN", "x"),
        ("/v1/pixel.gif?campaign_id=c&ad_id=a&event_id=7", "event_id"),
        ("/v1/pixel.gif?campaign_id=c&ad_id=a&props=7", "props"),
        ("/v1/pixel.gif", "campaign_id"),
    ] {
        assert_eq!(door.get(path).await.expect(400).json()["field"], field, "{path}");
    }
    assert_eq!(door.events(), []);
}

#[tokio::test]
async fn a_pixel_counts_an_impression_and_is_never_cached() {
    let door = Door::new();
    let answer =
        door.get("/v1/pixel.gif?campaign_id=c&ad_id=a&country=us&props=%7B%22slot%22:3%7D&event_id=").await.expect(200);
    assert_eq!((answer.headers["content-type"].as_bytes(), answer.body.len()), (&b"image/gif"[..], 43));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!((&answer.body[..6], answer.body[42]), (&b"GIF89a"[..], b';'));
    let event = door.event();
    assert_eq!((event.kind, event.props.as_deref()), (Kind::Impression, Some(r#"{"slot":3}"#)));
}

#[tokio::test(start_paused = true)]
async fn a_person_waits_a_bounded_time_for_the_journal_and_goes_on() {
    for (mood, wait_ms) in [
        (Mood::Silent, 250),
        (Mood::Refuses(JournalError::Poisoned { cause: "disk".into() }), 0),
        (Mood::Breaks(JournalError::Closed), 0),
    ] {
        let door = Door::with_mood(mood.clone());
        let began = tokio::time::Instant::now();
        let answer = door.get(SHOP).await.expect(302);
        let waited = began.elapsed();
        assert!(
            waited >= Duration::from_millis(wait_ms) && waited < Duration::from_millis(wait_ms + 20),
            "{mood:?}: {waited:?}"
        );
        assert!(answer.headers["location"].to_str().unwrap().starts_with("https://shop.example/"));
        assert_eq!(door.metric("tally_capture_redirects_unrecorded_total"), 1.0, "{mood:?}");
        assert_eq!(door.metric(r#"tally_capture_received_events_total{kind="click"}"#), 0.0, "{mood:?}");
        assert_eq!(door.metric("tally_capture_journal_wait_seconds_count"), 1.0, "{mood:?}");
    }
}
