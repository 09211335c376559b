//! `/v1/postback`: what servers tell of conversions.

use axum::http::Method;
use tally_model::{ConversionStatus, Event, Kind, SeededEntropy};

use super::{Door, NOW_US, STRANGER, request};
use crate::{Caller, SigningKeys};

const CLICK: &str = "0199aa00-0000-7000-8000-000000000001";

fn keys(door: &Door) -> SigningKeys {
    let keys = SigningKeys::load_or_create(&door.keys.path().join("signing.keys"), &SeededEntropy::new(1)).unwrap();
    door.capture.refresh();
    keys
}

/// An address of a campaign, with its token.
fn address(door: &Door, campaign_id: &str) -> String {
    let token = keys(door).postback_token(None, campaign_id).unwrap();
    format!("/v1/postback?campaign_id={campaign_id}&click_id={CLICK}&token={token}")
}

#[tokio::test]
async fn a_postback_is_a_conversion_of_its_transaction() {
    let door = Door::new();
    let path = format!("{}&txn_id=order%207&amount=12.50&currency=eur&country=DE&sub=x", address(&door, "spring"));
    let headers = [("user-agent", "Java/17"), ("cf-ipcountry", "IE")];
    let answer = door.send(request(Method::GET, &path, STRANGER, &headers, "")).await.expect(200);
    let event = door.event();
    assert_eq!(answer.json()["event_id"], event.id.to_string());
    assert_eq!(answer.headers["cache-control"], "no-store");
    let expected = Event {
        click_id: Some(CLICK.to_owned()),
        txn_id: Some("order 7".to_owned()),
        status: Some(ConversionStatus::Approved),
        revenue_micros: 12_500_000,
        currency: Some("EUR".to_owned()),
        country: event.country,
        region: event.region,
        props: Some(r#"{"sub":"x"}"#.to_owned()),
        ..Event::new(event.id, Kind::Conversion, NOW_US, "spring", "")
    };
    assert_eq!(event, expected, "something of the server's connection or of the token is in the event");
    assert_eq!(event.country.map(|country| country.as_str().to_owned()).as_deref(), Some("DE"));
}

#[tokio::test]
async fn a_repeat_has_the_same_id_however_it_is_sent_and_a_change_of_status_has_another() {
    let door = Door::new();
    let address = address(&door, "spring");
    door.get(&format!("{address}&txn_id=7&amount=1")).await.expect(200);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    door.send(request(Method::POST, &address, STRANGER, &form, "txn_id=7&amount=1&status=approved")).await.expect(200);
    door.send(request(Method::POST, &address, STRANGER, &[], r#"{"txn_id":7,"amount":1.5,"x":null}"#))
        .await
        .expect(200);
    door.get(&format!("{address}&txn_id=7&status=rejected")).await.expect(200);
    door.get(&format!("{address}&txn_id=8")).await.expect(200);
    let mut ids: Vec<_> = door.events().iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 5);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "approved three times, rejected, and another transaction");
    // Fixed by the data on disk. Independently: HMAC-SHA-256 with the key 07..07 over `postback:` and the three texts.
    let first = door.events().into_iter().find(|event| event.txn_id.as_deref() == Some("8")).unwrap();
    assert_eq!(first.id.get_version_num(), 8);
}

#[tokio::test]
async fn without_a_token_of_its_campaign_nothing_gets_in() {
    let door = Door::new();
    let spring = address(&door, "spring");
    let all = keys(&door).postback_token(None, "").unwrap();
    let query = format!("click_id={CLICK}&txn_id=7");
    for path in [
        format!("/v1/postback?{query}"),
        format!("/v1/postback?{query}&token="),
        format!("/v1/postback?{query}&token=k1.AAAAAAAAAAAAAAAAAAAAAA&campaign_id=spring"),
        format!("{spring}&campaign_id=summer&txn_id=7"),
        spring.replace("campaign_id=spring", "x=y") + "&txn_id=7",
    ] {
        let refused = door.get(&path).await.expect(403);
        assert_eq!(refused.json()["type"], "urn:tally:problem:token");
        assert!(!refused.text().contains("AAAA"), "the token is quoted");
    }
    assert_eq!(door.events().len(), 0);
    door.get(&format!("/v1/postback?{query}&token={all}")).await.expect(200);
    door.get(&format!("/v1/postback?{query}&campaign_id=summer&token={all}")).await.expect(200);
    let mut with_key = request(Method::GET, &format!("/v1/postback?{query}&campaign_id=winter"), STRANGER, &[], "");
    with_key.extensions_mut().insert(Caller { key_id: 1 });
    door.send(with_key).await.expect(200);
    let mut campaigns: Vec<_> = door.events().iter().map(|event| event.campaign_id.clone()).collect();
    campaigns.sort_unstable();
    assert_eq!(campaigns, ["", "summer", "winter"]);
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_field() {
    let door = Door::new();
    let address = address(&door, "spring");
    for (rest, field) in [
        ("", "txn_id"),
        ("&txn_id={txn_id}", "txn_id"),
        ("&txn_id=7&click_id=%7Bclick_id%7D", "click_id"),
        ("&txn_id=7&status=maybe", "status"),
        ("&txn_id=7&amount=12,50", "amount"),
        ("&txn_id=7&amount=-1", "amount"),
        ("&txn_id=7&amount=1&revenue_micros=1", "amount"),
        ("&txn_id=7&amount=9999999999", "revenue_micros"),
        ("&txn_id=7&currency=EURO", "currency"),
        ("&txn_id=%FF", "txn_id"),
    ] {
        let refused = door.get(&format!("{address}{rest}")).await.expect(400);
        assert_eq!(refused.json()["field"], field, "{rest}: {}", refused.text());
    }
    let long = "x".repeat(65);
    assert_eq!(door.get(&format!("{address}&txn_id={long}")).await.expect(400).json()["field"], "txn_id");
    door.send(request(Method::HEAD, &format!("{address}&txn_id=7"), STRANGER, &[], "")).await;
    assert_eq!(door.events().len(), 0, "a HEAD asks, and says nothing");
}
