//! API keys, from the command that makes one to the request that is let through, or not.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use super::server::{BINARY, Launch, Server, click, eventually, metric, ndjson, said};

const DAYS: &str = r#"{"from":"2024-05-05","to":"2024-05-06"}"#;

fn made(server: &Server, name: &str, scopes: &str) -> String {
    let folder = server.data();
    let output = server.tally(&["keys", "create", name, "--scopes", scopes, "--data", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(token.starts_with("tally_") && !token.contains(char::is_whitespace), "not a key alone: {token:?}");
    token
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A command with a key in its environment.
fn with_key(token: &str, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env("TALLY_KEY", token).output().unwrap()
}

#[test]
fn a_server_that_others_can_reach_opens_to_keys_and_shuts_them_out_again_without_a_restart() {
    let mut server = Server::prepare(Launch { on_all_addresses: true, is_logged: true, ..Launch::default() });
    server.restart();
    assert!(
        server.log().contains("there is no API key") && server.log().contains("tally keys create"),
        "{}",
        server.log()
    );
    // What is public by nature.
    assert_eq!(server.post("/v1/events", click(1, "c").to_string(), &[]).0, 202);
    assert_eq!(server.get("/v1/pixel.gif?campaign_id=c&ad_id=a").0, 200);
    assert_eq!(server.get("/v1/click?campaign_id=c&ad_id=a&to=x").0, 400, "reached, and refused for its destination");
    // Everything else, also from this machine.
    let batch = ndjson(&[click(2, "c"), click(3, "c")]);
    let (status, headers, body) = server.post_for_head("/v1/events/batch", &batch, &[]);
    assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"tally\""), "{body}");
    assert_eq!(headers["content-type"], "application/problem+json");
    for path in ["/metrics", "/v1/verify", "/v1/quarantine", "/v1/events/0199aa00-0000-7000-8000-000000000001"] {
        assert_eq!(server.get(path).0, 401, "{path}");
    }
    assert_eq!(server.post("/v1/admin/rebuild", DAYS, &[]).0, 401);

    let [sender, analyst, boss] =
        [("sender", "ingest"), ("analyst", "query"), ("boss", "admin")].map(|(name, scope)| made(&server, name, scope));
    let send = || server.post("/v1/events/batch", &batch, &[("authorization", &bearer(&sender))]);
    eventually("the running server takes a new key", || send().0 == 202);
    assert_eq!(server.post("/v1/events/batch", &batch, &[("x-api-key", &sender)]).0, 202);
    let (status, refusal) = server.post("/v1/query", "{}", &[("authorization", &bearer(&sender))]);
    assert!(status == 403 && refusal.contains("`sender` lacks the scope `query`"), "{status}: {refusal}");
    let from_afar = [("authorization", bearer(&boss)), ("x-forwarded-for", "192.0.2.1".to_owned())];
    let from_afar = from_afar.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (status, report) = server.post("/v1/admin/rebuild", DAYS, &from_afar);
    assert_eq!(status, 200, "{report}");

    let metrics = || server.get_with("/metrics", &[("authorization", &bearer(&analyst))]).2;
    eventually("what was sent is in the figures", || metric(&metrics(), "tally_pipeline_lag_records") == 0.0);
    for line in [
        r#"tally_access_refused_total{reason="no_key"} "#,
        r#"tally_access_refused_total{reason="missing_scope"} 1"#,
        r#"tally_access_key_last_used_timestamp_seconds{key="sender"} 1"#,
    ] {
        assert!(metrics().contains(line), "no `{line}` in\n{}", metrics());
    }

    let revoked = server.tally(&["keys", "revoke", "sender", "--data", server.data().to_str().unwrap()]);
    assert!(revoked.status.success(), "{}", said(&revoked));
    eventually("a revoked key is refused", || send().0 == 401);
    assert_eq!(server.get_with("/metrics", &[("x-api-key", &analyst)]).0, 200, "another key still works");
    assert!(!metrics().contains("key=\"sender\""));

    let log = server.log();
    server.kill();
    server.restart();
    assert_eq!(server.get_with("/metrics", &[("x-api-key", &analyst)]).0, 200, "after a restart");
    let kept = std::fs::read_to_string(server.data().join("keys.json")).unwrap();
    for token in [&sender, &analyst, &boss] {
        let secret = token.rsplit('_').next().unwrap();
        assert!(!kept.contains(secret) && !log.contains(secret), "a secret was written down");
    }
}

#[test]
fn commands_show_their_key_from_the_environment_or_a_file_and_never_say_it() {
    let server = Server::with(&[("TALLY__SERVER__AUTH", "on")]);
    let [sender, analyst, boss] =
        [("sender", "ingest"), ("analyst", "query"), ("boss", "admin")].map(|(name, scope)| made(&server, name, scope));
    let (url, files) = (server.url(""), tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let events = file("events.ndjson", &ndjson(&[click(1, "c"), click(2, "c")]));
    eventually("the server takes the keys", || server.get_with("/metrics", &[("x-api-key", &analyst)]).0 == 200);

    let refused = server.tally(&["send", &events, "--to", &url]);
    assert!(
        !refused.status.success() && said(&refused).contains("API key with the scope `ingest`"),
        "{}",
        said(&refused)
    );
    let sent = with_key(&sender, &["send", &events, "--to", &url]);
    assert!(sent.status.success() && said(&sent).contains("2 events accepted"), "{}", said(&sent));
    let key_file = file("analyst.key", &format!("{analyst}\n"));
    eventually("the clicks are counted", || {
        let asked = server.tally(&["query", "clicks", "--format", "csv", "--server", &url, "--key-file", &key_file]);
        assert!(asked.status.success(), "{}", said(&asked));
        said(&asked).lines().nth(1) == Some("2")
    });
    for arguments in [
        vec!["verify", "--recount", "--server", &url],
        vec!["why", "00000000-0000-0000-0000-000000000001", "--server", &url],
        vec!["quarantine", "list", "--server", &url],
    ] {
        let (asked, refused) = (with_key(&analyst, &arguments), with_key(&sender, &arguments));
        assert!(asked.status.success(), "{arguments:?}: {}", said(&asked));
        assert!(said(&refused).contains("`sender` lacks the scope `query`"), "{arguments:?}: {}", said(&refused));
        assert!(!said(&refused).contains(&sender), "the key is in an error");
    }
    let days = ["rebuild", "--from", "2024-05-05", "--to", "2024-05-06", "--server", &url];
    let (rebuilt, refused) = (with_key(&boss, &days), with_key(&analyst, &days));
    assert!(rebuilt.status.success(), "{}", said(&rebuilt));
    assert!(said(&refused).contains("`analyst` lacks the scope `admin`"), "{}", said(&refused));
    let id = "00000000-0000-0000-0000-000000000001";
    let resubmitted = with_key(&boss, &["quarantine", "resubmit", "--id", id, "--server", &url]);
    assert!(said(&resubmitted).contains("no such event in quarantine"), "{}", said(&resubmitted));

    let mistyped = &sender[..sender.len() - 1];
    let refused = with_key(mistyped, &["query", "clicks", "--server", &url]);
    assert!(said(&refused).contains("TALLY_KEY holds no API key"), "{}", said(&refused));
    assert!(!said(&refused).contains(mistyped), "what was mistyped is in the error");
}

#[test]
fn keys_are_made_listed_and_revoked_in_a_folder_that_no_server_has_seen_yet() {
    let files = tempfile::tempdir().unwrap();
    let folder = files.path().join("data");
    let folder = folder.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(BINARY).arg("keys").args(arguments).args(["--data", folder]).output().unwrap();
        (output.status.success(), said(&output))
    };
    assert!(run(&["list"]).1.contains("0 keys in"));
    let (fine, text) = run(&["create", "grafana", "--scopes", "query,ingest,query", "--expires", "90d"]);
    assert!(fine && text.contains("for ingest, query, until 2"), "{text}");
    assert!(run(&["create", "shop", "--scopes", "ingest"]).0);
    for (arguments, says) in [
        (vec!["create", "grafana", "--scopes", "query"], "there is a key `grafana`"),
        (vec!["create", "two words", "--scopes", "query"], "is no name for a key"),
        (vec!["create", "other"], "--scopes"),
        (vec!["create", "other", "--scopes", "root"], "invalid value 'root'"),
        (vec!["create", "other", "--scopes", "query", "--expires", "2020-01-01"], "is past"),
        (vec!["revoke", "other"], "there is no key `other`"),
    ] {
        let (fine, text) = run(&arguments);
        assert!(!fine && text.contains(says), "{arguments:?}: {text}");
    }
    let (_, listed) = run(&["list", "--json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((listed.len(), &listed[0]["name"], &listed[1]["expires_at"]), (2, &"grafana".into(), &Value::Null));
    let mode = std::fs::metadata(format!("{folder}/keys.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(run(&["revoke", "grafana"]).0);
    let (_, listed) = run(&["list"]);
    assert!(listed.contains("shop") && !listed.contains("grafana") && listed.contains("1 keys in"), "{listed}");
}

#[test]
fn a_server_does_not_start_on_keys_that_it_cannot_read() {
    let mut server = Server::prepare(Launch { is_logged: true, ..Launch::default() });
    std::fs::create_dir(server.data()).unwrap();
    std::fs::write(server.data().join("keys.json"), "{").unwrap();
    server.spawn();
    assert!(!server.wait_until_ended().success());
    assert!(server.log().contains("are damaged; restore the file from a backup"), "{}", server.log());
}
