//! The least of an HTTP/1.1 client that keeps its connection: what it costs must not hide what the server costs.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What fits for sure; longer answers make room as they come.
const ANSWER_BYTES: usize = 4_096;
const ANSWER_BYTES_MAX: usize = 64 << 20;

pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ANSWER_BYTES] })
    }

    /// Sends a whole request and reads the whole answer; gives its status.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                ensure!(filled < ANSWER_BYTES_MAX, "the answer is longer than expected");
                self.buffer.resize(2 * filled, 0);
            }
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
    let (mut status, mut length, mut head_bytes) = (None, None, 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        head_bytes += line.len() + 1;
        let Some(status) = status else {
            status = line.get(9..12).and_then(number);
            continue;
        };
        if line == b"\r" {
            let Some(length) = length.or((status == 204).then_some(0)) else { bail!("an answer without a length") };
            return Ok((bytes.len() >= head_bytes + length).then_some(status as u16));
        }
        let (name, value) = line.split_at_checked(LENGTH.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(LENGTH) {
            length = number(value.trim_ascii());
        }
    }
    Ok(None)
}

const LENGTH: &[u8] = b"content-length:";

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        for (answer, status) in [
            ("HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\ndate: x\r\n\r\nabcd", 202),
            ("HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n", 204),
        ] {
            for end in 0..answer.len() {
                assert_eq!(whole_answer(&answer.as_bytes()[..end]).unwrap(), None, "{end} bytes of {answer:?}");
            }
            assert_eq!(whole_answer(answer.as_bytes()).unwrap(), Some(status));
        }
    }
}
