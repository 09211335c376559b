//! Every report shape and every analysis, computed once more by somebody else: DuckDB over the Parquet files of the lake, with
//! metrics as docs/api.md defines them and the calendars of Python (`independent.py`).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tally_model::report::Catalog;

use super::peers::python_with;
use super::real_data;
use super::server::{BINARY, Server, metric, ndjson, said};

const COMPUTED_ANEW: &str = include_str!("independent.py");
const BATCH: usize = 10_000;

fn python() -> Option<String> {
    python_with("deltalake, duckdb, pyarrow", "deltalake duckdb pyarrow")
}

/// Questions, and what the server answered.
struct Asked<'a> {
    server: &'a Server,
    /// `from`, `to` and `time_zone`, of questions that say no others.
    period: Value,
    all: Vec<Value>,
}

impl Asked<'_> {
    fn ask(&mut self, path: &str, rest: Value) -> Value {
        let mut question = self.period.clone();
        question.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let (status, body) = self.server.post(path, question.to_string(), &[]);
        assert_eq!(status, 200, "{path} {question}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        self.all.push(json!({"path": path, "question": question, "answer": answer.clone()}));
        answer
    }

    fn report(&mut self, rest: Value) {
        let mut question = json!({"limit": 1_000_000});
        question.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        self.ask("/v1/query", question);
    }

    fn analysis(&mut self, name: &str, rest: Value) -> Value {
        self.ask(&format!("/v1/analyses/{name}"), rest)
    }
}

fn metrics() -> Vec<&'static str> {
    Catalog::whole().metrics.iter().map(|metric| metric.name).collect()
}

fn send(server: &Server, events: &[Value]) {
    for batch in events.chunks(BATCH) {
        let (status, body) = server.post("/v1/events/batch", ndjson(batch), &[]);
        assert_eq!(status, 202, "{body}");
    }
    server.wait_until_counted();
}

