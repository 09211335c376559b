//! From events to durable records: encoded, given their partition, handed over in pieces that fit a segment, awaited together.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tally_journal::{JournalError, Receipt, Record};
use tally_model::{Kind, Partition, encode_record_onto, partition_of};
use tracing::{info, warn};

use crate::Capture;
use crate::error::CaptureError;
use crate::gather::durable;
use crate::parse::FreshEvent;

/// One append stays well below a segment of the journal, and below what a commit should wait for.
const CHUNK_BYTES_MAX: usize = 4 << 20;
const CHUNK_RECORDS_MAX: usize = 10_000;
/// Most events take less.
const RECORD_BYTES_USUAL: usize = 512;
/// Once part of a batch is in the journal, giving up makes the sender repeat that part; so a full queue is waited for.
const FULL_PAUSE: Duration = Duration::from_millis(20);
const FULL_RETRIES_MAX: u32 = 100;

/// The records of one request, in chunks, and how many there are of each kind.
#[derive(Debug, Default)]
pub(crate) struct Records {
    chunks: Vec<Chunk>,
    of_kind: [u64; Kind::ALL.len()],
}

/// Records behind each other in one buffer: a batch has thousands, and each would be taken from the allocator here and given
/// back by the journal's thread.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each ends, and its partition.
    ends: Vec<(Partition, usize)>,
}

impl Records {
    pub fn push(&mut self, event: &FreshEvent<'_>, partitions: u16) {
        self.of_kind[event.kind as usize] += 1;
        let partition = partition_of(event.id, partitions);
        let Some(chunk) = self.chunks.last_mut().filter(|chunk| chunk.ends.len() < CHUNK_RECORDS_MAX) else {
            let mut next = self.next_chunk();
            encode_record_onto(&mut next.bytes, event);
            next.ends.push((partition, next.bytes.len()));
            self.chunks.push(next);
            return;
        };
        let from = chunk.bytes.len();
        encode_record_onto(&mut chunk.bytes, event);
        if chunk.bytes.len() <= CHUNK_BYTES_MAX {
            chunk.ends.push((partition, chunk.bytes.len()));
        } else {
            let bytes = chunk.bytes.split_off(from);
            self.chunks.push(Chunk { ends: vec![(partition, bytes.len())], bytes });
        }
    }

    /// With room for as much as the one before has, so that of a large batch only the first is moved while it grows.
    fn next_chunk(&self) -> Chunk {
        let (bytes, records) = match self.chunks.last() {
            None => (RECORD_BYTES_USUAL, 1),
            Some(before) => (before.bytes.len() + RECORD_BYTES_USUAL, before.ends.len()),
        };
        Chunk { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(records) }
    }

    pub fn count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.ends.len()).sum()
    }
}

impl Chunk {
    fn into_records(self) -> Vec<Record> {
        let mut bytes = Bytes::from(self.bytes);
        let mut from = 0;
        let record = |(partition, end)| {
            let length = end - std::mem::replace(&mut from, end);
            Record { partition, bytes: bytes.split_to(length) }
        };
        self.ends.into_iter().map(record).collect()
    }
}

impl Capture {
    /// One event as it is kept. Made before anything is awaited: an event with its texts is a kilobyte, which whoever waits would
    /// carry along.
    pub(crate) fn record(&self, event: &FreshEvent<'_>) -> Records {
        let mut records = Records::default();
        records.push(event, self.journal.partitions());
        records
    }

    /// Appends all records and waits until all are durable. On an error some of them may be kept: the sender repeats all,
    /// and those with an id of the sender's are told apart as duplicates later.
    pub(crate) async fn keep(&self, records: Records) -> Result<(), CaptureError> {
        self.shed(records.of_kind)?;
        let wait = self.metrics.journal_wait();
        let kept = self.append_all(records.chunks).await;
        drop(wait);
        self.note(kept.as_ref().err());
        kept.map_err(CaptureError::Journal)?;
        for (kind, events) in Kind::ALL.into_iter().zip(records.of_kind) {
            self.metrics.received(kind, events);
        }
        Ok(())
    }

    /// Refuses these events, as long as the journal fills up and some of them are not urgent enough.
    pub(crate) fn shed(&self, events: [u64; Kind::ALL.len()]) -> Result<(), CaptureError> {
        let Some(kind) = self.shedding.of(events, self.journal.fullness()) else { return Ok(()) };
        for (kind, events) in Kind::ALL.into_iter().zip(events) {
            self.metrics.shed(kind, events);
        }
        Err(CaptureError::Shed { kind })
    }

    async fn append_all(&self, chunks: Vec<Chunk>) -> Result<(), JournalError> {
        let mut receipts = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let chunk = chunk.into_records();
            let receipt = match receipts.is_empty() {
                true => self.journal.append(chunk)?,
                false => self.append_patiently(chunk).await?,
            };
            receipts.push(receipt);
        }
        for receipt in receipts {
            durable(receipt).await?;
        }
        Ok(())
    }

    async fn append_patiently(&self, chunk: Vec<Record>) -> Result<Receipt, JournalError> {
        for _ in 0..FULL_RETRIES_MAX {
            match self.journal.append(chunk.clone()) {
                Err(JournalError::Full { .. }) => tokio::time::sleep(FULL_PAUSE).await,
                done => return done,
            }
        }
        self.journal.append(chunk)
    }

    /// Logs when the journal begins to refuse and when it takes again, not each refusal.
    fn note(&self, error: Option<&JournalError>) {
        let refused_before = self.refused.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !refused_before => warn!(%error, "events cannot be stored; senders are told to retry"),
            None if refused_before => info!("events are stored again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn no_chunk_is_over_its_bounds_and_none_is_lost() {
        let mut records = Records::default();
        let mut event = FreshEvent::of(Uuid::nil(), Kind::Click, 0, "c".into(), "a".into());
        for n in 0..25_000u32 {
            event.id = Uuid::from_u128(n.into());
            event.props = (n % 5 == 0).then(|| "x".repeat(4_000).into());
            records.push(&event, 4);
        }
        assert_eq!(records.count(), 25_000);
        assert_eq!(records.of_kind, [0, 25_000, 0]);
        for chunk in &records.chunks {
            assert!(chunk.ends.len() <= CHUNK_RECORDS_MAX, "{} records", chunk.ends.len());
            assert!(chunk.bytes.len() <= CHUNK_BYTES_MAX, "{} bytes", chunk.bytes.len());
        }
    }
}
