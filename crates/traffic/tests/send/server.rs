//! A server of a few lines that fails by script, as no well-behaved one would: each request meets the next act.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// Answers with this status and takes nothing in.
    Status(u16),
    /// Hangs up before it has read the events.
    HangUp,
    /// Takes the events in, and hangs up within its answer.
    TakeAndHangUp,
    Take,
}

#[derive(Clone)]
pub struct Server {
    pub url: reqwest::Url,
    script: Arc<Mutex<VecDeque<Act>>>,
    batches: Arc<Mutex<Vec<Vec<Value>>>>,
}

impl Server {
    /// Once the script is played, it takes all that comes.
    pub async fn start(script: &[Act]) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub async fn start_at(address: &str, script: &[Act]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server =
            Self { url, script: Arc::new(Mutex::new(script.iter().copied().collect())), batches: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().talk(stream));
            }
        });
        server
    }

    pub fn events(&self) -> Vec<Value> {
        self.batches().concat()
    }

    pub fn batches(&self) -> Vec<Vec<Value>> {
        self.batches.lock().unwrap().clone()
    }

    async fn talk(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut length, mut encoding, mut line) = (0, String::new(), String::new());
            loop {
                line.clear();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                match line.trim().to_ascii_lowercase().split_once(": ") {
                    Some(("content-length", value)) => length = value.parse().unwrap(),
                    Some(("content-encoding", value)) => encoding = value.to_owned(),
                    _ if line == "\r\n" => break,
                    _ => {}
                }
            }
            let act = self.script.lock().unwrap().pop_front().unwrap_or(Act::Take);
            if act == Act::HangUp {
                return;
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let (status, answer) = match act {
                Act::Status(status) => (status, json!({"title": "not now", "detail": "by script"})),
                _ => self.take(&body, &encoding),
            };
            let answer = answer.to_string();
            let head =
                format!("HTTP/1.1 {status} by script\r\nretry-after: 0\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            if act == Act::TakeAndHangUp {
                stream.write_all(b"{").await.unwrap();
                return;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    /// Rejects what is no JSON object with a `kind`, by its line; a batch of nothing else is a bad request.
    fn take(&self, body: &[u8], encoding: &str) -> (u16, Value) {
        let mut text = String::new();
        match encoding {
            "zstd" => text = String::from_utf8(zstd::decode_all(body).unwrap()).unwrap(),
            "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap()),
            _ => text = String::from_utf8(body.to_vec()).unwrap(),
        }
        let (mut taken, mut errors) = (Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            match serde_json::from_str::<Value>(line) {
                Ok(event) if event.get("kind").is_some() => taken.push(event),
                _ => errors.push(json!({"line": at + 1, "field": "kind", "what": "it is missing", "cure": "give one"})),
            }
        }
        if taken.is_empty() {
            return (
                400,
                json!({"title": "no event of the batch can be taken", "rejected": errors.len(), "errors": errors}),
            );
        }
        let answer = json!({"accepted": taken.len(), "rejected": errors.len(), "errors": errors});
        self.batches.lock().unwrap().push(taken);
        (202, answer)
    }
}
