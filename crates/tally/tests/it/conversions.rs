//! Conversions from end to end: the redirect hands out a click's id, a network reports what came of it, and reports tell it by
//! the click's campaign.

use std::process::Command;

use serde_json::{Value, json};

use super::server::{BINARY, Server, eventually, ndjson, said};

const HOSTS: (&str, &str) = ("TALLY__CAPTURE__REDIRECT_HOSTS", "shop.example");

/// The address that a network is given, without the macros that it fills in.
pub fn postback_address(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(["postback-url", "--server", "", "--data"]).arg(server.data()).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn filled(address: &str, click_id: &str, txn_id: &str, status: &str) -> String {
    let values = [
        ("{click_id}", click_id),
        ("{txn_id}", txn_id),
        ("{amount}", "12.50"),
        ("{currency}", "EUR"),
        ("{status}", status),
    ];
    values.iter().fold(address.to_owned(), |address, (name, value)| address.replace(name, value))
}

/// Follows a link, and gives the id that the shop gets.
pub fn click(server: &Server, campaign: &str) -> String {
    let path = format!("/v1/click?campaign_id={campaign}&ad_id=a&to=https%3A%2F%2Fshop.example%2F");
    let (status, headers, body) = server.head_and_body(&path);
    assert_eq!(status, 302, "{body}");
    let location = headers["location"].to_str().unwrap();
    location.split_once("click_id=").unwrap().1.to_owned()
}

fn report(server: &Server, attribution: &str) -> Vec<Value> {
    server.ask(json!({
        "metrics": ["clicks", "conversions", "revenue_micros", "cvr"], "group_by": ["campaign_id"], "attribution": attribution,
        "filters": [{"field": "campaign_id", "values": ["spring"]}],
    }))
}

fn conversions(server: &Server, filter: &str) -> Vec<Value> {
    let (status, body) = server.get(&format!("/v1/conversions?{filter}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["conversions"].as_array().unwrap().clone()
}

fn wait_for(server: &Server, filter: &str, number: usize) {
    eventually(&format!("{number} conversions with {filter} are listed"), || {
        conversions(server, filter).len() == number
    });
}

fn send_conversions(server: &Server, ids: std::ops::Range<u128>) {
    let conversion = |id: u128| json!({"kind": "conversion", "event_id": uuid::Uuid::from_u128(id), "campaign_id": "spring", "ad_id": "a", "user_id": "u"});
    let (status, body) = server.post("/v1/events/batch", ndjson(&ids.map(conversion).collect::<Vec<_>>()), &[]);
    assert_eq!(status, 202, "{body}");
}

/// The ids of a page, and the path of the next one.
fn page(server: &Server, path: &str) -> (Vec<String>, Option<String>) {
    let (status, body) = server.get(path);
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    let ids = page["conversions"].as_array().unwrap().iter().map(|row| row["event_id"].as_str().unwrap().to_owned());
    (ids.collect(), page["next"].as_str().map(|cursor| format!("/v1/conversions?limit=4&cursor={cursor}")))
}

#[test]
fn pages_hold_every_conversion_once_while_newer_ones_come_in() {
    let server = Server::start();
    for batch in 0..5 {
        send_conversions(&server, batch * 5..batch * 5 + 5);
    }
    wait_for(&server, "limit=100", 25);
    let (whole, next) = page(&server, "/v1/conversions?limit=25");
    assert_eq!(next, None, "there are no more");
    let mut paged = Vec::new();
    let mut next = Some("/v1/conversions?limit=4".to_owned());
    while let Some(path) = next {
        let ids;
        (ids, next) = page(&server, &path);
        assert_eq!(ids.len(), if next.is_some() { 4 } else { 1 }, "{path}");
        if paged.is_empty() {
            // In front of the first page, where they move no row that is still to come.
            send_conversions(&server, 100..103);
            wait_for(&server, "limit=100", 28);
        }
        paged.extend(ids);
    }
    assert_eq!(paged, whole);
}

#[test]
fn a_click_is_followed_from_the_redirect_to_the_report_by_its_campaign() {
    let server = Server::with(&[HOSTS]);
    let id = click(&server, "spring");
    click(&server, "spring");
    // For all campaigns: the conversion names its click and nothing else.
    let address = postback_address(&server, &[]);
    let postback = filled(&address, &id, "7", "approved");
    eventually("a postback is taken", || server.get(&postback).0 == 200);
    assert_eq!(server.get(&postback).0, 200, "a repeat is answered as the first was");
    wait_for(&server, "resolution=click_id", 1);
    for attribution in ["click_date", "conversion_date"] {
        let expected = json!([{
            "campaign_id": "spring", "clicks": 2, "conversions": 1, "revenue_micros": 12_500_000, "cvr": 0.5
        }]);
        assert_eq!(json!(report(&server, attribution)), expected, "{attribution}");
    }
    let own = server.ask(json!({"metrics": ["conversions", "gross_conversions", "duplicate_conversions"]}));
    let expected = json!([{"conversions": 0, "gross_conversions": 2, "duplicate_conversions": 1}]);
    assert_eq!(json!(own), expected, "by its own fields it has no campaign, and the repeat is a copy");
    server.verify();

    // Taken back: what was approved is not subtracted anywhere, and counts no more.
    assert_eq!(server.get(&filled(&address, &id, "7", "rejected")).0, 200);
    wait_for(&server, "status=rejected", 1);
    let expected = json!([{"campaign_id": "spring", "clicks": 2, "conversions": 0, "revenue_micros": 0, "cvr": 0.0}]);
    assert_eq!(json!(report(&server, "click_date")), expected);
    assert_eq!(conversions(&server, "txn_id=7").len(), 2, "every word is kept");
    server.verify();
}

#[test]
fn a_click_that_comes_after_its_conversion_is_found_also_across_a_kill() {
    let mut server = Server::with(&[HOSTS]);
    let address = postback_address(&server, &["--campaign", "spring"]);
    let id = "0199aa00-0000-4000-8000-000000000001";
    eventually("a postback is taken", || server.get(&filled(&address, id, "8", "approved")).0 == 200);
    assert_eq!(server.get(&filled(&address, id, "8", "approved").replace("spring", "summer")).0, 403);
    wait_for(&server, "resolution=unresolved", 1);
    server.kill();
    server.restart();
    let late =
        json!({"event_id": id, "kind": "click", "campaign_id": "spring", "ad_id": "a", "user_agent": "Mozilla/5.0"});
    let (status, body) = server.post("/v1/events/batch", ndjson(&[late]), &[]);
    assert_eq!(status, 202, "{body}");
    wait_for(&server, "resolution=click_id", 1);
    assert_eq!(conversions(&server, "limit=10").len(), 1);
    assert_eq!(report(&server, "click_date")[0]["conversions"], 1);
    server.verify();
    assert!(server.stop());
    let data = server.data();
    let replayed = tempfile::tempdir().unwrap();
    let output = server.tally(&["replay", "--from", data.to_str().unwrap(), "--to", replayed.path().to_str().unwrap()]);
    assert!(output.status.success() && said(&output).contains("identical"), "{}", said(&output));
}
