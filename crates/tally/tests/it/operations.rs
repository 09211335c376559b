//! What an operator relies on.

use serde_json::json;

use super::server::{Server, click, metric};

#[test]
fn health_readiness_and_metrics_tell_the_state() {
    let server = Server::start();
    assert_eq!(server.status("/healthz"), Some(200));
    assert_eq!(server.status("/readyz"), Some(200));
    assert_eq!(server.post("/v1/events", click(1, "c").to_string(), &[]).0, 202);
    assert_eq!(server.post("/v1/events", click(1, "c").to_string(), &[]).0, 202);
    server.wait_until_counted();
    let metrics = server.get("/metrics").1;
    for line in [
        r#"tally_capture_received_events_total{kind="click"} 2"#,
        r#"tally_pipeline_verdicts_total{kind="click",class="counted"} 1"#,
        r#"tally_pipeline_verdicts_total{kind="click",class="duplicate"} 1"#,
        "tally_journal_sync_seconds_count",
        "tally_journal_queued_bytes 0",
        "tally_pipeline_lag_records 0",
        "tally_lake_files",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    assert!(metric(&metrics, "tally_pipeline_watermark_seconds") > 1.7e9);
}

#[test]
fn a_click_is_redirected_and_a_pixel_shown_and_both_count() {
    let server = Server::with(&[("TALLY__CAPTURE__REDIRECT_HOSTS", "shop.example")]);
    let (status, headers, _) =
        server.head_and_body("/v1/click?campaign_id=c&ad_id=a&to=https%3A%2F%2Fshop.example%2Fp%3Fx%3D1");
    assert_eq!(status, 302);
    let to = headers["location"].to_str().unwrap();
    assert!(to.starts_with("https://shop.example/p?x=1&click_id="), "{to}");
    assert_eq!(headers["cache-control"], "no-store");
    let (status, headers, _) = server.head_and_body("/v1/pixel.gif?campaign_id=c&ad_id=a");
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "image/gif"));
    let beacon = r#"{"kind":"impression","campaign_id":"c","ad_id":"a"}"#;
    assert_eq!(server.post("/v1/events", beacon, &[("content-type", "text/plain;charset=UTF-8")]).0, 202);
    server.wait_until_counted();
    let rows = server.ask(json!({"metrics": ["impressions", "clicks", "ctr"], "group_by": ["os", "browser"]}));
    assert_eq!(rows, [json!({"os": "linux", "browser": "firefox", "impressions": 2, "clicks": 1, "ctr": 0.5})]);
}
