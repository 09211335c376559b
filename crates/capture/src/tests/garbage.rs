//! Whatever bytes arrive, the door answers: with one of four statuses, and with a record for each event that it accepts.

use axum::http::Method;
use proptest::prelude::*;

use super::{Door, STRANGER, gzip, request, zstd};
use crate::parse::Field;

/// An event with every field good or strange.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![4 => proptest::sample::select(Field::ALL).prop_map(|field| field.as_str().to_owned()), 1 => "\\PC{0,8}"];
    let value = prop_oneof![
        Just("null".to_owned()),
        any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,80}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        proptest::sample::select(
            &["\"click\"", "\"DE\"", "[\"a\",7,[]]", "{\"a\":{}}", "\"2023-11-14T00:00:00Z\"", "[[["][..]
        )
        .prop_map(str::to_owned),
    ];
    let fields = proptest::collection::vec((name, value), 0..8);
    fields.prop_map(|fields| {
        let good = r#""kind":"click","campaign_id":"c","ad_id":"a""#.to_owned();
        let others = fields.iter().map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap()));
        let all: Vec<_> = others.chain([good]).collect();
        format!("{{{}}}", all.join(",")).into_bytes()
    })
}

/// The same with up to three bytes replaced.
pub(crate) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (event(), changes).prop_map(|(mut event, changes)| {
        for (at, byte) in changes {
            let at = at.index(event.len());
            event[at] = byte;
        }
        event
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let several = || proptest::collection::vec(event(), 0..5);
    let text = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "\\PC{0,200}".prop_map(String::into_bytes),
        mutated(),
        several().prop_map(|events| events.join(&b'\n')),
        several().prop_map(|events| [b"[", events.join(&b',').as_slice(), b"]"].concat()),
    ];
    (text, 0..4u8).prop_map(|(text, encoder): (Vec<u8>, u8)| match encoder {
        0 => gzip(&text),
        1 => zstd(&text),
        _ => text,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_body_gets_an_answer_and_every_accepted_event_a_record(
        body in body(),
        encoding in proptest::sample::select(&["identity", "gzip", "zstd", "br"][..]),
        content_type in proptest::sample::select(&["text/plain", "application/x-www-form-urlencoded"][..]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for path in ["/v1/events", "/v1/events/batch"] {
                let door = Door::new();
                let headers = [("content-encoding", encoding), ("content-type", content_type)];
                let answer = door.send(request(Method::POST, path, STRANGER, &headers, body.clone())).await;
                assert!([202, 400, 413, 415].contains(&answer.status.as_u16()), "{}: {}", answer.status, answer.text());
                let accepted = match (answer.status.as_u16(), path) {
                    (202, "/v1/events") => 1,
                    (202, _) => answer.json()["accepted"].as_u64().unwrap(),
                    _ => 0,
                };
                let status = answer.status.as_u16();
                let answer = answer.expect(status);
                assert_eq!(door.events().len() as u64, accepted, "{}", answer.text());
            }
        });
    }
}
