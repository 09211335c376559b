//! Rate limits, from the request to the report.

use serde_json::{Value, json};

use super::server::{Server, metric, ndjson, said};

/// As a proxy on this machine passes on a visitor of its own.
const FROM_STRANGER: (&str, &str) = ("x-forwarded-for", "203.0.113.9");

fn event(campaign: &str, user: Option<&str>) -> Value {
    json!({"kind": "click", "campaign_id": campaign, "ad_id": "a", "user_id": user, "user_agent": "test"})
}

#[test]
fn what_comes_over_a_campaigns_or_a_persons_limit_is_kept_as_invalid_and_a_replay_judges_the_same() {
    let mut server = Server::with(&[
        ("TALLY__LIMITS__CAMPAIGN_PER_S", "1"),
        ("TALLY__LIMITS__USER_PER_S", "1"),
        ("TALLY__PIPELINE__DOUBLE_CLICK_MS", "0"),
    ]);
    let flood: Vec<Value> = (0..25).map(|_| event("flooded", None)).collect();
    let clicker: Vec<Value> = (0..25).map(|n| event(&format!("c{n}"), Some("alice"))).collect();
    let honest = [event("quiet", Some("bob")), event("quiet", None)];
    let mut forger = event("forged", None);
    forger["tally_rate_limited"] = json!("campaign");
    let sent = [flood, clicker, honest.into(), vec![forger]].concat();
    assert_eq!(server.post("/v1/events/batch", ndjson(&sent), &[]).0, 202);
    server.wait_until_counted();

    let reasons =
        server.ask(json!({"metrics": ["gross_clicks", "clicks", "invalid_givt_clicks"], "group_by": ["reason"]}));
    let expected = [
        json!({"reason": "rate_limited", "gross_clicks": 30, "clicks": 0, "invalid_givt_clicks": 30}),
        json!({"reason": null, "gross_clicks": 23, "clicks": 23, "invalid_givt_clicks": 0}),
    ];
    assert_eq!(reasons, expected);
    let metrics = server.get("/metrics").1;
    assert_eq!(metric(&metrics, r#"tally_limits_exceeded_total{limit="campaign",outcome="marked"}"#), 15.0);
    assert_eq!(metric(&metrics, r#"tally_limits_exceeded_total{limit="user",outcome="marked"}"#), 15.0);
    server.verify();

    assert!(server.stop());
    let (from, to) = (server.data(), tempfile::tempdir().unwrap());
    let arguments = ["replay", "--from", from.to_str().unwrap(), "--to", to.path().to_str().unwrap()];
    let replayed = server.tally(&arguments);
    assert!(replayed.status.success() && said(&replayed).contains("identical"), "{}", said(&replayed));
}

#[test]
fn an_address_that_floods_is_refused_while_its_people_are_redirected_and_others_served() {
    let server = Server::with(&[("TALLY__LIMITS__IP_PER_S", "1"), ("TALLY__CAPTURE__REDIRECT_HOSTS", "shop.example")]);
    let body = event("c", None).to_string();
    let answers: Vec<u16> = (0..40).map(|_| server.post("/v1/events", &body, &[FROM_STRANGER]).0).collect();
    let refused = answers.iter().filter(|status| **status == 429).count();
    // Ten at once, and one more for each second that this takes.
    assert!(answers[..10] == [202; 10] && refused >= 15, "{answers:?}");
    let mut last = server.post_for_head("/v1/events", &body, &[FROM_STRANGER]);
    while last.0 == 202 {
        last = server.post_for_head("/v1/events", &body, &[FROM_STRANGER]);
    }
    let (status, headers, problem) = last;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "1"), "{problem}");
    assert_eq!(headers["content-type"], "application/problem+json");
    let click = "/v1/click?campaign_id=clicked&ad_id=a&to=https%3A%2F%2Fshop.example%2F";
    for _ in 0..5 {
        assert_eq!(server.get_with(click, &[FROM_STRANGER]).0, 302);
    }
    assert_eq!(server.post("/v1/events", &body, &[("x-forwarded-for", "203.0.113.10")]).0, 202);
    assert_eq!(server.post("/v1/events", &body, &[]).0, 202, "loopback is exempt");
    server.wait_until_counted();
    let filters = json!([{"field": "campaign_id", "values": ["clicked"]}]);
    let clicks = server.ask(json!({"metrics": ["gross_clicks", "invalid_givt_clicks"], "filters": filters}));
    assert_eq!(clicks[0]["gross_clicks"], 5, "no click is lost");
    assert!(clicks[0]["invalid_givt_clicks"].as_u64() >= Some(3), "{clicks:?}");
}
