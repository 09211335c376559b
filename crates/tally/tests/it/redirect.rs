//! Signed links, from the command that makes them to the verdict on who followed them.

use std::process::Command;

use serde_json::{Value, json};

use super::server::{BINARY, Launch, Server, eventually, said};

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0";

/// The link without the server's address.
fn sign(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(["sign-link", "--server", "", "--data"]).arg(server.data()).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The status, and where it leads.
fn follow(server: &Server, method: &str, link: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
    let agent: ureq::Agent = agent.max_redirects_will_error(false).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(server.url(link));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = agent.run(request.body(()).unwrap()).unwrap();
    let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), location.unwrap_or_default())
}

#[test]
fn a_link_is_signed_followed_and_judged_by_who_followed_it() {
    let server = Server::start();
    let to = ["--to", "https://shop.example/{campaign_id}?id={click_id}", "--campaign", "spring", "--ad", "a1"];
    let link = sign(&server, &to);
    // The server notices the new file by itself.
    eventually("a signed link is taken", || follow(&server, "GET", &link, &[("user-agent", BROWSER)]).0 == 302);
    for (method, headers) in [
        ("HEAD", vec![("user-agent", BROWSER)]),
        ("GET", vec![("user-agent", BROWSER), ("sec-purpose", "prefetch")]),
        ("GET", vec![("user-agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)")]),
        ("GET", vec![("user-agent", "curl/8.5.0")]),
    ] {
        let (status, location) = follow(&server, method, &link, &headers);
        assert!(status == 302 && location.starts_with("https://shop.example/spring?id="), "{headers:?}: {location}");
    }
    assert_eq!(follow(&server, "GET", &link.replace("spring", "summer"), &[]).0, 400);

    server.wait_until_counted();
    let rows = server.ask(json!({"metrics": ["gross_clicks"], "group_by": ["reason"]}));
    let found: Vec<_> = rows.iter().map(|row| (row["reason"].clone(), row["gross_clicks"].clone())).collect();
    let reasons = [json!("declared_bot"), json!("head_request"), json!("link_preview"), json!("prefetch"), Value::Null];
    assert_eq!(found, reasons.map(|reason| (reason, json!(1))));
    assert_eq!((server.total("clicks"), server.total("invalid_givt_clicks")), (1, 4));
    server.verify();
}

#[test]
fn a_rotated_key_signs_at_once_and_the_links_that_are_out_stay_good() {
    let server = Server::start();
    let to = ["--to", "https://shop.example/", "--campaign", "spring", "--ad", "a1"];
    let old = sign(&server, &to);
    eventually("the first key is taken", || follow(&server, "GET", &old, &[]).0 == 302);
    let new = sign(&server, &[&to[..], &["--new-key"]].concat());
    assert!(old.contains("sig=k1.") && new.contains("sig=k2."), "{old} {new}");
    eventually("the second key is taken", || follow(&server, "GET", &new, &[]).0 == 302);
    assert_eq!(follow(&server, "GET", &old, &[]).0, 302);
    assert!(sign(&server, &[&to[..], &["--key", "k1", "--expires", "never"]].concat()).contains("sig=k1.."));
}

#[test]
fn keys_that_are_none_keep_the_server_from_starting_and_say_why() {
    let mut server = Server::prepare(Launch { is_logged: true, ..Launch::default() });
    std::fs::create_dir_all(server.data()).unwrap();
    std::fs::write(server.data().join("signing.keys"), "k1 123").unwrap();
    server.spawn();
    assert!(!server.wait_until_ended().success());
    let log = server.log();
    assert!(log.contains("has no key in line 1"), "{log}");
}
