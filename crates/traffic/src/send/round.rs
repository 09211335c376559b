//! What is read and packed between two waits for the server.

use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tally_model::partition_of;

use super::client::encode;
use super::saved::{Note, NotePlace};
use super::source::{Is, Source, is_stdin};
use super::{LineError, SendError, SendOptions};

/// Bounds a request before compression; long lines make for fewer events in it.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A file that is being sent, and how far it was read.
pub struct Feed {
    path: PathBuf,
    options: SendOptions,
    source: Source,
    place: Option<NotePlace>,
    items: u64,
    skipped: u64,
    /// Over everything read so far; kept only where progress is noted.
    trail: Sha256,
}

pub struct Round {
    pub lanes: Vec<Lane>,
    pub unreadable: Vec<LineError>,
    pub bytes_read: u64,
    pub is_last: bool,
}

/// One request: its body as it goes out, and where its lines stand in the file.
pub struct Lane {
    pub body: Bytes,
    pub line_numbers: Vec<u64>,
}

#[derive(Default, Clone)]
struct Filling {
    body: Vec<u8>,
    line_numbers: Vec<u64>,
}

impl Feed {
    pub fn open(path: PathBuf, options: SendOptions) -> Result<Self, SendError> {
        let place = if is_stdin(&path) { None } else { NotePlace::of(&path, &options) };
        let noted = place.as_ref().and_then(NotePlace::read);
        let start = |path: &PathBuf| -> Result<Self, SendError> {
            let (source, place) = (Source::open(path, &options)?, place.clone());
            let (path, options) = (path.clone(), options.clone());
            Ok(Self { path, options, source, place, items: 0, skipped: 0, trail: Sha256::new() })
        };
        let mut feed = start(&path)?;
        let Some(noted) = noted else { return Ok(feed) };
        while feed.items < noted.items && feed.next()?.is_some() {}
        if feed.note().is_none_or(|now| now.trail() != noted.trail) {
            // Another file by the same name, or one that was changed: the note says nothing about it.
            return start(&path);
        }
        feed.skipped = feed.items;
        Ok(feed)
    }

    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// That everything read so far is acknowledged: to be saved once it is.
    pub fn note(&self) -> Option<Note> {
        self.place.as_ref().map(|place| Note::new(place.clone(), self.items, self.trail.clone()))
    }

    /// Reads until the fullest lane is full, or the file ends. Hands itself back, as it was lent to a thread.
    pub fn read(mut self) -> Result<(Self, Round), SendError> {
        let lanes = self.options.concurrency.max(1);
        let mut filling = vec![Filling::default(); usize::from(lanes)];
        let mut unreadable = Vec::new();
        let is_last = loop {
            let Some(item) = self.next()? else { break true };
            let line = item.line_number;
            let (id, text) = match item.is {
                Is::Event(id, text) => (id, text),
                Is::Blank => continue,
                Is::Unreadable(what) => {
                    unreadable.push(LineError { file: self.path.clone(), line, field: None, what, cure: None });
                    // A file of nothing else must not fill the memory either.
                    if unreadable.len() >= self.options.batch_events {
                        break false;
                    }
                    continue;
                }
            };
            // One lane for all copies of an id: they stay in the file's order, and the first counts.
            let lane = &mut filling[usize::from(id.map_or(0, |id| partition_of(id, lanes)))];
            lane.body.extend_from_slice(&text);
            lane.body.push(b'\n');
            lane.line_numbers.push(line);
            if lane.line_numbers.len() >= self.options.batch_events || lane.body.len() >= BATCH_BYTES_MAX {
                break false;
            }
        };
        let filled = filling.into_iter().filter(|lane| !lane.line_numbers.is_empty());
        let encoding = self.options.encoding;
        let lanes =
            filled.map(|lane| Lane { body: encode(&lane.body, encoding), line_numbers: lane.line_numbers }).collect();
        let bytes_read = self.source.bytes_read();
        Ok((self, Round { lanes, unreadable, bytes_read, is_last }))
    }

    fn next(&mut self) -> Result<Option<super::source::Item>, SendError> {
        let read = self.source.next().map_err(|source| SendError::Read { path: self.path.clone(), source })?;
        if let Some(item) = &read {
            self.items += 1;
            if self.place.is_some() {
                self.trail.update(item.raw.len().to_be_bytes());
                self.trail.update(&item.raw);
            }
        }
        Ok(read)
    }
}
