//! The dashboard in a real browser, served by the real binary: what a person sees is what the API says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, click, ndjson, said};
use super::tag::browser;

/// From a click to the screen, with the settings that everybody has.
const SCREEN_TIME_S: f64 = 2.0;

fn look(what: &str, server: &Server) -> Option<Command> {
    let (python, chromium) = browser()?;
    let mut command = Command::new(python);
    command.args(["-c", include_str!("dashboard.py"), what, &chromium, &server.url("")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

pub fn seen(what: &str, server: &Server, input: &str) -> Option<Value> {
    let mut child = look(what, server)?.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{input}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// A thousand campaigns of a day, each with its own person, in two currencies, with copies and robots among them.
pub fn filled_server() -> Server {
    let server = Server::start();
    let mut events: Vec<Value> = Vec::new();
    for nth in 0..1_000_u128 {
        let campaign = format!("campaign-{nth:04}");
        let about = |id: u128, kind: &str, minute: u32| {
            let mut event = click(10 * nth + id, &campaign);
            event["kind"] = json!(kind);
            event["occurred_at"] = json!(format!("2024-05-05T{:02}:{minute:02}:00Z", nth % 24));
            event["user_id"] = json!(format!("person-{nth}"));
            event["variant"] = json!(["a", "b"][(nth / 2 % 2) as usize]);
            event["country"] = json!(["DE", "US", "JP"][(nth % 3) as usize]);
            event["currency"] = json!(["EUR", "USD"][(nth % 2) as usize]);
            event
        };
        events.extend([0, 1, 2].map(|id| about(id, "impression", 5)));
        let mut clicked = about(5, "click", 10);
        clicked["cost_micros"] = json!(250_000);
        if nth % 5 != 0 {
            (clicked["x"], clicked["y"]) = (json!((nth % 8) as f64 / 8.0), json!(0.75));
        }
        events.extend([clicked.clone(), clicked]);
        if nth % 4 == 0 {
            let mut bought = about(6, "conversion", 20);
            bought["revenue_micros"] = json!(9_990_000);
            events.push(bought);
        }
        if nth % 10 == 0 {
            let mut robot = click(10 * nth + 7, &campaign);
            robot["user_agent"] = json!("Googlebot/2.1 (+http://www.google.com/bot.html)");
            events.push(robot);
        }
    }
    let (status, body) = server.post("/v1/events/batch", ndjson(&events), &[]);
    assert_eq!(status, 202, "{body}");
    server.wait_until_counted();
    server
}

#[test]
fn every_page_draws_in_both_themes_and_can_be_used_by_everybody() {
    if browser().is_none() {
        return;
    }
    if std::env::var("TALLY_TEST_AXE").is_err() {
        assert!(std::env::var("CI").is_err(), "CI must have axe-core: see .ci/run");
        eprintln!("SKIPPED in part: without TALLY_TEST_AXE nobody looks for barriers; `.ci/run` fetches axe-core");
    }
    let server = filled_server();
    let Some(done) = seen("every_page", &server, "") else { return };
    assert_eq!(done["pages"], 39, "{done}");
    assert_eq!(done["themes"], json!(["dark", "light", "light"]), "chosen on a phone, and kept");
    for none in ["troubles", "errors", "findings", "outside"] {
        assert_eq!(done[none], json!([]), "{none}: {done:#}");
    }
}

#[test]
fn a_click_is_on_the_screen_within_two_seconds() {
    if browser().is_none() {
        return;
    }
    let server = Server::with(&[("TALLY__PIPELINE__COMMIT_AFTER_MS", "5000")]);
    let Some(done) = seen("live", &server, "") else { return };
    for way in ["socket", "events"] {
        assert!(done[way].as_f64().unwrap() < SCREEN_TIME_S, "{way}: {done}");
        assert!(done[format!("{way}_campaigns")].as_str().unwrap().contains(&format!("now-{way}")), "{done}");
    }
}

#[test]
fn a_server_that_restarts_is_found_again() {
    if browser().is_none() {
        return;
    }
    let mut server = Server::start();
    let Some(mut command) = look("restart", &server) else { return };
    let mut person: Child = command.spawn().unwrap();
    let mut says = BufReader::new(person.stdout.take().unwrap());
    let mut tell = person.stdin.take().unwrap();
    let mut line = String::new();
    says.read_line(&mut line).unwrap();
    assert_eq!(line, "live\n");
    assert!(server.stop());
    writeln!(tell, "gone").unwrap();
    line.clear();
    says.read_line(&mut line).unwrap();
    assert_eq!(line, "away\n");
    server.restart();
    writeln!(tell, "back").unwrap();
    let mut rest = String::new();
    says.read_to_string(&mut rest).unwrap();
    let output = person.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let done: Value = serde_json::from_str(&rest).unwrap();
    assert!(done["told"].as_str().unwrap().contains("stand still"), "{done}");
    let old = done["old"].as_str().unwrap();
    assert!(old.contains("These figures are old") && old.contains("received"), "what was there stays: {old}");
    assert!(done["unreachable"].as_str().unwrap().contains("cannot be reached"), "{done}");
}

#[test]
fn an_error_of_the_server_is_told_with_its_cure() {
    if browser().is_none() {
        return;
    }
    let server = Server::start();
    server.post("/v1/events", click(1, "spring").to_string(), &[]);
    server.wait_until_counted();
    let Some(done) = seen("errors", &server, "") else { return };
    let said = done["said"].as_str().unwrap();
    assert!(said.contains("The question took too long (504)") && said.contains("ask for a shorter time"), "{done}");
    assert!(done["seal"].as_str().unwrap().contains("contradict"), "{done}");
}

#[test]
fn a_session_opens_the_figures_and_nothing_that_changes_them() {
    if browser().is_none() {
        return;
    }
    let server = Server::with(&[("TALLY__SERVER__AUTH", "on")]);
    let data = server.data();
    let data = data.to_str().unwrap();
    let made = server.tally(&["keys", "create", "team", "--scopes", "query,admin", "--data", data]);
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    super::server::eventually("the key is taken", || server.get_with("/v1/verify", &[("x-api-key", &key)]).0 == 200);
    let Some(done) = seen("sign_in", &server, &key) else { return };
    assert!(done["refused"].as_str().unwrap().contains("not known"), "{done}");
    assert!(done["address"].as_str().unwrap().contains("/quality?range=custom"), "back where it was sent away: {done}");
    assert_eq!(done["cookie"], json!({"httpOnly": true, "sameSite": "Strict"}));
    assert!(done["after"].as_str().unwrap().contains("/sign-in"), "{done}");

    let cookie = format!("a=b; tally_session={}", done["value"].as_str().unwrap());
    let cookie = [("cookie", cookie.as_str())];
    assert_eq!(server.get_with("/v1/verify", &cookie).0, 200);
    assert_eq!(server.get("/v1/verify").0, 401);
    assert_eq!(server.post("/v1/admin/rebuild", "{}", &cookie).0, 401, "a session changed figures");
    assert_eq!(server.post("/v1/events/batch", "{}", &cookie).0, 401, "a session sent events");
    assert!(server.tally(&["keys", "revoke", "team", "--data", data]).status.success());
    super::server::eventually("a session ends with its key", || server.get_with("/v1/verify", &cookie).0 == 401);
}

#[test]
fn a_period_begins_when_clocks_of_its_zone_show_it_also_on_the_days_when_they_change() {
    if browser().is_none() {
        return;
    }
    let server = Server::start();
    let Some(done) = seen("periods", &server, "") else { return };
    for (period, from, to) in [
        ("spring", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("autumn", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("month", "2026-02-01T05:00", "2026-03-01T05:00"),
        ("day", "2026-06-09T10:00", "2026-06-10T11:00"),
    ] {
        assert_eq!(done[period], json!([from, to]), "{period}: {done}");
    }
    assert_eq!(done["india"], true, "hours there begin at half past in UTC");
    assert_eq!(done["csv"], "a\r\n'=1+1\r\n\"x,\"\"y\"\"\"\r\n-5\r\n");
}

#[test]
fn viewers_do_not_keep_a_server_from_stopping() {
    /// Less than open requests are given to finish (`DRAIN_TIME`).
    const STOP_TIME: Duration = Duration::from_secs(8);
    let mut server = Server::start();
    let mut viewer = TcpStream::connect(server.address()).unwrap();
    write!(viewer, "GET /v1/live/events HTTP/1.1\r\nhost: {}\r\n\r\n", server.address()).unwrap();
    let mut lines = BufReader::new(viewer).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("data: {")), "nothing was told");
    let asked = Instant::now();
    assert!(server.stop());
    assert!(asked.elapsed() < STOP_TIME, "it took {:?}", asked.elapsed());
    let last = lines.last();
    assert_eq!(last.as_deref(), Some(""), "the answer is brought to its end");
}

#[test]
fn what_an_analysis_answers_is_told_in_plain_words() {
    if browser().is_none() {
        return;
    }
    let server = Server::start();
    let mut events = Vec::new();
    for (nth, variant) in ["a", "b", "c"].into_iter().enumerate() {
        let mut shown = click(nth as u128 + 1, "spring");
        (shown["kind"], shown["variant"]) = (json!("impression"), json!(variant));
        events.push(shown);
    }
    events.push(click(9, "spring"));
    server.post("/v1/events/batch", ndjson(&events), &[]);
    server.wait_until_counted();
    let Some(done) = seen("analyses", &server, "") else { return };
    assert_eq!(done["troubles"], json!([]), "{done:#}");
    for (page, words) in [
        ("compare", "▲ +20% from 100"),
        ("compare", "none before"),
        ("compare", "b has a higher CTR than the control (9.00% against 5.00% of a)"),
        ("compare", "between +1.7 percentage points and +6.3 percentage points"),
        ("compare", "c and the control cannot be told apart"),
        ("compare", "wait for more"),
        ("compare", "sample ratio mismatch"),
        ("funnel", "10.00% of the step before"),
        ("funnel", "25.00% of the step before"),
        ("heatmap", "clicks with a place\n7\nclicks without\n2"),
        ("heatmap", "column 4, row 5"),
        ("heatmap", "column 13, row 10: no click"),
        ("forecast", "off by 12% on average"),
    ] {
        assert!(done[page].as_str().unwrap().contains(words), "{page} does not say {words:?}: {}", done[page]);
    }
    assert_eq!(done["fields"], 2);
}
