//! `/v1/click` and `/v1/pixel.gif`: what a person's browser calls.

use std::time::Duration;

use axum::http::Method;
use tally_journal::JournalError;
use tally_model::{Kind, Purpose, SeededEntropy};

use super::{Door, Mood, NOW_US, STRANGER, request};
use crate::SigningKeys;

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
    assert_eq!(problem["cure"], "sign the link (`tally sign-link`), or add the host to capture.redirect_hosts");
    assert_eq!(door.events(), []);
}

#[tokio::test]
async fn a_campaign_with_a_list_of_its_own_goes_nowhere_else() {
    let door = Door::new();
    let status = async |campaign: &str, host: &str| {
        door.get(&format!("/v1/click?campaign_id={campaign}&ad_id=a&to=https://{host}")).await.status.as_u16()
    };
    assert_eq!((status("strict", "strict.example").await, status("strict", "shop.example").await), (302, 400));
    assert_eq!((status("c", "strict.example").await, status("c", "shop.example").await), (400, 302));
}

#[tokio::test]
async fn macros_in_the_destination_are_filled_in() {
    let door = Door::new();
    let to = "https%3A%2F%2Fshop.example%2F%7Bcampaign_id%7D%3Fv%3D%7Bvariant%7D%26id%3D%7Bclick_id%7D";
    let answer = door.get(&format!("/v1/click?campaign_id=c%26d&ad_id=a&variant=B&to={to}")).await.expect(302);
    assert_eq!(answer.headers["location"], format!("https://shop.example/c%26d?v=B&id={}", door.event().id));
}

/// A link to a host on no list, signed with a key that the door has found since it was opened.
fn signed(door: &Door, pairs: &[(&str, &str)]) -> String {
    let keys = SigningKeys::load_or_create(&door.keys.path().join("signing.keys"), &SeededEntropy::new(1)).unwrap();
    door.capture.refresh();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    format!("/v1/click?{}", keys.sign(None, &pairs, Some(NOW_US / 1_000_000 + 60)).unwrap())
}

const ANYWHERE: (&str, &str) = ("to", "https://anywhere.example/?id={click_id}");

#[tokio::test]
async fn a_signed_link_goes_where_it_was_signed_for() {
    let door = Door::new();
    let link = signed(&door, &[("campaign_id", "c"), ANYWHERE]);
    let answer = door.get(&format!("{link}&ad_id=a&placement_id=p")).await.expect(302);
    let event = door.event();
    assert_eq!(answer.headers["location"], format!("https://anywhere.example/?id={}", event.id));
    assert_eq!((event.placement_id.as_deref(), event.props), (Some("p"), None), "the signature is no prop");
    assert_eq!(door.metric(r#"tally_capture_files_read_total{file="signing_keys",outcome="read"}"#), 1.0);
}

#[tokio::test]
async fn what_is_signed_stays_whatever_is_added_behind() {
    let door = Door::new();
    let link = signed(&door, &[("campaign_id", "c"), ("cost_micros", "5"), ANYWHERE]);
    let added = "ad_id=a&campaign_id=d&cost_micros=9&to=https://evil.example&sig=x";
    let answer = door.get(&format!("{link}&{added}")).await.expect(302);
    let event = door.event();
    assert_eq!((event.campaign_id.as_str(), event.cost_micros), ("c", 5));
    assert!(answer.headers["location"].to_str().unwrap().starts_with("https://anywhere.example/"));
}

#[tokio::test]
async fn a_signature_that_does_not_hold_leads_nowhere_not_even_to_a_listed_host() {
    let door = Door::new();
    let unsigned = "/v1/click?campaign_id=c&ad_id=a&to=https://shop.example&sig=k1..AAAAAAAAAAAAAAAAAAAAAA";
    let problem = door.get(unsigned).await.expect(400).json();
    assert!(problem["what"].as_str().unwrap().contains("no signing keys"), "{problem}");
    let link = signed(&door, &[("campaign_id", "c"), ("ad_id", "a"), ANYWHERE]);
    let (all, signature) = link.split_once("sig=").unwrap();
    for (path, says) in [
        (unsigned.to_owned(), "does not belong"),
        (link.replace("anywhere", "evil"), "does not belong"),
        (link.replace("campaign_id=c", "campaign_id=d"), "does not belong"),
        (format!("/v1/click?sig={signature}&{}", all.trim_start_matches("/v1/click?")), "covers no destination"),
        (link.replace("sig=k1", "sig=k2"), "not among the signing keys"),
        (format!("{all}sig=whatever"), "no signature"),
    ] {
        let problem = door.get(&path).await.expect(400).json();
        assert_eq!(problem["field"], if says.contains("destination") { "to" } else { "sig" }, "{path}: {problem}");
        assert!(says.contains("destination") || problem["what"].as_str().unwrap().contains(says), "{path}: {problem}");
    }
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
