//! The door: peers that are slow, silent or too talkative are let go, and what they speak is understood.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::server::{Launch, Server, click, metric};

/// The door's own, and capture's for the body of one event.
const HEAD_TIME: Duration = Duration::from_secs(10);
const EVENT_READ_TIME: Duration = Duration::from_secs(10);
/// What a busy machine may add.
const LATE: Duration = Duration::from_secs(8);
/// Between two bytes of a peer that trickles.
const TRICKLE: Duration = Duration::from_millis(300);

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TRICKLE)).unwrap();
    stream
}

/// What the server says until it closes, and how long after `since` it does. Meanwhile the peer sends a byte now and then, or nothing.
fn until_closed(mut stream: TcpStream, byte: Option<u8>, since: Instant) -> (String, Duration) {
    let mut said = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        assert!(since.elapsed() < HEAD_TIME + 2 * LATE, "the server held on: {}", String::from_utf8_lossy(&said));
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&piece[..n]),
            // Once the server has closed, writing fails; what it said before is still read.
            Err(error) if error.kind() == ErrorKind::WouldBlock => drop(byte.map(|byte| stream.write_all(&[byte]))),
            Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&said).into_owned(), since.elapsed())
}

#[track_caller]
fn assert_about(took: Duration, expected: Duration) {
    assert!(took >= expected && took < expected + LATE, "it took {took:?}, not {expected:?}");
}

/// Asks on a connection that is kept, and reads the answer.
fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    let mut piece = [0; 4_096];
    while !said.ends_with("ok\n") {
        match stream.read(&mut piece) {
            Ok(0) => panic!("closed after {said:?}"),
            Ok(n) => said += &String::from_utf8_lossy(&piece[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "after {said:?}"),
        }
    }
    said
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n";

#[test]
fn a_head_that_trickles_and_a_silent_connection_are_cut_and_counted() {
    let server = Server::start();
    let since = Instant::now();
    let mut slow = connect(&server);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").unwrap();
    let mut half_a_preface = connect(&server);
    half_a_preface.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    let silent = connect(&server);
    let ends = [(slow, Some(b'x')), (half_a_preface, None), (silent, None)]
        .map(|(stream, byte)| std::thread::spawn(move || until_closed(stream, byte, since)));
    for (said, took) in ends.map(|end| end.join().unwrap()) {
        assert_eq!(said, "");
        assert_about(took, HEAD_TIME);
    }
    assert_eq!(metric(&server.get("/metrics").1, "tally_server_connections_timed_out_total"), 3.0);
}

#[test]
fn a_body_that_trickles_is_told_so_and_cut() {
    let server = Server::start();
    let posts = ["/v1/events", "/v1/query"].map(|path| {
        let since = Instant::now();
        let mut stream = connect(&server);
        write!(stream, "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n{{").unwrap();
        std::thread::spawn(move || until_closed(stream, Some(b' '), since))
    });
    for (said, took) in posts.map(|post| post.join().unwrap()) {
        assert!(said.starts_with("HTTP/1.1 408") && said.contains("within 10 s"), "{said}");
        assert_about(took, EVENT_READ_TIME);
    }
}

#[test]
fn a_connection_is_kept_while_it_asks_and_closed_when_it_has_been_idle() {
    let idle = Duration::from_millis(1_500);
    let server = Server::with(&[("TALLY__SERVER__IDLE_TIMEOUT_MS", "1500")]);
    let mut stream = connect(&server);
    let started = Instant::now();
    while started.elapsed() < 2 * idle {
        assert!(ask(&mut stream, HEALTH).starts_with("HTTP/1.1 200"));
        std::thread::sleep(idle / 3);
    }
    let since = Instant::now();
    ask(&mut stream, HEALTH);
    // Half of a next head is no request.
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let (said, took) = until_closed(stream, None, since);
    assert_eq!(said, "");
    assert_about(took, idle);
}

#[test]
fn a_head_over_the_limit_is_refused_with_its_status() {
    let server = Server::start();
    for head in [format!("x: {}", "x".repeat(70_000)), "x: x\r\n".repeat(150)] {
        let mut stream = connect(&server);
        // The answer may come before all of it is sent.
        let _ = write!(stream, "GET /healthz HTTP/1.1\r\nhost: t\r\n{head}\r\n\r\n");
        let (said, _) = until_closed(stream, None, Instant::now());
        assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    }
    let mut stream = connect(&server);
    let long = format!("GET /healthz?{} HTTP/1.1\r\nhost: t\r\n\r\n", "x".repeat(30_000));
    assert!(ask(&mut stream, &long).starts_with("HTTP/1.1 200"), "a long destination fits");
}

#[tokio::test]
async fn http_2_is_spoken_where_the_peer_begins_with_it() {
    let server = Server::start();
    let tcp = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(tcp);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut http, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for id in 0..20 {
        let request = hyper::Request::post(server.url("/v1/events")).body(click(id, "c").to_string()).unwrap();
        answers.push(http.send_request(request));
    }
    for answer in futures::future::join_all(answers).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (202, hyper::Version::HTTP_2));
    }
    tokio::task::spawn_blocking(move || {
        server.wait_until_counted();
        assert_eq!(server.total("clicks"), 20);
    })
    .await
    .unwrap();
    connection.abort();
}

/// As under a supervisor that keeps the listening socket: whoever connects while the server is away waits for the next one.
#[test]
fn nobody_is_refused_during_a_restart_on_a_socket_that_was_handed_over() {
    let settings = vec![("TALLY__LOG__LEVEL", "info".to_owned())];
    let mut server =
        Server::prepare(Launch { hands_over_socket: true, is_logged: true, settings, ..Launch::default() });
    server.restart();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (address, is_over) = (server.address(), Arc::clone(&is_over));
            std::thread::spawn(move || post_on_new_connections(&address, client, &is_over))
        })
        .collect();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        assert!(server.stop(), "{}", server.log());
        server.restart();
        assert!(server.log().contains("the socket that was handed over"), "{}", server.log());
    }
    is_over.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for client in clients {
        acknowledged += client.join().unwrap();
    }
    server.wait_until_counted();
    assert_eq!(server.total("clicks"), acknowledged);
    assert!(acknowledged > 100, "{acknowledged} events are hardly a load");
}

/// One event each, until told; gives how many were acknowledged. Any that was not is a failure.
fn post_on_new_connections(address: &str, client: u128, is_over: &AtomicBool) -> i64 {
    let mut acknowledged = 0;
    while !is_over.load(Ordering::Relaxed) {
        let event = click(client << 64 | acknowledged as u128, "c").to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let bytes = event.len();
        write!(
            stream,
            "POST /v1/events HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n{event}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{acknowledged} answers, then {error}"));
        assert!(answer.starts_with("HTTP/1.1 202"), "after {acknowledged} answers: {answer:?}");
        acknowledged += 1;
    }
    acknowledged
}
