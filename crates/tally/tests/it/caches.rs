//! Answers that are known already: told again without work, and never when they would be wrong.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, click, metric, ndjson};

const DAYS: [&str; 3] = ["2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z", "2024-05-03T00:00:00Z"];

fn send(server: &Server, first_id: u128, n: u128, day: usize) {
    let events: Vec<Value> = (first_id..first_id + n)
        .map(|id| {
            let mut event = click(id, "spring");
            event["occurred_at"] = json!(DAYS[day]);
            event
        })
        .collect();
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
    server.wait_until_counted();
}

fn of_day(day: usize) -> Value {
    json!({"metrics": ["clicks"], "from": DAYS[day], "to": DAYS[day + 1]})
}

fn clicks(server: &Server, day: usize) -> i64 {
    server.ask(of_day(day))[0]["clicks"].as_i64().unwrap()
}

fn by_url(server: &Server, question: &Value, headers: &[(&str, &str)]) -> (u16, String, Value) {
    let q: String = question.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, head, body) = server.get_with(&format!("/v1/query?q={q}"), headers);
    let etag = head.get("etag").map(|etag| etag.to_str().unwrap().to_owned()).unwrap_or_default();
    (status, etag, serde_json::from_str(&body).unwrap_or_default())
}

#[test]
fn an_answer_stays_until_a_day_that_it_is_about_gets_an_event() {
    let server = Server::start();
    send(&server, 0, 10, 0);
    send(&server, 10, 10, 1);
    let hits = || metric(&server.get("/metrics").1, "tally_api_cache_hits_total");
    assert_eq!((clicks(&server, 0), clicks(&server, 1)), (10, 10));
    let before = hits();
    assert_eq!(clicks(&server, 0), 10);
    assert_eq!(hits(), before + 1.0);

    let (status, etag, body) = by_url(&server, &of_day(0), &[]);
    assert_eq!((status, &body["rows"][0]["clicks"]), (200, &json!(10)));
    let (status, _, body) = by_url(&server, &of_day(0), &[("if-none-match", &etag)]);
    assert_eq!((status, body), (304, Value::Null));

    // Of the day after: nothing is taken away. Then one late event: the very next question sees it.
    send(&server, 20, 5, 1);
    assert_eq!(by_url(&server, &of_day(0), &[("if-none-match", &etag)]).0, 304);
    send(&server, 25, 1, 0);
    let (status, newer, body) = by_url(&server, &of_day(0), &[("if-none-match", &etag)]);
    assert_eq!((status, &body["rows"][0]["clicks"]), (200, &json!(11)));
    assert_ne!(newer, etag);
    assert_eq!((clicks(&server, 0), clicks(&server, 1)), (11, 15));

    let (status, _, problem) = by_url(&server, &json!({"metrics": ["clicks"]}), &[]);
    assert_eq!((status, &problem["field"]), (400, &json!("from")), "{problem}");
}

#[test]
fn what_was_acknowledged_is_in_the_answer_where_that_is_asked_for() {
    // Batches would wait for an hour: only the questions make the server hurry.
    let server = Server::with(&[("TALLY__PIPELINE__COMMIT_AFTER_MS", "3600000")]);
    for n in 1..=5 {
        assert_eq!(server.post("/v1/events", click(n, "spring").to_string(), &[]).0, 202);
        let rows = server.ask(json!({"metrics": ["clicks"], "consistency": "acknowledged"}));
        assert_eq!(rows, [json!({"clicks": n})]);
    }
    assert_eq!(server.post("/v1/events", click(6, "spring").to_string(), &[]).0, 202);
    assert_eq!(server.total("clicks"), 5, "the figures that are in by now");
}

#[test]
fn a_client_never_sees_less_than_it_saw_and_can_look_back() {
    let mut server = Server::start();
    send(&server, 0, 10, 0);
    let (_, head, _) = server.post_for_head("/v1/query", of_day(0).to_string(), &[]);
    let seen = head.get("x-tally-session").unwrap().to_str().unwrap().to_owned();
    let ask = |server: &Server, session: &str| {
        let (status, body) = server.post("/v1/query", of_day(0).to_string(), &[("x-tally-session", session)]);
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    server.kill();
    server.restart();
    let (status, body) = ask(&server, &seen);
    assert_eq!((status, &body["rows"][0]["clicks"]), (200, &json!(10)), "what was seen survives a crash");
    let asked = Instant::now();
    let (status, problem) = ask(&server, "1000000");
    assert!(status == 503 && problem["type"] == "urn:tally:problem:behind", "{problem}");
    assert!(asked.elapsed() >= Duration::from_secs(1), "it waits for what may come");
    assert_eq!(ask(&server, "yesterday").0, 400);

    let version: i64 = seen.parse().unwrap();
    send(&server, 10, 3, 0);
    let mut old = of_day(0);
    old["as_of"] = json!(version);
    assert_eq!(server.ask(old.clone())[0]["clicks"], 10);
    old["restated"] = json!(true);
    assert_eq!(server.ask(old.clone()), [json!({"clicks": 13, "clicks_as_of": 10})]);
    let printed = server.tally(&[
        "query",
        "clicks",
        "--from",
        "2024-05-01",
        "--to",
        "2024-05-02",
        "--as-of",
        &version.to_string(),
        "--restated",
        "--format",
        "csv",
        "--server",
        &server.url(""),
    ]);
    assert_eq!(super::server::said(&printed), "clicks,clicks_as_of\n13,10\n");
    let mut explained = of_day(0);
    explained["explain"] = json!(true);
    let (_, body) = server.post("/v1/query", explained.to_string(), &[]);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["meta"]["explain"]["source"], "campaign_day", "{body}");
    assert_eq!(body["meta"]["explain"]["why_not"][0]["table"], "campaign_month", "{body}");
    assert!(!body.to_string().contains(server.data().to_str().unwrap()), "no path of this machine: {body}");
}

struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// None where there is none on this machine.
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = ["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
        let process = Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn();
        let Ok(process) = process else {
            eprintln!("skipped: there is no redis-server on this machine");
            return None;
        };
        let redis = Self { process, port };
        super::server::eventually("Redis listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(redis)
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn servers_share_answers_in_redis_and_do_without_it() {
    let Some(mut redis) = Redis::start() else { return };
    let url = format!("redis://127.0.0.1:{}/0", redis.port);
    let mut server = Server::with(&[("TALLY__REPORTS__REDIS_URL", &url)]);
    send(&server, 0, 10, 0);
    let shared_hits = |server: &Server| metric(&server.get("/metrics").1, "tally_api_shared_hits_total");
    assert_eq!((clicks(&server, 0), shared_hits(&server)), (10, 0.0));
    // Another process, which knows nothing by itself.
    super::server::eventually("an answer of another process is used", || {
        server.stop();
        server.restart();
        assert_eq!(clicks(&server, 0), 10);
        shared_hits(&server) == 1.0
    });
    send(&server, 10, 1, 0);
    assert_eq!(clicks(&server, 0), 11, "and never when it is old");

    redis.stop();
    let asked = Instant::now();
    send(&server, 11, 1, 0);
    assert_eq!(clicks(&server, 0), 12);
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}
