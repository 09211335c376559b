//! `POST /v1/events`: one event, in any form that a tag or a server sends it.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;
use tally_model::{Country, Event, Kind, Privacy, Region, Subdivision};
use uuid::Uuid;

use super::{CLICK, Door, LOOPBACK, NOW_US, STRANGER, gzip, request, zstd};

const ID: &str = "0190c3f1-7a2b-7c3d-8e4f-5a6b7c8d9e0f";

#[tokio::test]
async fn every_field_of_the_contract_reaches_the_journal() {
    let door = Door::new();
    let body = json!({
        "event_id": ID, "kind": "conversion", "occurred_at": "2023-11-14T23:13:19.5+01:00", "campaign_id": "c1",
        "ad_id": "a1", "placement_id": "p1", "publisher_id": "pub1", "variant": "B", "user_id": "alice",
        "ip": "198.51.100.4", "user_agent": "Mozilla/5.0", "referrer": "https://news.example/", "x": 0.25, "y": 7,
        "country": "de", "age_group": "25-34", "gender": "f", "segments": ["sports", "", "returning", "sports"],
        "cost_micros": 250000, "revenue_micros": -1, "currency": "eur", "click_id": "k1", "theme": "dark",
        "subdivision": "de-be", "gdpr": 1, "gdpr_consent": "CPXxRfAPXxRfA", "gpp": "DBABMA~CPXxRfA", "gpp_sid": "2,6",
        "us_privacy": "1YNN", "gpc": true,
        "props": {"slot": 3, "nested": {"b": [1.50, null]}},
    });
    let answer = door.post("/v1/events", body.to_string()).await.expect(202);
    assert_eq!(answer.json(), json!({"event_id": ID}));
    let expected = Event {
        utc_offset_minutes: 60,
        received_at_us: NOW_US,
        placement_id: Some("p1".into()),
        publisher_id: Some("pub1".into()),
        variant: Some("B".into()),
        user_hash: Some(door.capture.key.user("alice")),
        ip_hash: Some(door.capture.key.ip("198.51.100.4".parse().unwrap())),
        user_agent: Some("Mozilla/5.0".into()),
        referrer: Some("https://news.example/".into()),
        x: Some(0.25),
        y: Some(7.0),
        country: Country::parse("DE"),
        region: Region::Eu,
        age_group: Some("25-34".into()),
        gender: Some("f".into()),
        segments: vec!["sports".into(), "returning".into()],
        cost_micros: 250_000,
        revenue_micros: -1,
        currency: Some("EUR".into()),
        click_id: Some("k1".into()),
        subdivision: Subdivision::parse("DE-BE"),
        privacy: Some(Box::new(Privacy {
            gdpr: Some(true),
            gdpr_consent: Some("CPXxRfAPXxRfA".into()),
            gpp: Some("DBABMA~CPXxRfA".into()),
            gpp_sid: Some("2,6".into()),
            us_privacy: Some("1YNN".into()),
            gpc: Some(true),
        })),
        props: Some(r#"{"theme":"dark","slot":3,"nested":{"b":[1.5,null]}}"#.into()),
        ..Event::new(Uuid::parse_str(ID).unwrap(), Kind::Conversion, NOW_US - 500_000, "c1", "a1")
    };
    assert_eq!(door.event(), expected);
    assert_eq!(door.metric(r#"tally_capture_received_events_total{kind="conversion"}"#), 1.0);
    assert_eq!(door.metric(r#"tally_capture_requests_total{endpoint="events",status="202"}"#), 1.0);
    assert_eq!(door.metric("tally_capture_journal_wait_seconds_count"), 1.0);
}

#[tokio::test]
async fn what_is_absent_or_null_is_stamped_or_left_out() {
    let door = Door::new();
    let body = r#"{"kind":"click","campaign_id":"c","ad_id":"a","event_id":null,"variant":null,"props":null,"x":null}"#;
    let headers = [("user-agent", "Mozilla/5.0"), ("referer", "https://news.example/")];
    let answer = door.send(request(Method::POST, "/v1/events", STRANGER, &headers, body)).await.expect(202);
    let event = door.event();
    assert_eq!(answer.json()["event_id"], event.id.to_string());
    assert_eq!(event.id.get_version_num(), 7);
    let (seconds, nanos) = event.id.get_timestamp().unwrap().to_unix();
    assert_eq!((seconds, nanos), (1_700_000_000, 0), "the id does not carry the time of receipt");
    let expected = Event {
        ip_hash: Some(door.capture.key.ip("203.0.113.9".parse().unwrap())),
        user_agent: Some("Mozilla/5.0".into()),
        referrer: Some("https://news.example/".into()),
        ..Event::new(event.id, Kind::Click, NOW_US, "c", "a")
    };
    assert_eq!(event, expected);
}

#[tokio::test]
async fn a_beacon_is_taken_whatever_type_it_names() {
    let form = "kind=click&campaign_id=c&ad_id=a&x=0.5&cost_micros=7&segments=s1,s2&segments=s3&utm_term=a%20b&gender=\
                &occurred_at=2023-11-14T23:13:20+01:00";
    let with_type = |content_type: &'static str| vec![("content-type", content_type)];
    for (headers, body) in [
        (vec![], CLICK),
        (with_type("text/plain;charset=UTF-8"), CLICK),
        (with_type("application/json"), CLICK),
        (with_type("application/octet-stream"), CLICK),
        (with_type("application/x-www-form-urlencoded"), CLICK),
        (with_type("Application/X-WWW-Form-Urlencoded; charset=utf-8"), form),
    ] {
        let door = Door::new();
        door.send(request(Method::POST, "/v1/events", STRANGER, &headers, body)).await.expect(202);
        let event = door.event();
        assert_eq!((event.kind, event.campaign_id.as_str(), event.ad_id.as_str()), (Kind::Click, "c", "a"));
        if body == form {
            assert_eq!((event.x, event.cost_micros, event.gender), (Some(0.5), 7, None));
            assert_eq!((event.occurred_at_us, event.utc_offset_minutes), (NOW_US, 60), "an unescaped plus was lost");
            assert_eq!(event.segments, ["s1", "s2", "s3"]);
            assert_eq!(event.props.as_deref(), Some(r#"{"utm_term":"a b"}"#));
        }
    }
}

#[tokio::test]
async fn an_event_may_come_compressed() {
    for (encoding, body) in
        [("gzip", gzip(CLICK.as_bytes())), ("ZSTD", zstd(CLICK.as_bytes())), ("identity", CLICK.into())]
    {
        let door = Door::new();
        let headers = [("content-encoding", encoding)];
        door.send(request(Method::POST, "/v1/events", STRANGER, &headers, body)).await.expect(202);
        assert_eq!(door.event().kind, Kind::Click);
    }
}

#[tokio::test]
async fn a_conversion_may_name_its_click_instead_of_a_campaign() {
    let door = Door::new();
    door.post("/v1/events", r#"{"kind":"conversion","click_id":"k"}"#).await.expect(202);
    assert_eq!(door.event().campaign_id, "");
    door.post("/v1/events", r#"{"kind":"click","click_id":"k"}"#).await.expect(400);
}

/// `fields` are added to a click that is good otherwise.
async fn check_wrong(fields: &str, field: &str, what: &str, cure: &str) {
    let door = Door::new();
    let body = format!(r#"{{"campaign_id":"c","ad_id":"a","kind":"click",{fields}}}"#);
    let problem = door.post("/v1/events", body).await.expect(400).json();
    assert_eq!(problem["field"], field, "{problem}");
    assert!(problem["what"].as_str().unwrap().contains(what), "{what:?} is not in {problem}");
    assert!(problem["cure"].as_str().unwrap().contains(cure), "{cure:?} is not in {problem}");
    assert_eq!(door.events(), []);
    assert_eq!(door.metric(&format!(r#"tally_capture_rejected_events_total{{reason="{field}"}}"#)), 1.0);
}

#[tokio::test]
async fn a_wrong_field_is_named_with_what_was_found_and_the_cure() {
    check_wrong(r#""cost_micros":"abc""#, "cost_micros", r#""abc" is not a whole number"#, "e.g. 250000").await;
    check_wrong(r#""cost_micros":"5""#, "cost_micros", "is not a whole number", "millionths").await;
    check_wrong(r#""cost_micros":1.5"#, "cost_micros", "1.5 is not a whole number", "millionths").await;
    check_wrong(r#""revenue_micros":1000000000001"#, "revenue_micros", "beyond 1000000000000", "millionths").await;
    check_wrong(r#""revenue_micros":-18446744073709551615"#, "revenue_micros", "", "millionths").await;
    check_wrong(r#""event_id":"7""#, "event_id", r#""7" is not a UUID"#, "UUID").await;
    check_wrong(r#""event_id":7"#, "event_id", "7 is not a UUID", "UUID").await;
    check_wrong(r#""kind":"tap""#, "kind", r#""tap" is not a kind"#, "`click`").await;
    check_wrong(r#""campaign_id":7"#, "campaign_id", "7 is not text", "in quotes").await;
    check_wrong(r#""campaign_id":"""#, "campaign_id", "missing", "campaign_id").await;
    check_wrong(r#""ad_id":"""#, "ad_id", "missing", "click_id").await;
    check_wrong(r#""x":"0.5""#, "x", "is not a number", "without quotes").await;
    check_wrong(r#""y":1e300"#, "y", "too large", "pixels").await;
    check_wrong(r#""country":"DEU""#, "country", "DEU", "two letters").await;
    check_wrong(r#""currency":"euro""#, "currency", "euro", "three letters").await;
    check_wrong(r#""gender":true"#, "gender", "true is not text", "in quotes").await;
    check_wrong(r#""segments":"a,b""#, "segments", "is not a list", "[").await;
    check_wrong(r#""segments":["a",7]"#, "segments", "7 is not text", "in quotes").await;
    check_wrong(r#""props":[1]"#, "props", "is not a JSON object", "give an object").await;
    check_wrong(r#""variant":{"a":[{}]}"#, "variant", "an object is not text", "in quotes").await;
    check_wrong(r#""user_id":7"#, "user_id", "a number is not text", "in quotes").await;
    check_wrong(r#""ip":"1.2.3""#, "ip", "the text is not an IP address", "IPv4").await;
}

#[tokio::test]
async fn a_time_that_cannot_be_is_refused_with_the_likely_mistakes() {
    check_wrong(r#""occurred_at":"2033-11-14T22:13:20Z""#, "occurred_at", "lies 3653 days", "clock and time zone")
        .await;
    check_wrong(r#""occurred_at":"2033-11-14T22:13:20Z""#, "occurred_at", "in the future", "milliseconds").await;
    check_wrong(r#""occurred_at":"1970-01-20T16:13:20Z""#, "occurred_at", "before 2000-01-01", "seconds").await;
    check_wrong(r#""occurred_at":"2023-11-14T22:13:20""#, "occurred_at", "has no time zone", "add `Z`").await;
    check_wrong(r#""occurred_at":"2023-11-14""#, "occurred_at", "has no time of day", "RFC 3339").await;
    check_wrong(r#""occurred_at":"yesterday""#, "occurred_at", "is not a time", "RFC 3339").await;
    check_wrong(r#""occurred_at":1700000000"#, "occurred_at", "1700000000 is not a time", "Unix seconds").await;
    let door = Door::new();
    let body = r#"{"kind":"click","campaign_id":"c","ad_id":"a","occurred_at":"2023-11-15T22:13:20Z"}"#;
    door.post("/v1/events", body).await.expect(202);
}

#[tokio::test]
async fn long_ids_are_refused_and_long_prose_is_cut() {
    let long = "é".repeat(40);
    check_wrong(&format!(r#""variant":"{long}""#), "variant", "has 80 bytes", "at most 64").await;
    let many = (0..65).map(|n| format!("\"s{n}\"")).collect::<Vec<_>>().join(",");
    check_wrong(&format!(r#""segments":[{many}]"#), "segments", "more than 64", "props").await;
    let large = "x".repeat(9_000);
    check_wrong(&format!(r#""note":"{large}""#), "props", "8192 bytes", "fewer").await;
    let door = Door::new();
    let long = "é".repeat(2_000);
    let body =
        json!({"kind": "click", "campaign_id": "c", "ad_id": "a", "user_agent": format!("x{long}"), "referrer": long});
    door.post("/v1/events", body.to_string()).await.expect(202);
    let event = door.event();
    assert_eq!((event.user_agent.unwrap().len(), event.referrer.unwrap().len()), (1_023, 2_048));
}

#[tokio::test]
async fn text_that_is_no_event_is_refused() {
    for (body, what) in [
        (&b""[..], "is empty"),
        (b"  \n", "is empty"),
        (b"7", "not a JSON object"),
        (b"{\"kind\":\"click\"", "not valid JSON"),
        (b"{\"kind\":\"click\",\"campaign_id\":\"c\",\"ad_id\":\"a\"} {}", "not valid JSON"),
        (b"{\"kind\":\"cl\xFFck\"}", "byte 12 is not UTF-8"),
        (b"[{}]", "is an array"),
    ] {
        let door = Door::new();
        let problem = door.post("/v1/events", body).await.expect(400).json();
        assert!(problem["what"].as_str().unwrap().contains(what), "{problem}");
        assert_eq!(door.events(), []);
    }
    let problem = Door::new().post("/v1/events", "[{}]").await.json();
    assert!(problem["cure"].as_str().unwrap().contains("/v1/events/batch"), "{problem}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut_off() {
    let door = Door::new();
    door.post("/v1/events", vec![b' '; 65_537]).await.expect(413);
    let pieces = futures::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; 40_000])));
    door.post("/v1/events", Body::from_stream(pieces)).await.expect(413);
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let huge = [("content-length", "99999999999999")];
    door.send(request(Method::POST, "/v1/events", LOOPBACK, &huge, never)).await.expect(413);
    let headers = [("content-encoding", "gzip")];
    door.send(request(Method::POST, "/v1/events", LOOPBACK, &headers, gzip(&[b' '; 70_000]))).await.expect(413);
    assert_eq!(door.events(), []);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    Door::new().post("/v1/events", never).await.expect(408);
}

#[tokio::test]
async fn an_encoding_that_we_do_not_know_is_refused_with_those_that_we_do() {
    let door = Door::new();
    for encoding in ["br", "gzip, gzip", "deflate"] {
        let headers = [("content-encoding", encoding)];
        let answer = door.send(request(Method::POST, "/v1/events", LOOPBACK, &headers, CLICK)).await.expect(415);
        assert_eq!(answer.headers["accept-encoding"], "gzip, zstd");
    }
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    door.send(request(Method::POST, "/v1/events", LOOPBACK, &headers, "--x--")).await.expect(415);
}

#[tokio::test]
async fn a_page_may_ask_before_it_sends_and_a_wrong_method_is_told_the_right_ones() {
    let door = Door::new();
    for path in ["/v1/events", "/v1/events/batch", "/v1/click", "/v1/pixel.gif"] {
        let answer = door.send(request(Method::OPTIONS, path, STRANGER, &[], "")).await.expect(204);
        assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains("content-type"));
        let answer = door.send(request(Method::DELETE, path, STRANGER, &[], "")).await.expect(405);
        assert!(answer.headers.contains_key("allow"), "{path}");
    }
}

#[tokio::test]
async fn a_head_is_told_what_a_get_would_be_without_the_body() {
    let door = Door::new();
    let pixel = "/v1/pixel.gif?campaign_id=c&ad_id=a";
    for path in [pixel, "/tag.js"] {
        let whole = door.get(path).await.expect(200);
        let told = door.send(request(Method::HEAD, path, STRANGER, &[], "")).await.expect(200);
        assert_eq!(told.headers["content-length"], whole.body.len().to_string(), "{path}");
        assert_eq!(told.headers["content-type"], whole.headers["content-type"], "{path}");
        assert_eq!(told.body.len(), 0, "{path}");
    }
}
