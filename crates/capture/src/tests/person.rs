//! What may name a person stays at the door, and nobody passes for somebody else.

use axum::http::Method;

use super::{Answer, CLICK, Door, LOOPBACK, STRANGER, request};
use crate::Caller;

const USER: &str = "alice@example.com";
const ADDRESS: &str = "198.51.100.4";

fn body() -> String {
    CLICK.replace('}', &format!(r#","user_id":"{USER}","ip":"{ADDRESS}","user_agent":"Body/1"}}"#))
}

async fn send(door: &Door, path: &str, peer: &str, headers: &[(&str, &str)], body: String) -> Answer {
    let headers = [headers, &[("user-agent", "Connection/1")]].concat();
    door.send(request(Method::POST, path, peer, &headers, body)).await
}

#[tokio::test]
async fn raw_ids_and_addresses_are_nowhere_after_the_door() {
    let door = Door::new();
    let mut seen = String::new();
    let broken = body().replace(r#""ad_id":"a""#, r#""ad_id":7"#);
    let wrong_ip = body().replace(ADDRESS, "198.51.100.4.5");
    let wrong_user = body().replace(&format!("\"{USER}\""), &format!("[\"{USER}\"]"));
    for text in [body(), broken, wrong_ip, wrong_user, body().replace('}', ""), format!("\"{USER} {ADDRESS}\"")] {
        for path in ["/v1/events", "/v1/events/batch"] {
            seen += &send(&door, path, LOOPBACK, &[("x-forwarded-for", ADDRESS)], text.clone()).await.text();
            seen += &send(&door, path, LOOPBACK, &[], text.clone()).await.text();
        }
    }
    let query = format!("/v1/pixel.gif?campaign_id=c&ad_id=a&user_id={USER}&ip={ADDRESS}");
    seen += &door.get(&query).await.text();
    seen += &format!("{:?} {:?} {:?}", door.capture, door.capture.key, door.events());
    prometheus_client::encoding::text::encode(&mut seen, &door.registry).unwrap();
    assert!(door.events().len() >= 5, "too little was taken for this to prove anything");
    for personal in ["alice", "198.51"] {
        assert!(!seen.contains(personal), "{personal} got out: {seen}");
    }
    for event in door.events() {
        let record = tally_model::encode_record(&event);
        for personal in [USER.as_bytes(), ADDRESS.as_bytes(), &[198, 51, 100, 4]] {
            assert!(!record.windows(personal.len()).any(|bytes| bytes == personal), "{event:?}");
        }
    }
}

/// Whose address and agent an event gets that names its own in the body.
async fn check(
    path: &str,
    peer: &str,
    forwarded_for: &[(&str, &str)],
    address: Option<&str>,
    agent: Option<&str>,
    body: String,
) {
    let door = Door::new();
    send(&door, path, peer, forwarded_for, body).await.expect(202);
    let event = door.event();
    let expected = address.map(|address| door.capture.key.ip(address.parse().unwrap()));
    assert_eq!(event.ip_hash, expected, "{path} from {peer} {forwarded_for:?}");
    assert_eq!(event.user_agent.as_deref(), agent, "{path} from {peer} {forwarded_for:?}");
}

#[tokio::test]
async fn only_our_own_servers_say_who_it_was() {
    let visitor = [("x-forwarded-for", "192.0.2.1")];
    for path in ["/v1/events", "/v1/events/batch"] {
        check(path, LOOPBACK, &[], Some(ADDRESS), Some("Body/1"), body()).await;
        check(path, "10.1.2.3:80", &[], Some(ADDRESS), Some("Body/1"), body()).await;
        check(path, STRANGER, &[], Some("203.0.113.9"), Some("Connection/1"), body()).await;
        check(path, STRANGER, &visitor, Some("203.0.113.9"), Some("Connection/1"), body()).await;
        check(path, "10.1.2.3:80", &visitor, Some("192.0.2.1"), Some("Connection/1"), body()).await;
    }
}

#[tokio::test]
async fn a_batch_of_our_own_server_does_not_make_that_server_the_visitor() {
    check("/v1/events/batch", LOOPBACK, &[], None, None, CLICK.into()).await;
    check("/v1/events/batch", STRANGER, &[], Some("203.0.113.9"), Some("Connection/1"), CLICK.into()).await;
    check("/v1/events", LOOPBACK, &[], Some("127.0.0.1"), Some("Connection/1"), CLICK.into()).await;
}

#[tokio::test]
async fn what_a_stranger_says_of_its_address_is_not_even_checked() {
    let door = Door::new();
    let body = CLICK.replace('}', r#","ip":{"a":1},"user_agent":7}"#);
    send(&door, "/v1/events", STRANGER, &[], body).await.expect(202);
    assert_eq!(door.event().user_agent.as_deref(), Some("Connection/1"));
}

#[tokio::test]
async fn the_country_of_the_body_goes_before_that_of_the_proxy() {
    let country = async |peer: &str, body: &str| {
        let door = Door::new();
        send(&door, "/v1/events", peer, &[("cf-ipcountry", "FR")], body.to_owned()).await.expect(202);
        door.event().country.map(|country| country.as_str().to_owned())
    };
    assert_eq!(country("10.0.0.1:80", CLICK).await.as_deref(), Some("FR"));
    assert_eq!(country("10.0.0.1:80", &CLICK.replace('}', r#","country":"us"}"#)).await.as_deref(), Some("US"));
    assert_eq!(country(STRANGER, CLICK).await, None);
}

#[tokio::test]
async fn a_server_with_a_key_speaks_for_others_and_its_own_connection_tells_nothing_of_them() {
    let check = async |path: &str, body: String, address: Option<&str>, agent: Option<&str>| {
        let door = Door::new();
        let headers = [("user-agent", "Server/1"), ("referer", "https://server.example")];
        let mut request = request(Method::POST, path, STRANGER, &headers, body);
        request.extensions_mut().insert(Caller { key_id: 1 });
        door.send(request).await.expect(202);
        let event = door.event();
        let expected = address.map(|address| door.capture.key.ip(address.parse().unwrap()));
        assert_eq!((event.ip_hash, event.user_agent.as_deref(), event.referrer), (expected, agent, None), "{path}");
    };
    for path in ["/v1/events", "/v1/events/batch"] {
        check(path, body(), Some(ADDRESS), Some("Body/1")).await;
        check(path, CLICK.to_owned(), None, None).await;
    }
}
