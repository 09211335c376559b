//! A file as a run of lines, whatever it is packed in.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use uuid::Uuid;

use super::identity::{derived, identified};
use super::table::Table;
use super::{SendError, SendOptions};

/// A longer line is no event (contract: identifiers of 64 bytes, a handful of fields), and must not fill the memory.
const LINE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 256 << 10;

pub struct Source {
    rows: Rows,
    bytes_read: Arc<AtomicU64>,
}

enum Rows {
    Ndjson { reader: Box<dyn BufRead + Send>, line_number: u64 },
    Csv { reader: csv::Reader<Box<dyn BufRead + Send>>, table: Table },
}

/// One line, or one row of a table.
pub struct Item {
    /// Of the file, from 1; a row's is where it begins.
    pub line_number: u64,
    /// What stands in the file, for telling whether the file has changed.
    pub raw: Vec<u8>,
    pub is: Is,
}

pub enum Is {
    /// With its id, where it has a proper one.
    Event(Option<Uuid>, Vec<u8>),
    Blank,
    Unreadable(String),
}

pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Source {
    pub fn open(path: &Path, options: &SendOptions) -> Result<Self, SendError> {
        let failed = |source| SendError::Read { path: path.to_owned(), source };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let file: Box<dyn Read + Send> = match is_stdin(path) {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(failed)?),
        };
        let counted = BufReader::with_capacity(READ_BYTES, Counted { inner: file, bytes: Arc::clone(&bytes_read) });
        let name = path.to_string_lossy().to_ascii_lowercase();
        let (name, reader): (&str, Box<dyn BufRead + Send>) = if let Some(name) = name.strip_suffix(".gz") {
            (name, Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(counted))))
        } else if let Some(name) = name.strip_suffix(".zst") {
            let decoder = zstd::Decoder::with_buffer(counted).map_err(failed)?;
            (name, Box::new(BufReader::with_capacity(READ_BYTES, decoder)))
        } else {
            (&name, Box::new(counted))
        };
        let is_mapped = !options.map.is_empty() || !options.set.is_empty();
        let delimiter = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv") => Some(b','),
            Some("tsv") => Some(b'\t'),
            _ if is_stdin(path) && is_mapped => Some(b','),
            _ => None,
        };
        let Some(delimiter) = delimiter else {
            if is_mapped {
                let path = path.display();
                return Err(SendError::Mapping(format!(
                    "`{path}` is read as NDJSON, which takes no mapping; name it `.csv` or `.tsv`, or send it by itself"
                )));
            }
            return Ok(Self { rows: Rows::Ndjson { reader, line_number: 0 }, bytes_read });
        };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
        let header = reader.headers().map_err(|error| failed(error.into()))?;
        let table = Table::new(header, &options.map, &options.set)?;
        Ok(Self { rows: Rows::Csv { reader, table }, bytes_read })
    }

    /// As they stand on disk, compressed or not.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub fn next(&mut self) -> io::Result<Option<Item>> {
        match &mut self.rows {
            Rows::Ndjson { reader, line_number } => next_line(reader, line_number),
            Rows::Csv { reader, table } => next_row(reader, table),
        }
    }
}

fn next_line(reader: &mut impl BufRead, line_number: &mut u64) -> io::Result<Option<Item>> {
    let mut raw = Vec::new();
    if reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut raw)? == 0 {
        return Ok(None);
    }
    *line_number += 1;
    let line_number = *line_number;
    if raw.len() == LINE_BYTES_MAX && !raw.ends_with(b"\n") {
        reader.skip_until(b'\n')?;
        return Ok(Some(Item {
            line_number,
            raw,
            is: Is::Unreadable(format!("the line is longer than {LINE_BYTES_MAX} bytes")),
        }));
    }
    // Some editors put a byte order mark in front.
    let line = match line_number {
        1 => raw.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&raw),
        _ => &raw,
    };
    let line = line.trim_ascii();
    let is = match line.first() {
        None => Is::Blank,
        // At the head of a request, it would make the server take the whole of it for an array.
        Some(b'[') => Is::Unreadable("an array is no event; give one JSON object on each line".to_owned()),
        Some(_) => {
            let (id, line) = identified(line, line_number);
            Is::Event(id, line.into_owned())
        }
    };
    // The last line may get its end later, when more is appended.
    raw.truncate(raw.trim_ascii_end().len());
    Ok(Some(Item { line_number, raw, is }))
}

fn next_row(reader: &mut csv::Reader<impl Read>, table: &Table) -> io::Result<Option<Item>> {
    let mut row = StringRecord::new();
    let at = reader.position().line();
    match reader.read_record(&mut row) {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) => {
            return match error.kind() {
                ErrorKind::Io(_) => Err(error.into()),
                // The reader stands behind the row, so the rest can still be sent.
                _ => {
                    let line_number = error.position().map_or(at, csv::Position::line);
                    Ok(Some(Item { line_number, raw: Vec::new(), is: Is::Unreadable(error.to_string()) }))
                }
            };
        }
    }
    let line_number = row.position().map_or(at, csv::Position::line);
    // Between cells, a character that stands in none.
    let raw = row.iter().collect::<Vec<_>>().join("\u{1f}").into_bytes();
    let mut event = table.event(&row);
    let id = match event.get("event_id").and_then(Value::as_str) {
        Some(id) => Uuid::parse_str(id).ok(),
        None => {
            // From the row, not from what the mapping makes of it: sent again by a better mapping, it is the same one.
            let id = derived(&raw, line_number);
            event.insert("event_id".to_owned(), Value::String(id.to_string()));
            Some(id)
        }
    };
    let is = Is::Event(id, Value::Object(event).to_string().into_bytes());
    Ok(Some(Item { line_number, raw, is }))
}

/// Counts what is read from the disk, for the progress bar.
struct Counted {
    inner: Box<dyn Read + Send>,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
