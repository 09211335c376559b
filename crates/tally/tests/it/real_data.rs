//! Real ad logs with totals counted by somebody else, sent twice, the second time shuffled, through three kill -9: the figures
//! are those totals, to the last event.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::server::{BINARY, Server, metric};

/// The folder with the data, beside the checkout; where it is missing these tests have nothing to test.
pub fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if folder.join("to_ndjson.py").is_file() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no real ad data in ../shared/data beside this checkout; it is not ours to distribute");
    None
}

/// All events of a set, as JSON.
pub fn events(data: &Path, set: &str) -> Vec<Value> {
    Lines::of(data, set).0.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Lines(Vec<String>);

impl Lines {
    fn of(data: &Path, set: &str) -> Self {
        let output = Command::new("python3").arg(data.join("to_ndjson.py")).arg(set).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
    }

    /// Fisher-Yates with a small generator: another order, the same at each run.
    fn shuffle(&mut self) {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        for at in (1..self.0.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            self.0.swap(at, (state % (at as u64 + 1)) as usize);
        }
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.0.join("\n") + "\n").unwrap();
    }
}

/// Kills the server each time that it has made so many more records durable, and starts it again; the sender goes on by itself.
fn send_through_kills(server: &mut Server, file: &Path, kills_after_records: &[usize]) {
    let mut sending = Command::new(BINARY)
        .args(["send", "--batch", "250", "--concurrency", "2", "--to", &server.url("")])
        .arg(file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for records in kills_after_records {
        while metric(&server.get("/metrics").1, "tally_journal_records_total") < *records as f64 {
            assert!(sending.try_wait().unwrap().is_none(), "everything was sent before the kill");
        }
        server.kill();
        std::thread::sleep(Duration::from_millis(100));
        server.restart();
    }
    assert!(sending.wait().unwrap().success());
}

/// Every breakdown of truth.json, as counted by the server.
fn compare(server: &Server, truth: &Value, campaigns: &[&str], zone: &str) {
    let mut compared = 0;
    let breakdowns = [
        ("by_campaign_id", vec!["campaign_id"]),
        ("by_ad_id", vec!["ad_id"]),
        ("by_placement_id", vec!["placement_id"]),
        ("by_publisher_id", vec!["publisher_id"]),
        ("by_variant", vec!["variant"]),
        ("by_gender", vec!["gender"]),
        ("by_age_group", vec!["age_group"]),
        ("by_local_day", vec!["day"]),
        ("by_campaign_variant", vec!["campaign_id", "variant"]),
    ];
    for (name, groups) in breakdowns {
        let Some(known) = truth[name].as_object() else { continue };
        let rows = server.ask(json!({
            "metrics": ["impressions", "clicks"], "group_by": groups, "time_zone": zone, "limit": 100_000,
            "filters": [{"field": "campaign_id", "values": campaigns}],
        }));
        let mut found = Map::new();
        for row in &rows {
            let key: Vec<&str> = groups.iter().map(|group| row[*group].as_str().unwrap_or("None")).collect();
            for kind in ["impression", "click"] {
                let n = row[format!("{kind}s")].as_u64().unwrap();
                if n > 0 && key != ["None"] {
                    found.insert(format!("{}|{kind}", key.join("|")), json!(n));
                }
            }
        }
        let mut known = known.clone();
        known.sort_keys();
        found.sort_keys();
        assert_eq!(found, known, "{name}");
        compared += found.len();
    }
    for kind in ["impression", "click"] {
        let rows = server.ask(json!({
            "metrics": ["cost_micros", "users", format!("{kind}s"), format!("gross_{kind}s"), format!("duplicate_{kind}s")],
            "filters": [{"field": "kind", "values": [kind]}, {"field": "campaign_id", "values": campaigns}],
        }));
        assert_eq!(rows[0][format!("{kind}s")], truth["net"][kind]);
        assert_eq!(rows[0]["cost_micros"], truth["cost_micros"][kind]);
        assert_eq!(
            rows[0]["users"].as_u64(),
            Some(truth["distinct_users"][kind].as_u64().unwrap_or(0)),
            "from raw, hence exact"
        );
        let (gross, net) = (rows[0][format!("gross_{kind}s")].as_u64().unwrap(), truth["net"][kind].as_u64().unwrap());
        assert_eq!(rows[0][format!("duplicate_{kind}s")].as_u64(), Some(gross - net), "what came in minus what counts");
        assert!(gross >= 2 * truth["received"][kind].as_u64().unwrap(), "both times everything arrived");
    }
    assert!(compared > 40, "only {compared} figures were compared");
}

/// The facts of the A/B test that the data came from, and people and clicks as the reports count them.
fn compare_analyses(server: &Server) {
    let asked = |name: &str, mut question: Value| -> Value {
        (question["from"], question["to"]) = (json!("2019-11-01T00:00:00Z"), json!("2019-12-31T00:00:00Z"));
        let (status, body) = server.post(&format!("/v1/analyses/{name}"), question.to_string(), &[]);
        assert_eq!(status, 200, "{name} {question}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    for (campaign, z, p) in [("all", 0.448, 0.654), ("men", 2.151, 0.0315), ("women", 0.0, 1.0)] {
        let filters = json!([{"field": "campaign_id", "values": [campaign]}]);
        let question = json!({"metric": "ctr", "split": "variant", "control": "random", "filters": filters});
        let answer = asked("ab-test", question);
        let test = &answer["tests"][0];
        let near = |name: &str, known: f64, off: f64| (test[name].as_f64().unwrap() - known).abs() < off;
        assert!(near("z", z, 5e-4) && near("p_value", p, if p < 0.1 { 5e-5 } else { 5e-4 }), "{campaign}: {answer}");
        assert_eq!(test["verdict"], if campaign == "men" { "better" } else { "no_difference_shown" });
    }
    let clicks = server.total("clicks");
    let top = asked("top", json!({"dimension": "campaign_id", "metric": "clicks", "k": 2}));
    assert_eq!((top["rows"].as_array().unwrap().len(), &top["exact"]), (2, &json!(true)));
    let compared = asked("compare", json!({"metrics": ["clicks"]}));
    assert_eq!(
        (&compared["rows"][0]["clicks"]["now"], &compared["rows"][0]["clicks"]["before"]),
        (&json!(clicks), &json!(0))
    );
    let heat = asked("heatmap", json!({"columns": 10, "rows": 10}));
    assert_eq!(heat["clicks"].as_i64().unwrap() + heat["without_position"].as_i64().unwrap(), clicks);
    let told = asked("forecast", json!({"metric": "impressions", "unit": "hour", "horizon": 24}));
    assert_eq!((told["forecast"].as_array().unwrap().len(), &told["season_length"]), (24, &json!(24)));
    let steps = json!([{"kind": "impression"}, {"kind": "click"}]);
    let funnel = asked("funnel", json!({"steps": steps, "segment": "variant"}));
    let of = |kind: &str| {
        server.ask(json!({"metrics": ["users"], "filters": [{"field": "kind", "values": [kind]}]}))[0]["users"].clone()
    };
    assert_eq!(funnel["steps"][0]["users"], of("impression"), "everybody who saw an ad is at the first step");
    assert!(funnel["steps"][1]["users"].as_i64() <= of("click").as_i64(), "{funnel}");
}

fn check(set: &str, campaigns: &[&str], zone: &str) {
    let Some(data) = data() else { return };
    let truth: Value = serde_json::from_slice(&std::fs::read(data.join(set).join("truth.json")).unwrap()).unwrap();
    let mut lines = Lines::of(&data, set);
    let files = tempfile::tempdir().unwrap();
    let (first, second) = (files.path().join("first.ndjson"), files.path().join("second.ndjson"));
    lines.write(&first);
    lines.shuffle();
    lines.write(&second);

    let mut server = Server::start();
    let all = lines.0.len();
    send_through_kills(&mut server, &first, &[all / 7, all / 3]);
    send_through_kills(&mut server, &second, &[all / 4]);
    server.wait_until_counted();
    compare(&server, &truth, campaigns, zone);
    if set == "open-bandit" {
        compare_analyses(&server);
    }
    server.verify();
}

#[test]
fn open_bandit_is_counted_to_the_last_event_through_kills_and_repeats() {
    check("open-bandit", &["all", "men", "women"], "UTC");
}

#[test]
fn ipinyou_is_counted_to_the_last_event_through_kills_and_repeats() {
    check("ipinyou", &["2821"], "Asia/Shanghai");
}
