//! The script that pages load, as browsers and caches ask for it.

use std::io::Read;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha384};

use super::{Door, STRANGER, request};
use crate::tag_element;

/// The part of a text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).unwrap().1.split_once(after).unwrap().0
}

#[tokio::test]
async fn the_element_names_a_script_that_is_there_and_has_the_hash_that_it_says() {
    let door = Door::new();
    let element = tag_element("https://tally.example/");
    let path = between(&element, r#"src="https://tally.example"#, "\"");
    let versioned = door.get(path).await.expect(200);
    let newest = door.get("/tag.js").await.expect(200);
    assert_eq!(versioned.body, newest.body);
    let integrity = format!("sha384-{}", STANDARD.encode(Sha384::digest(&versioned.body)));
    assert_eq!(between(&element, r#"integrity=""#, "\""), integrity);
    assert_eq!(versioned.headers["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(versioned.headers["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(newest.headers["cache-control"], "public, max-age=3600");
    assert_eq!(door.metric(r#"tally_capture_requests_total{endpoint="tag",status="200"}"#), 2.0);
    assert_eq!(door.get("/tag-000000000000.js").await.status, 404, "a version that never was");
}

#[tokio::test]
async fn a_browser_that_has_the_script_gets_no_second_copy_and_others_a_small_one() {
    let door = Door::new();
    let plain = door.get("/tag.js").await.expect(200);
    let etag = plain.headers["etag"].to_str().unwrap();
    let ask = async |name: &str, value: &str| {
        door.send(request(Method::GET, "/tag.js", STRANGER, &[(name, value)], "")).await
    };
    let known = ask("if-none-match", etag).await.expect(304);
    assert_eq!((known.body.len(), &known.headers["etag"]), (0, &plain.headers["etag"]));
    ask("if-none-match", "\"another\"").await.expect(200);
    let small = ask("accept-encoding", "br, gzip").await.expect(200);
    assert_eq!(small.headers["content-encoding"], "gzip");
    assert!(small.body.len() < 4_096, "{} bytes for every first visit", small.body.len());
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&small.body[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.body);
}
