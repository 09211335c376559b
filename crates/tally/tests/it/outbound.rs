//! Postbacks to advertisers, against a server that fails at first, and across kills.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::conversions::{click, filled, postback_address};
use super::server::{Launch, Server, eventually};

/// An advertiser's server: answers as it is told to, and notes what it was asked and under which key.
struct Advertiser {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: &'static str,
    /// The path with its query, the key, and the answer.
    asked: Vec<(String, String, &'static str)>,
}

impl Advertiser {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { answer, asked: Vec::new() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let key = headers.iter().find_map(|line| line.strip_prefix("idempotency-key: "));
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut state = shared.lock().unwrap();
                let answer = state.answer;
                state.asked.push((path, key.unwrap_or_default().to_owned(), answer));
                let elsewhere = format!("http://127.0.0.1:{port}/elsewhere");
                let text = format!(
                    "HTTP/1.1 {answer} X\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = (&stream).write_all(text.as_bytes());
            }
        });
        Self { port, state }
    }

    fn answers(&self, answer: &'static str) {
        self.state.lock().unwrap().answer = answer;
    }

    fn asked(&self) -> Vec<(String, String, &'static str)> {
        self.state.lock().unwrap().asked.clone()
    }

    fn taken(&self) -> usize {
        self.asked().iter().filter(|(.., answer)| *answer == "200").count()
    }
}

fn server(advertiser: &Advertiser, allow_private: bool) -> Server {
    let url = format!("http://{{}}:{}/pb?tx={{txn_id}}&sum={{amount}}&s={{status}}&c={{click_id}}", advertiser.port);
    // A name, since an address that is written out is refused when the server starts.
    let url = url.replace("{}", "localhost");
    let config = format!(
        "[capture]\nredirect_hosts = [\"shop.example\"]\n[outbound]\nallow_private = {allow_private}\n\
         campaigns = [{{ campaign_id = \"spring\", url = \"{url}\" }}]\n"
    );
    let mut server = Server::prepare(Launch { config: Some(config), ..Launch::default() });
    server.restart();
    server
}

fn given_up(server: &Server) -> Vec<Value> {
    let (status, body) = server.get("/v1/outbound");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["given_up"].as_array().unwrap().clone()
}

#[test]
fn an_advertiser_is_told_at_least_once_whoever_fails_and_whatever_is_killed() {
    let advertiser = Advertiser::start("500");
    let mut server = server(&advertiser, true);
    let (address, id) = (postback_address(&server, &["--campaign", "spring"]), click(&server, "spring"));
    eventually("a postback is taken", || server.get(&filled(&address, &id, "7", "approved")).0 == 200);
    eventually("the advertiser is asked, and asked again", || advertiser.asked().len() >= 2);
    server.kill();
    let before = advertiser.asked().len();
    advertiser.answers("200");
    server.restart();
    eventually("the advertiser takes it", || advertiser.taken() == 1);
    assert!(advertiser.asked().len() > before, "it was tried again");
    let paths: BTreeSet<_> = advertiser.asked().into_iter().map(|(path, key, _)| (path, key)).collect();
    assert_eq!(paths.len(), 1, "one conversion, one key: {paths:?}");
    let (path, key) = paths.first().unwrap();
    assert_eq!(path, &format!("/pb?tx=7&sum=12.50&s=approved&c={id}"));
    assert_eq!(key.len(), 36, "{key}");

    // What is delivered stays so, across another kill; and a redirect is not followed.
    advertiser.answers("302");
    assert_eq!(server.get(&filled(&address, &id, "8", "approved")).0, 200);
    eventually("it is given up", || given_up(&server).len() == 1);
    server.kill();
    server.restart();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(advertiser.asked().iter().filter(|(path, ..)| path.contains("tx=7&")).count(), before + 1);
    assert!(advertiser.asked().iter().all(|(path, ..)| !path.contains("elsewhere")), "a redirect was followed");
    let listed = given_up(&server);
    assert_eq!((listed.len(), &listed[0]["campaign_id"]), (1, &json!("spring")), "{listed:?}");
    assert!(listed[0]["why"].as_str().unwrap().contains("302"), "{listed:?}");
}

#[test]
fn no_address_of_our_own_network_is_called_unless_that_is_allowed() {
    let advertiser = Advertiser::start("200");
    let server = server(&advertiser, false);
    let (address, id) = (postback_address(&server, &["--campaign", "spring"]), click(&server, "spring"));
    eventually("a postback is taken", || server.get(&filled(&address, &id, "7", "approved")).0 == 200);
    eventually("a try has failed", || {
        let metrics = server.get("/metrics").1;
        super::server::metric(&metrics, "tally_outbound_failed_tries_total") >= 1.0
    });
    assert_eq!(advertiser.asked(), [], "a name that leads to this machine was called");
}
