//! `POST /v1/events/batch`: a bad line never costs the good ones, and a damaged body costs all of them.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use super::{Answer, CLICK, Door, LOOPBACK, gzip, request, zstd};

const BATCH: &str = "/v1/events/batch";

async fn send(door: &Door, encoding: &str, body: impl Into<Body>) -> Answer {
    door.send(request(Method::POST, BATCH, LOOPBACK, &[("content-encoding", encoding)], body)).await
}

#[tokio::test]
async fn lines_and_arrays_are_taken_plain_and_compressed() {
    let lines = format!("{CLICK}\r\n\n{CLICK}\n");
    let array = format!("\n [{CLICK},\n{CLICK}]");
    for text in [lines, array] {
        for (encoding, body) in [
            ("identity", text.clone().into_bytes()),
            ("gzip", gzip(text.as_bytes())),
            ("gzip", [gzip(&text.as_bytes()[..30]), gzip(&text.as_bytes()[30..])].concat()),
            ("zstd", zstd(text.as_bytes())),
        ] {
            let door = Door::new();
            let answer = send(&door, encoding, body).await.expect(202).json();
            assert_eq!(answer, json!({"accepted": 2, "rejected": 0, "errors": [], "errors_omitted": 0}));
            assert_eq!(door.events().len(), 2);
            assert_eq!(door.metric("tally_capture_batch_bytes_held"), 0.0, "memory was not given back");
        }
    }
}

#[tokio::test]
async fn a_bad_line_never_costs_the_good_ones() {
    let door = Door::new();
    let long = format!(r#"{{"kind":"click","campaign_id":"c","ad_id":"a","x":"{}"}}"#, "x".repeat(10 << 20));
    let mut body = format!("{CLICK}\n{{\"kind\":\"click\n{CLICK}\n{{\"kind\":\"tap\"}}\n{long}\n").into_bytes();
    body.extend_from_slice(b"{\"kind\":\"\xFF\"}\n\n[]\n");
    body.extend_from_slice(CLICK.as_bytes());
    let answer = door.post(BATCH, body).await.expect(202).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(5)));
    let errors = answer["errors"].as_array().unwrap();
    let found: Vec<_> = errors.iter().map(|error| (error["line"].as_u64().unwrap(), error["field"].as_str())).collect();
    assert_eq!(found, [(2, None), (4, Some("kind")), (5, None), (6, None), (8, None)]);
    for (error, what) in errors.iter().zip(["not valid JSON", "\"tap\"", "has 10485", "not UTF-8", "is an array"]) {
        assert!(error["what"].as_str().unwrap().contains(what), "{what:?} is not in {error}");
        assert!(error["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{error}");
    }
    assert_eq!(door.events().len(), 3);
    assert_eq!(door.metric(r#"tally_capture_rejected_events_total{reason="text"}"#), 4.0);
}

#[tokio::test]
async fn elements_of_an_array_are_counted_from_1() {
    let answer = Door::new().post(BATCH, format!("[{CLICK}, 7,\n{CLICK},\n{{}}]")).await.expect(202).json();
    let lines: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| error["line"].clone()).collect();
    assert_eq!(lines, [2, 4]);
}

#[tokio::test]
async fn a_batch_with_nothing_good_in_it_is_refused_with_its_errors() {
    let door = Door::new();
    let problem = door.post(BATCH, "{}\n".repeat(130)).await.expect(400).json();
    assert_eq!((&problem["accepted"], &problem["rejected"]), (&json!(0), &json!(130)));
    assert_eq!((problem["errors"].as_array().unwrap().len(), &problem["errors_omitted"]), (100, &json!(30)));
    assert_eq!(
        problem["errors"][0],
        json!({
            "line": 1, "field": "kind", "what": "is missing", "cure": "give `impression`, `click` or `conversion`",
        })
    );
    assert_eq!(door.events(), []);
}

#[tokio::test]
async fn an_empty_batch_is_refused() {
    let door = Door::new();
    for (encoding, body) in
        [("identity", vec![]), ("identity", b"\r\n \n".into()), ("identity", b"[]".into()), ("gzip", gzip(b""))]
    {
        let problem = send(&door, encoding, body).await.expect(400).json();
        assert!(problem["detail"].as_str().unwrap().contains("empty"), "{problem}");
    }
}

#[tokio::test]
async fn a_damaged_body_is_refused_with_nothing_kept() {
    let text = format!("{CLICK}\n").repeat(10_000);
    let (gzip, zstd) = (gzip(text.as_bytes()), zstd(text.as_bytes()));
    let flipped = |body: &[u8]| {
        let mut body = body.to_vec();
        let last = body.len() - 6;
        body[last] ^= 0x55;
        body
    };
    for (encoding, body) in [
        ("gzip", gzip[..gzip.len() - 9].to_vec()),
        ("gzip", flipped(&gzip)),
        ("gzip", [&gzip[..], b"rest"].concat()),
        ("gzip", text.clone().into_bytes()),
        ("gzip", vec![]),
        ("zstd", zstd[..zstd.len() - 1].to_vec()),
        ("zstd", text.clone().into_bytes()),
        ("zstd", gzip.clone()),
        ("identity", format!("[{CLICK},").into_bytes()),
        ("identity", gzip.clone()),
    ] {
        let door = Door::new();
        send(&door, encoding, body).await.expect(400);
        assert_eq!(door.events(), [], "part of a damaged {encoding} body was kept");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_whole() {
    let door = Door::new();
    let bomb = zstd(&vec![b'\n'; (128 << 20) + 1]);
    assert!(bomb.len() < 1 << 20);
    send(&door, "zstd", bomb).await.expect(413);
    door.post(BATCH, format!("{CLICK}\n").repeat(100_001)).await.expect(413);
    door.post(BATCH, vec![b'\n'; (16 << 20) + 1]).await.expect(413);
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let huge = [("content-length", "16777217")];
    door.send(request(Method::POST, BATCH, LOOPBACK, &huge, never)).await.expect(413);
    assert_eq!(door.events(), []);
    assert_eq!(door.metric("tally_capture_batch_bytes_held"), 0.0);
    send(&door, "br", CLICK).await.expect(415);
}

#[tokio::test]
async fn bodies_beyond_the_memory_set_aside_are_told_to_come_again() {
    let door = Door::new();
    let mut others = door.capture.budget.share();
    others.grow(256 << 20).unwrap();
    let answer = door.post(BATCH, CLICK).await.expect(503);
    assert_eq!(answer.headers["retry-after"], "1");
    door.post("/v1/events", CLICK).await.expect(202);
    drop(others);
    door.post(BATCH, CLICK).await.expect(202);
}

#[tokio::test]
async fn a_large_batch_is_kept_whole_and_in_order() {
    let door = Door::new();
    let line = |n: u32| format!(r#"{{"kind":"click","campaign_id":"c","ad_id":"a","cost_micros":{n}}}"#);
    let body: Vec<_> = (0..25_000).map(line).collect();
    door.post(BATCH, body.join("\n")).await.expect(202);
    let costs: Vec<_> = door.events().iter().map(|event| event.cost_micros).collect();
    assert!(costs.iter().copied().eq(0..25_000), "{} events, or out of order", costs.len());
}
