//! The least of an HTTP/1.1 client that keeps its connection: what it costs must not hide what the server costs.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 4_096] })
    }

    /// Sends a whole request and reads the whole answer; gives its status.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            ensure!(filled < self.buffer.len(), "the answer is longer than expected");
            let n = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(n > 0, "the server closed the connection");
            filled += n;
            if let Some(status) = whole_answer(&self.buffer[..filled])? {
                return Ok(status);
            }
        }
    }
}

/// The status, once the answer is there to its end.
fn whole_answer(bytes: &[u8]) -> Result<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    let status =
        head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).context("an answer without a status")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let Some(length) = length.map(|length| length.trim().parse::<usize>()).transpose()? else {
        bail!("an answer without a length");
    };
    Ok((bytes.len() >= end + 4 + length).then_some(status))
}
