//! Bodies: read to a limit, decompressed to a limit, and all batches together within one budget of memory.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CaptureError;

/// What `navigator.sendBeacon` may queue at most (W3C Beacon, section 3), and a hundred times a usual event.
pub(crate) const EVENT_BYTES_MAX: usize = 64 << 10;
/// A batch as sent: 100,000 events of 400 bytes compress to less.
pub(crate) const BATCH_BYTES_MAX: usize = 16 << 20;
/// The same decompressed: 100,000 events of 1,300 bytes, three times a usual one.
pub(crate) const BATCH_BYTES_DECOMPRESSED_MAX: usize = 128 << 20;
/// All batches in hand, as sent and decompressed: one of the largest, and many usual ones beside it. Their records are
/// encoded while the text is still held, so the peak is about twice this.
const BATCHES_BYTES_MAX: usize = 256 << 20;
/// A full batch at 2 Mbit/s. Slower ones would hold memory that others could use.
const BATCH_READ_SECONDS_MAX: u64 = 64;
/// The largest event at 52 kbit/s. A body that trickles holds a connection no longer than this.
const EVENT_READ_SECONDS_MAX: u64 = 10;
/// RFC 9659: what a decoder of the content coding zstd has to support; level 19 stays within it.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const DECOMPRESS_STEP_BYTES: usize = 64 << 10;
/// How many times as long as it came a body may become: generated traffic becomes 12 times as long, and a bomb wants memory for
/// nothing.
const DECOMPRESSED_TIMES_MAX: usize = 250;
/// Up to here no ratio is looked at: a few events that are all alike are no bomb.
const DECOMPRESSED_BYTES_FREE: usize = 1 << 20;

/// How a body was encoded for the way (`Content-Encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    pub fn of(headers: &HeaderMap) -> Result<Self, CaptureError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Identity) };
        let several = headers.get_all(header::CONTENT_ENCODING).iter().count() > 1;
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" if !several => Ok(Self::Identity),
            "gzip" | "x-gzip" if !several => Ok(Self::Gzip),
            "zstd" if !several => Ok(Self::Zstd),
            _ => Err(CaptureError::Media {
                what: "the `Content-Encoding` is not known here".into(),
                cure: "send `gzip`, `zstd`, or plain text without that header",
            }),
        }
    }
}

/// Reads a body of at most `bytes_max`. One that says it is longer is refused unread. `reserve` is told of each piece
/// before it is kept, and may refuse it.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    reserve: impl FnMut(usize) -> Result<(), CaptureError>,
) -> Result<Vec<u8>, CaptureError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let seconds = if bytes_max == EVENT_BYTES_MAX { EVENT_READ_SECONDS_MAX } else { BATCH_READ_SECONDS_MAX };
    let slow = |_| CaptureError::Slow { seconds };
    tokio::time::timeout(Duration::from_secs(seconds), read_pieces(body, bytes_max, reserve)).await.map_err(slow)?
}

async fn read_pieces(
    body: Body,
    bytes_max: usize,
    mut reserve: impl FnMut(usize) -> Result<(), CaptureError>,
) -> Result<Vec<u8>, CaptureError> {
    let mut pieces = body.into_data_stream();
    let mut read = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| CaptureError::Body {
            what: "the body ended before it was complete".into(),
            cure: "send it again",
        })?;
        if read.len() + piece.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        reserve(piece.len())?;
        read.extend_from_slice(&piece);
    }
    Ok(read)
}

/// Undoes the encoding, all of it, before anything is parsed: a damaged body is refused with nothing kept.
pub(crate) fn decompress(
    encoding: Encoding,
    body: Vec<u8>,
    bytes_max: usize,
    mut reserve: impl FnMut(usize) -> Result<(), CaptureError>,
) -> Result<Vec<u8>, CaptureError> {
    let corrupt = |cause: std::io::Error| CaptureError::Body {
        what: format!(
            "the body is no complete {} stream: {cause}",
            if encoding == Encoding::Gzip { "gzip" } else { "zstd" }
        ),
        cure: "compress it again, zstd with a window of at most 8 MiB, and name the encoding that was used",
    };
    let body_bytes = body.len();
    let mut reader: Box<dyn Read> = match encoding {
        Encoding::Identity => return Ok(body),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(body.as_slice())),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body.as_slice()).map_err(corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
            Box::new(decoder)
        }
    };
    let mut text = Vec::new();
    let mut step = vec![0; DECOMPRESS_STEP_BYTES];
    loop {
        let bytes = reader.read(&mut step).map_err(corrupt)?;
        if bytes == 0 {
            return Ok(text);
        }
        if text.len() + bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        if text.len() + bytes > body_bytes.saturating_mul(DECOMPRESSED_TIMES_MAX).max(DECOMPRESSED_BYTES_FREE) {
            let what = format!("the body becomes more than {DECOMPRESSED_TIMES_MAX} times as long when decompressed");
            return Err(CaptureError::TooLarge { what, cure: "split it, or send it less compressed" });
        }
        reserve(bytes)?;
        text.extend_from_slice(&step[..bytes]);
    }
}

fn too_large(bytes_max: usize) -> CaptureError {
    let (what, cure) = if bytes_max == EVENT_BYTES_MAX {
        ("the event", "shorten it, or send several events to /v1/events/batch")
    } else {
        ("the batch", "split it")
    };
    CaptureError::TooLarge { what: format!("{what} is over the limit of {bytes_max} bytes"), cure }
}

/// Memory set aside for the bodies of all batches.
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
    held: Gauge,
}

/// A batch's share of the budget; given back when dropped.
pub(crate) struct Share {
    bytes: Arc<Semaphore>,
    held: Gauge,
    taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub fn new(held: Gauge) -> Self {
        Self { bytes: Arc::new(Semaphore::new(BATCHES_BYTES_MAX)), held }
    }

    pub fn share(&self) -> Share {
        Share { bytes: Arc::clone(&self.bytes), held: self.held.clone(), taken: None }
    }
}

impl Share {
    /// Does not wait: two batches that wait for each other's memory would wait for ever.
    pub fn grow(&mut self, bytes: usize) -> Result<(), CaptureError> {
        let permits = u32::try_from(bytes).map_err(|_| CaptureError::Overloaded)?;
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_| CaptureError::Overloaded)?;
        self.held.inc_by(permit.num_permits() as i64);
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.held.dec_by(bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_share_one_budget_and_give_it_back() {
        let held = Gauge::default();
        let budget = Budget::new(held.clone());
        let mut first = budget.share();
        first.grow(BATCHES_BYTES_MAX - 10).unwrap();
        first.grow(4).unwrap();
        let mut second = budget.share();
        assert!(matches!(second.grow(7), Err(CaptureError::Overloaded)));
        assert_eq!(held.get(), BATCHES_BYTES_MAX as i64 - 6);
        drop(first);
        second.grow(7).unwrap();
        drop(second);
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        let bomb = zstd::encode_all(zeros.as_slice(), 3).unwrap();
        let mut held = 0;
        let reserve = |bytes| {
            held += bytes;
            Ok(())
        };
        let refused = decompress(Encoding::Zstd, bomb, 100_000, reserve);
        assert!(matches!(refused, Err(CaptureError::TooLarge { .. })));
        assert!(held <= 100_000, "{held} bytes were taken");
    }
}
