//! Signals of consent and privacy, taken along as they come.

use axum::http::Method;
use tally_model::Privacy;

use super::{CLICK, Door, LOOPBACK, STRANGER, request};

async fn privacy_of(query: &str) -> Option<Box<Privacy>> {
    let door = Door::new();
    door.get(&format!("/v1/pixel.gif?campaign_id=c&ad_id=a&{query}")).await.expect(200);
    door.event().privacy
}

#[tokio::test]
async fn a_query_says_the_same_as_json() {
    let query = "gdpr=1&gdpr_consent=CPX.YA&gpp=DBABMA~CPX&gpp_sid=2,6&us_privacy=1YN-&gpc=0";
    let expected = Privacy {
        gdpr: Some(true),
        gdpr_consent: Some("CPX.YA".into()),
        gpp: Some("DBABMA~CPX".into()),
        gpp_sid: Some("2,6".into()),
        us_privacy: Some("1YN-".into()),
        gpc: Some(false),
    };
    assert_eq!(privacy_of(query).await, expected.some());
    let door = Door::new();
    let body = CLICK.replace('}', r#","gdpr":"0","gpp_sid":[2,6]}"#);
    door.post("/v1/events", body).await.expect(202);
    let expected = Privacy { gdpr: Some(false), gpp_sid: Some("2,6".into()), ..Privacy::default() };
    assert_eq!(door.event().privacy, expected.some());
}

#[tokio::test]
async fn what_nobody_filled_in_was_not_said_and_costs_no_click() {
    assert_eq!(privacy_of("gdpr=&gdpr_consent=").await, None);
    let unfilled = "gdpr=$%7BGDPR%7D&gdpr_consent=$%7BGDPR_CONSENT_755%7D&gpp=%7Bgpp%7D&us_privacy=%5BUSP%5D&gpp_sid=%25%25SID%25%25";
    assert_eq!(privacy_of(unfilled).await, None);
}

#[tokio::test]
async fn a_browser_says_global_privacy_control_of_itself_and_not_of_others() {
    for (path, peer, header, expected) in [
        ("/v1/events", STRANGER, ("sec-gpc", "1"), Some(true)),
        ("/v1/events", STRANGER, ("sec-gpc", "0"), None),
        ("/v1/events", STRANGER, ("dnt", "1"), None),
        ("/v1/events/batch", LOOPBACK, ("sec-gpc", "1"), None),
    ] {
        let door = Door::new();
        door.send(request(Method::POST, path, peer, &[header], CLICK)).await.expect(202);
        assert_eq!(door.event().privacy.and_then(|privacy| privacy.gpc), expected, "{path} {header:?}");
    }
}

#[tokio::test]
async fn a_signal_that_is_none_is_refused_and_never_cut() {
    let door = Door::new();
    let long = "x".repeat(4_097);
    for (field, value, says) in [
        ("gdpr", "yes", "neither 0 nor 1"),
        ("gpc", "2", "neither 0 nor 1"),
        ("gdpr_consent", long.as_str(), "4097 bytes"),
        ("gpp", long.as_str(), "4097 bytes"),
        ("gdpr_consent", "a%20b", "letters, digits and signs"),
        ("gpp_sid", long.as_str(), "4097 bytes"),
        ("us_privacy", "1YNNN", "U.S. Privacy string"),
        ("us_privacy", "YYNN", "U.S. Privacy string"),
        ("subdivision", "California", "part of a country"),
        ("country=DE&subdivision", "US-CA", "is not in"),
    ] {
        let problem =
            door.get(&format!("/v1/pixel.gif?campaign_id=c&ad_id=a&{field}={value}")).await.expect(400).json();
        assert_eq!(problem["field"], field.rsplit('&').next().unwrap_or_default(), "{field}={value}: {problem}");
        assert!(problem["what"].as_str().unwrap_or_default().contains(says), "{field}={value}: {problem}");
    }
    assert_eq!(door.events(), []);
    door.get(&format!("/v1/pixel.gif?campaign_id=c&ad_id=a&gdpr_consent={}", &long[..4_096])).await.expect(200);
}

#[tokio::test]
async fn a_subdivision_says_the_country_too() {
    let door = Door::new();
    door.get("/v1/pixel.gif?campaign_id=c&ad_id=a&subdivision=us-ca").await.expect(200);
    let event = door.event();
    let country = event.country.map(|country| country.as_str().to_owned());
    assert_eq!((country.as_deref(), event.region.as_str()), (Some("US"), "na"));
}
