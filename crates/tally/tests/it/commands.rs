//! The commands, as typed.

use serde_json::Value;

use super::server::{BINARY, Server, click, ndjson, said};

#[test]
fn generated_traffic_is_counted_as_its_truth_says_from_server_and_folder_alike() {
    let mut server = Server::start();
    let files = tempfile::tempdir().unwrap();
    let (events, truth) = (files.path().join("events.ndjson.zst"), files.path().join("truth.json"));
    let (events, truth) = (events.to_str().unwrap(), truth.to_str().unwrap());
    let output = server.tally(&["generate", "--events", "20000", "--seed", "7", "--output", events, "--truth", truth]);
    assert!(output.status.success(), "{}", said(&output));
    let output = server.tally(&["send", events, "--to", &server.url("")]);
    assert!(
        output.status.success() && said(&output).contains("20000 events accepted, 0 rejected"),
        "{}",
        said(&output)
    );
    server.wait_until_counted();

    let truth: Value = serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
    let ask = |place: &[&str]| -> Value {
        let mut arguments = vec![
            "query",
            "impressions,clicks,conversions,duplicate_clicks,invalid_givt_clicks,cost_micros",
            "--format",
            "json",
        ];
        arguments.extend(place);
        let output = server.tally(&arguments);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["rows"][0].clone()
    };
    let from_server = ask(&["--server", &server.url("")]);
    for kind in ["impression", "click", "conversion"] {
        assert_eq!(from_server[format!("{kind}s")], truth["counted"][kind], "{kind}s");
    }
    assert_eq!(from_server["duplicate_clicks"], truth["duplicate"]["click"]);
    assert_eq!(from_server["invalid_givt_clicks"], truth["invalid_givt"]["click"]);
    let cost: i64 = truth["cost_micros"].as_object().unwrap().values().map(|cost| cost.as_i64().unwrap()).sum();
    assert_eq!(from_server["cost_micros"].as_i64(), Some(cost));

    let folder = server.data().to_str().unwrap().to_owned();
    assert_eq!(ask(&["--data", &folder]), from_server, "while the server runs on it");
    assert!(server.stop());
    let output = server.tally(&["verify", "--recount", "--data", &folder]);
    assert!(output.status.success() && said(&output).contains("everything holds"), "{}", said(&output));
}

#[test]
fn query_verify_and_why_speak_to_people() {
    let server = Server::start();
    let events: Vec<Value> =
        (0..1_500).map(|id| click(id, if id % 3 == 0 { "one" } else { "two" })).chain([click(5, "two")]).collect();
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
    server.wait_until_counted();
    let url = server.url("");
    let table =
        said(&server.tally(&["query", "clicks,ctr", "--by", "campaign_id", "--order", "-clicks", "--server", &url]));
    assert!(table.contains("two") && table.contains("1,000") && table.contains("campaign_month"), "{table}");
    let csv = said(&server.tally(&[
        "query",
        "clicks",
        "--by",
        "campaign_id",
        "--where",
        "campaign_id=one",
        "--format",
        "csv",
        "--server",
        &url,
    ]));
    assert_eq!(csv, "campaign_id,clicks\none,500\n");
    let proof = said(&server.tally(&["verify", "--recount", "--server", &url]));
    assert!(
        proof.contains("1,501 received = 1,500 counted + 1 duplicate") && proof.contains("everything holds"),
        "{proof}"
    );
    let life = said(&server.tally(&["why", &uuid::Uuid::from_u128(5).to_string(), "--server", &url]));
    assert!(
        life.contains("came in 2 time(s)") && life.contains("click duplicate (same_id: first seen at offset"),
        "{life}"
    );
    let unknown = server.tally(&["query", "clics", "--server", &url]);
    assert!(!unknown.status.success() && said(&unknown).contains("did you mean \"clicks\"?"), "{}", said(&unknown));
}

#[test]
fn check_config_says_what_results_or_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tally.toml");
    std::fs::write(&file, "[journal]\npartitions = 2\n").unwrap();
    let run = |arguments: &[&str]| std::process::Command::new(BINARY).args(arguments).output().unwrap();
    let fine = run(&["check-config", "--config", file.to_str().unwrap()]);
    assert!(fine.status.success() && said(&fine).contains("partitions: 2"), "{}", said(&fine));
    std::fs::write(&file, "[journal]\npartition = 2\n").unwrap();
    let wrong = run(&["check-config", "--config", file.to_str().unwrap()]);
    assert!(!wrong.status.success() && said(&wrong).contains("partition"), "{}", said(&wrong));
}

#[test]
fn the_demo_counts_what_it_sent() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["demo", "--seconds", "3", "--rate", "500", "--listen", &port.to_string()])
        .output()
        .unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("counted = truth, to the last event"), "{text}");
    assert!(!text.contains("DIFFERS"), "{text}");
    assert!(text.starts_with(&format!("the dashboard: http://{port}/")), "{text}");
}
