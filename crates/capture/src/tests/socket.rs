//! Over a real socket, as `tally serve` will have it: the peer's address arrives, and a large body is refused unread.

use std::net::SocketAddr;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{CLICK, Door};

async fn served() -> (Door, TcpStream) {
    let door = Door::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let service =
        Router::new().fallback_service(door.front.clone()).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    (door, stream)
}

/// Sends this text and reads up to the end of the answer's headers.
async fn talk(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed without an answer");
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_event_travels_from_the_socket_to_the_journal() {
    let (door, mut stream) = served().await;
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: t\r\nx-forwarded-for: 192.0.2.1\r\ncontent-length: {}\r\n\r\n{CLICK}",
        CLICK.len()
    );
    let answer = talk(&mut stream, &request).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(door.event().ip_hash, Some(door.capture.key.ip("192.0.2.1".parse().unwrap())));
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let (door, mut stream) = served().await;
    let request = "POST /v1/events/batch HTTP/1.1\r\nhost: t\r\ncontent-length: 999999999999\r\n\r\n";
    let answer = talk(&mut stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(door.metric("tally_capture_body_bytes_total"), 0.0);
}
