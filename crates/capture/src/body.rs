//! Bodies: read to a limit, decompressed to a limit, and all batches together within one budget of memory.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use memchr::memrchr;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CaptureError;
use crate::parse::is_array;

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
/// A piece of a batch's text: it stays in the processor's cache from being decompressed to being parsed.
const PIECE_BYTES: usize = 256 << 10;
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

/// Undoes the encoding of a text that is wanted as a whole.
pub(crate) fn decompress(encoding: Encoding, body: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, CaptureError> {
    if encoding == Encoding::Identity {
        return Ok(body);
    }
    let mut decoder = Decoder::new(encoding, &body, bytes_max)?;
    let mut text = Vec::new();
    loop {
        let filled = text.len();
        text.resize(filled + DECOMPRESS_STEP_BYTES, 0);
        let bytes = decoder.read(&mut text[filled..])?;
        text.truncate(filled + bytes);
        if bytes == 0 {
            return Ok(text);
        }
    }
}

/// Calls `each` with a batch's text piece by piece, each of whole lines; an array is one piece. `reserve` is told of each before
/// it is given.
pub(crate) fn each_piece(
    encoding: Encoding,
    body: &[u8],
    bytes_max: usize,
    mut reserve: impl FnMut(usize) -> Result<(), CaptureError>,
    mut each: impl FnMut(&[u8]) -> Result<(), CaptureError>,
) -> Result<(), CaptureError> {
    if encoding == Encoding::Identity {
        return each(body);
    }
    let mut decoder = Decoder::new(encoding, body, bytes_max)?;
    let (mut text, mut filled, mut is_first) = (Vec::new(), 0, true);
    loop {
        if filled == text.len() {
            // No more than is set aside next, however long the line or array turns out to be.
            text.resize((filled + PIECE_BYTES).min(bytes_max + 1), 0);
        }
        let from = filled;
        while filled < text.len() {
            match decoder.read(&mut text[filled..])? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        reserve(filled - from)?;
        let is_last = filled < text.len();
        if is_last {
            return each(&text[..filled]);
        }
        if is_first && is_array(&text[..filled]) {
            continue;
        }
        // A line that is longer than the piece is read on.
        let Some(end) = memrchr(b'\n', &text[from..filled]).map(|end| from + end + 1) else { continue };
        each(&text[..end])?;
        text.copy_within(end..filled, 0);
        (filled, is_first) = (filled - end, false);
    }
}

/// What is compressed, read as far as the limits let it.
struct Decoder<'a> {
    encoding: Encoding,
    reader: Box<dyn Read + 'a>,
    body_bytes: usize,
    bytes_max: usize,
    bytes: usize,
}

impl<'a> Decoder<'a> {
    fn new(encoding: Encoding, body: &'a [u8], bytes_max: usize) -> Result<Self, CaptureError> {
        let reader: Box<dyn Read> = match encoding {
            Encoding::Identity => Box::new(body),
            Encoding::Gzip => Box::new(MultiGzDecoder::new(body)),
            Encoding::Zstd => {
                let corrupt = |cause| corrupt(encoding, cause);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(corrupt)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
                Box::new(decoder)
            }
        };
        Ok(Self { encoding, reader, body_bytes: body.len(), bytes_max, bytes: 0 })
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, CaptureError> {
        let bytes = self.reader.read(into).map_err(|cause| corrupt(self.encoding, cause))?;
        self.bytes += bytes;
        if self.bytes > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        if self.bytes > self.body_bytes.saturating_mul(DECOMPRESSED_TIMES_MAX).max(DECOMPRESSED_BYTES_FREE) {
            let what = format!("the body becomes more than {DECOMPRESSED_TIMES_MAX} times as long when decompressed");
            return Err(CaptureError::TooLarge { what, cure: "split it, or send it less compressed" });
        }
        Ok(bytes)
    }
}

fn corrupt(encoding: Encoding, cause: std::io::Error) -> CaptureError {
    CaptureError::Body {
        what: format!(
            "the body is no complete {} stream: {cause}",
            if encoding == Encoding::Gzip { "gzip" } else { "zstd" }
        ),
        cure: "compress it again, zstd with a window of at most 8 MiB, and name the encoding that was used",
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
        let refused = each_piece(Encoding::Zstd, &bomb, 500_000, reserve, |_| Ok(()));
        assert!(matches!(refused, Err(CaptureError::TooLarge { .. })));
        assert!(held <= 500_000, "{held} bytes were taken");
        assert!(matches!(decompress(Encoding::Zstd, bomb, 500_000), Err(CaptureError::TooLarge { .. })));
    }

    #[test]
    fn pieces_are_whole_lines_and_together_the_text() {
        let line = |bytes: usize| format!("{}\n", "x".repeat(bytes));
        let short = line(90).repeat(10_000);
        let long = format!("{short}{}{}{}", line(3 * PIECE_BYTES), line(0), line(PIECE_BYTES - 1));
        let array = format!(" [{}]", short.replace('\n', ","));
        for text in [short.as_str(), &long, &format!("{long}end"), &array, "", "\n", "x"] {
            for (encoding, body) in [
                (Encoding::Identity, text.as_bytes().to_vec()),
                (Encoding::Zstd, zstd::encode_all(text.as_bytes(), 1).unwrap()),
            ] {
                let (mut whole, mut pieces, mut reserved) = (Vec::new(), 0, 0);
                let reserve = |bytes| {
                    reserved += bytes;
                    Ok(())
                };
                each_piece(encoding, &body, 64 << 20, reserve, |piece| {
                    assert!(whole.is_empty() || whole.ends_with(b"\n"), "a piece ends within a line");
                    whole.extend_from_slice(piece);
                    pieces += 1;
                    Ok(())
                })
                .unwrap();
                assert!(whole == text.as_bytes(), "{} bytes of {}", whole.len(), text.len());
                let is_one = encoding == Encoding::Identity || text == array || text.len() < PIECE_BYTES;
                assert_eq!(pieces == 1, is_one, "{pieces} pieces of {} bytes", text.len());
                assert_eq!(reserved, if encoding == Encoding::Identity { 0 } else { text.len() });
            }
        }
    }
}