/// Conversions are attributed behind the figures: until nothing moves any more.
fn wait_until_attributed(server: &Server, events: usize) {
    let taken_up = || metric(&server.get("/metrics").1, "tally_attribution_records");
    let started = Instant::now();
    while taken_up() < events as f64 {
        assert!(started.elapsed() < Duration::from_secs(600), "{} of {events} events were taken up", taken_up());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every shape of a report, by every dimension.
fn ask_reports(asked: &mut Asked, campaign: &str) {
    let (all, few) = (metrics(), ["impressions", "clicks", "ctr", "cost_micros", "margin_micros"]);
    asked.report(json!({"metrics": all}));
    for dimension in Catalog::whole().dimensions {
        asked.report(json!({"metrics": all, "group_by": [dimension.name]}));
    }
    for groups in
        [json!(["campaign_id", "country"]), json!(["country", "gender"]), json!(["day", "campaign_id", "device"])]
    {
        asked.report(json!({"metrics": few, "group_by": groups}));
    }
    for filters in [
        json!([{"field": "campaign_id", "values": [campaign]}]),
        json!([{"field": "gender", "op": "not_in", "values": ["female"]}]),
        json!([{"field": "gender", "op": "not_in", "values": ["female", null]}]),
        json!([{"field": "age_group", "values": [null]}, {"field": "kind", "values": ["click"]}]),
        json!([{"field": "segment", "values": ["sports", "no such segment"]}]),
        json!([{"field": "segment", "op": "ne", "values": ["sports"]}, {"field": "region", "values": ["eu", "na"]}]),
    ] {
        asked.report(json!({"metrics": few, "group_by": ["campaign_id"], "filters": filters}));
        asked.report(json!({"metrics": few, "group_by": ["segment"], "filters": filters}));
    }
    let most = json!([{"field": "ctr", "desc": true}, {"field": "clicks"}]);
    asked.report(json!({"metrics": few, "group_by": ["ad_id"], "order_by": most, "limit": 7}));
    asked.report(
        json!({"metrics": few, "group_by": ["variant", "ad_id"], "order_by": [{"field": "ad_id", "desc": true}]}),
    );
    for booking in ["click_date", "conversion_date"] {
        for groups in [json!([]), json!(["campaign_id"]), json!(["country", "week"]), json!(["day"])] {
            let names = ["conversions", "revenue_micros", "clicks", "cvr", "roas"];
            asked.report(json!({"metrics": names, "group_by": groups, "attribution": booking}));
        }
    }
}

fn ask_series(asked: &mut Asked, campaign: &str) {
    for unit in ["hour", "day", "week", "month"] {
        asked.report(json!({"metrics": metrics(), "group_by": [unit]}));
        asked
            .report(json!({"metrics": ["clicks", "cost_micros", "ctr"], "group_by": [unit, "region"], "fill": "zero"}));
        let filters = json!([{"field": "campaign_id", "values": [campaign]}, {"field": "kind", "values": ["click"]}]);
        asked.report(json!({"metrics": ["clicks", "ctr"], "group_by": [unit], "filters": filters, "fill": "null"}));
    }
}

fn ask_analyses(asked: &mut Asked, campaign: &str, control: &str) {
    let of_campaign = json!([{"field": "campaign_id", "values": [campaign]}]);
    for (dimension, name, k) in [("country", "clicks", 5), ("ad_id", "ctr", 10), ("publisher_id", "users", 20)] {
        asked.analysis("top", json!({"dimension": dimension, "metric": name, "k": k}));
    }
    for groups in [json!([]), json!(["campaign_id"]), json!(["country", "device"])] {
        asked.analysis("compare", json!({"metrics": ["clicks", "ctr", "cost_micros"], "group_by": groups}));
    }
    for name in ["ctr", "cvr"] {
        asked.analysis("ab-test", json!({"metric": name, "split": "variant", "control": control}));
    }
    asked.analysis(
        "ab-test",
        json!({"metric": "ctr", "split": "variant", "control": control, "filters": of_campaign, "confidence": 0.8}),
    );
    let steps = |kinds: &[&str]| kinds.iter().map(|kind| json!({"kind": kind})).collect::<Vec<_>>();
    for (kinds, window_s) in [
        (&["impression", "click"][..], 3_600),
        (&["impression", "click", "conversion"], 86_400),
        (&["click", "click"], 604_800),
    ] {
        asked.analysis("funnel", json!({"steps": steps(kinds), "window_s": window_s}));
        asked.analysis("funnel", json!({"steps": steps(kinds), "window_s": window_s, "segment": "gender"}));
    }
    for (columns, rows) in [(20, 20), (10, 7)] {
        asked.analysis("heatmap", json!({"columns": columns, "rows": rows}));
    }
    for property in ["time_to_convert_s", "cost_micros", "revenue_micros", "props.price"] {
        asked.analysis("percentiles", json!({"property": property}));
        let these = [0.0, 1.0, 50.0, 99.9, 100.0];
        asked.analysis(
            "percentiles",
            json!({"property": property, "percentiles": these, "group_by": ["campaign_id", "gender"]}),
        );
    }
    let of_clicks = json!([{"field": "kind", "values": ["click"]}]);
    asked.analysis("percentiles", json!({"property": "cost_micros", "filters": of_clicks, "group_by": ["segment"]}));
    let drawn = asked.analysis("sample", json!({"size": 500}));
    let again = asked.analysis("sample", json!({"size": 500, "seed": drawn["seed"]}));
    assert_eq!(again["rows"], drawn["rows"], "the same seed draws the same");
    asked.analysis("sample", json!({"size": 10_000, "seed": 7, "filters": of_campaign}));
    for unit in ["hour", "day"] {
        asked.analysis("series", json!({"metric": "clicks", "unit": unit}));
        asked.analysis("series", json!({"metric": "cost_micros", "unit": unit, "windows": 3}));
        asked.analysis("forecast", json!({"metric": "clicks", "unit": unit, "horizon": 5}));
    }
}

/// Stops the server, so that the files stay as they are, and compares.
fn compare(mut server: Server, python: &str, answers: &[Value], figures_least: u64) {
    server.verify();
    assert!(server.stop());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.json");
    std::fs::write(&path, serde_json::to_vec(answers).unwrap()).unwrap();
    let output = Command::new(python).arg("-c").arg(COMPUTED_ANEW).arg(server.data()).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stdout);
    let summary: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["answers"], &summary["wrong"]), (&json!(answers.len()), &json!(0)), "{told}");
    assert!(summary["figures"].as_u64() > Some(figures_least), "compared too little: {summary}");
}

/// Traffic of some days, with a number of the sender's own in many events, and one that is no number in some.
fn generated(folder: &Path, seed: u32, start: &str, days: u32) -> Vec<Value> {
    let path = folder.join("events.ndjson");
    let (seed, duration_s) = (seed.to_string(), (days * 86_400).to_string());
    let arguments = ["generate", "--events", "20000", "--campaigns", "6", "--seed", &seed, "--start", start];
    let output =
        Command::new(BINARY).args(arguments).args(["--duration-s", &duration_s, "--output"]).arg(&path).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = std::fs::read_to_string(&path).unwrap();
    let event = |(at, line): (usize, &str)| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        match at % 7 {
            0 => event["price"] = json!((at % 1_000) as f64 / 8.0),
            1 => event["price"] = json!(at % 300),
            2 => event["price"] = json!(format!("{}.5", at % 90)),
            3 => event["price"] = json!({"amount": 1}),
            _ => {}
        }
        event
    };
    text.lines().enumerate().map(event).collect()
}

