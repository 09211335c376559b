//! The description of the API against the server that it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::server::{Launch, Server, click, eventually, ndjson, said};

/// Requests of each kind to each operation: enough to meet a wrong status, few enough for every day.
const EXAMPLES: &str = "3";

fn described(server: &Server) -> BTreeMap<String, BTreeSet<String>> {
    let (status, body) = server.get("/openapi.json");
    assert_eq!(status, 200, "{body}");
    let document: Value = serde_json::from_str(&body).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

/// The paths that the sources give a handler, in lines such as `("/v1/click", "click", get(click))`: a router does not tell its own.
fn routes_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            routes_in(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            let text: String = std::fs::read_to_string(&path).unwrap().split_whitespace().collect();
            for (at, _) in text.match_indices("(\"/") {
                let (route, rest) = text[at + 2..].split_once('"').unwrap();
                let row = rest.split(')').next().unwrap_or_default();
                if [",get(", ",post("].iter().any(|method| row.contains(method)) {
                    found.insert(route.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_route_is_described_with_all_its_methods() {
    let server = Server::start();
    let described = described(&server);
    let mut routes = BTreeSet::new();
    for name in ["capture", "api", "tally"] {
        routes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"), &mut routes);
    }
    assert!(routes.len() > 30, "the sources were not understood: {routes:?}");
    let missing: Vec<_> = routes.iter().filter(|route| !described.contains_key(*route)).collect();
    assert!(missing.is_empty(), "not in /openapi.json: {missing:?}");
    for (path, methods) in &described {
        // Served by `tally demo` only; and under a name that changes with the script.
        if path == "/v1/demo/truth" || path == "/tag-{version}.js" {
            continue;
        }
        let path = path.replace("{event_id}", "x").replace("{id}", "x");
        let answer = ureq::http::Request::builder().method("PATCH").uri(server.url(&path)).body(()).unwrap();
        let answer = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent().run(answer).unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()["allow"].to_str().unwrap().to_owned();
        let allowed = allowed.split(',').map(str::to_owned).filter(|method| method != "HEAD" && method != "OPTIONS");
        assert_eq!(allowed.collect::<BTreeSet<_>>(), *methods, "{path}");
    }
}

#[test]
fn a_path_that_is_not_there_names_the_nearest() {
    let server = Server::start();
    let (status, body) = server.get("/v1/catalogue");
    assert!(status == 404 && body.contains(r#"did you mean \"/v1/catalog\"?"#), "{body}");
    let (status, body) = server.get("/v1/sql");
    assert!(status == 405 && body.contains("urn:tally:problem:method"), "{body}");
}

#[test]
fn what_is_answered_is_what_is_described() {
    let program = std::env::var("TALLY_TEST_SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".to_owned());
    if !Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").is_err(), "CI must have schemathesis: see .ci/run");
        eprintln!("SKIPPED: there is no {program}; `.ci/run` installs it, or set TALLY_TEST_SCHEMATHESIS");
        return;
    }
    // With keys, so that it is asked too whether one is needed where it is said to be.
    let settings = vec![("TALLY__SERVER__AUTH", "on".to_owned())];
    let mut server = Server::prepare(Launch { is_logged: true, settings, ..Launch::default() });
    server.restart();
    let data = server.data();
    let scopes = "ingest,query,admin";
    let made = server.tally(&["keys", "create", "st", "--scopes", scopes, "--data", data.to_str().unwrap()]);
    let key = format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim());
    let shown = [("authorization", key.as_str())];
    eventually("the key is taken", || server.get_with("/v1/catalog", &shown).0 == 200);
    let events: Vec<Value> = (0..20).map(|nth| click(nth, "spring")).collect();
    assert_eq!(server.post("/v1/events/batch", ndjson(&events), &shown).0, 202);
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/schemathesis.toml");
    let mut command = Command::new(program);
    // It leaves files of its own where it runs.
    command.current_dir(data.parent().unwrap());
    command.arg("--config-file").arg(config).args(["run", &server.url("/openapi.json"), "--seed", "1"]);
    command.args(["--header", &format!("Authorization: {key}")]);
    let output = command.args(["--max-examples", EXAMPLES]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", said(&output), server.log());
    assert!(server.is_running(), "{}", server.log());
}
