//! The tag in a real browser, on a page of another origin: what was seen and clicked is counted once, whatever the network does.

use std::process::Command;

use serde_json::{Value, json};

use super::server::{BINARY, Server, said};

/// A Python with `playwright`, and a Chromium; `.ci/run` installs both.
pub fn browser() -> Option<(String, String)> {
    let python = std::env::var("TALLY_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_playwright = Command::new(&python).args(["-c", "import playwright"]).output();
    let has_playwright = has_playwright.is_ok_and(|output| output.status.success());
    let chromium = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
    let path = chromium.and_then(|name| {
        let output = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    });
    if let (true, Some(path)) = (has_playwright, path) {
        return Some((python, path));
    }
    assert!(std::env::var("CI").is_err(), "CI must have a browser: apt-get install chromium, pip install playwright");
    eprintln!("SKIPPED: there is no Chromium, or {python} has no playwright; `.ci/run` installs both");
    None
}

#[test]
fn a_browser_tells_what_was_seen_and_clicked_once_each() {
    let Some((python, chromium)) = browser() else { return };
    let server = Server::with(&[("TALLY__CAPTURE__REDIRECT_HOSTS", "127.0.0.1")]);
    let address = server.url("");
    let element = Command::new(BINARY).args(["tag", "--server", &address]).output().unwrap();
    let element = String::from_utf8(element.stdout).unwrap();
    let script = include_str!("tag.py");
    let output = Command::new(python).args(["-c", script, &chromium, &address, element.trim()]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!(done["before_anything_was_seen"], 0, "{done}");
    assert_eq!(done["after_half_a_second"], 0, "an ad that was in view for half a second was seen: {done}");
    assert_eq!(done["after_it_was_seen"], 1, "{done}");
    assert_eq!(done["waiting_while_out_of_reach"], 1, "{done}");
    assert_eq!(done["tampered_tag_runs"], false, "a tag with another hash ran: {done}");
    let place = done["redirect_with_place"].as_str().unwrap();
    assert!(
        !done["redirect"].as_str().unwrap().contains("&x=") && place.contains("&x=0.0") && place.contains("&y=0.0")
    );

    server.wait_until_counted();
    let rows = server.ask(json!({"metrics": ["impressions", "clicks", "invalid_clicks"], "group_by": ["ad_id"]}));
    let expected = [
        json!({"ad_id": "away", "impressions": 0, "clicks": 1, "invalid_clicks": 0}),
        json!({"ad_id": "seen", "impressions": 1, "clicks": 2, "invalid_clicks": 0}),
    ];
    assert_eq!(rows, expected, "{done}");
    let click = done["events"].as_array().unwrap().iter().find(|event| event["kind"] == "click").unwrap();
    let (status, life) = server.get(&format!("/v1/events/{}", click["event_id"].as_str().unwrap()));
    let life: Value = serde_json::from_str(&life).unwrap();
    let fields = &life["sightings"][0]["fields"];
    assert_eq!(status, 200, "{life}");
    for (field, value) in [
        ("x", json!(0.25)),
        ("y", json!(0.5)),
        ("gdpr", json!(true)),
        ("gdpr_consent", json!("CPXxRfAPXxRfA")),
        ("gpp", json!("DBABMA~CPX")),
        ("gpp_sid", json!("2,6")),
        ("us_privacy", json!("1YNN")),
    ] {
        assert_eq!(fields[field], value, "{field}: {life}");
    }
    server.verify();
}