/// Each of these zones changes its clocks within the time, forth and back; Lord Howe Island by half an hour.
#[test]
fn everything_that_can_be_asked_of_generated_traffic_is_computed_alike_by_duckdb() {
    let Some(python) = python() else { return };
    // Every group is compared, however small.
    let server = Server::with(&[("TALLY__REPORTS__AUDIENCE_PEOPLE_MIN", "0")]);
    let folder = tempfile::tempdir().unwrap();
    let mut events = generated(folder.path(), 11, "2024-03-08T00:00:00Z", 32);
    events.extend(generated(folder.path(), 12, "2024-10-04T00:00:00Z", 32));
    send(&server, &events);
    wait_until_attributed(&server, events.len());
    let mut asked = Asked { server: &server, period: Value::Null, all: Vec::new() };
    let (spring, autumn) =
        (("2024-03-01T00:00:00Z", "2024-05-01T00:00:00Z"), ("2024-10-01T00:00:00Z", "2024-12-01T00:00:00Z"));
    asked.period = json!({"from": "2024-03-01T00:00:00Z", "to": "2024-12-01T00:00:00Z"});
    ask_reports(&mut asked, "campaign-001");
    ask_analyses(&mut asked, "campaign-001", "a");
    for name in ["ctr", "cvr"] {
        asked.analysis("ab-test", json!({"metric": name, "split": "region", "control": "eu"}));
    }
    // Not on the edges of any cell, so from raw events.
    asked.period = json!({"from": "2024-03-20T10:20:30Z", "to": "2024-04-02T07:08:09.123456Z"});
    ask_reports(&mut asked, "campaign-002");
    ask_analyses(&mut asked, "campaign-002", "b");
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
        for (from, to) in [spring, autumn] {
            asked.period = json!({"from": from, "to": to, "time_zone": zone});
            ask_series(&mut asked, "campaign-001");
            asked.analysis("series", json!({"metric": "clicks", "unit": "week"}));
        }
    }
    for (zone, change) in [
        ("Europe/Berlin", "2024-03-31"),
        ("Europe/Berlin", "2024-10-27"),
        ("America/New_York", "2024-03-10"),
        ("America/New_York", "2024-11-03"),
        ("Australia/Lord_Howe", "2024-04-06"),
        ("Australia/Lord_Howe", "2024-10-05"),
    ] {
        // The clocks change within this UTC day.
        asked.period =
            json!({"from": format!("{change}T00:00:00Z"), "to": format!("{change}T23:59:00Z"), "time_zone": zone});
        for unit in ["minute", "hour", "day"] {
            asked.report(json!({"metrics": metrics(), "group_by": [unit]}));
            asked.report(json!({"metrics": ["clicks", "cost_micros"], "group_by": [unit], "fill": "zero"}));
        }
    }
    let answers = std::mem::take(&mut asked.all);
    compare(server, &python, &answers, 100_000);
}

#[test]
fn everything_that_can_be_asked_of_real_traffic_is_computed_alike_by_duckdb() {
    let (Some(python), Some(data)) = (python(), real_data::data()) else { return };
    let server = Server::with(&[("TALLY__REPORTS__AUDIENCE_PEOPLE_MIN", "0")]);
    let events = ["open-bandit", "ipinyou"].map(|set| real_data::events(&data, set));
    events.iter().for_each(|events| send(&server, events));
    wait_until_attributed(&server, events.iter().map(Vec::len).sum());
    let mut asked = Asked { server: &server, period: Value::Null, all: Vec::new() };
    for (from, to, zone, campaign) in [
        ("2019-11-23T00:00:00Z", "2019-12-02T00:00:00Z", "Asia/Tokyo", "men"),
        ("2013-10-20T16:00:00Z", "2013-10-22T16:00:00Z", "Asia/Shanghai", "2821"),
    ] {
        asked.period = json!({"from": from, "to": to, "time_zone": zone});
        ask_reports(&mut asked, campaign);
        ask_series(&mut asked, campaign);
        if campaign == "men" {
            ask_analyses(&mut asked, campaign, "random");
        }
    }
    let answers = std::mem::take(&mut asked.all);
    compare(server, &python, &answers, 20_000);
}
