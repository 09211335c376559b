//! How an event is written in the journal: one version byte, then the event in postcard's encoding.
//!
//! The journal outlives the binary that wrote it. A change of `Event` is a new version here, and the old one stays
//! readable for as long as journals that hold it are kept.

use crate::Event;

const VERSION: u8 = 1;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("the record is empty")]
    Empty,
    #[error("the record has format version {0}, this binary reads up to {VERSION}; run the newer binary that wrote it")]
    UnknownVersion(u8),
    #[error("the record's bytes are not an event: {0}")]
    Malformed(postcard::Error),
}

pub fn encode_record(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    postcard::to_extend(event, bytes).expect("every field of `Event` has a known length, and the buffer grows")
}

pub fn decode_record(bytes: &[u8]) -> Result<Event, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    postcard::from_bytes(body).map_err(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Country, Kind, Region};
    use uuid::Uuid;

    fn event() -> Event {
        Event {
            country: Country::parse("DE"),
            region: Region::Eu,
            segments: vec!["a".into(), "b".into()],
            user_hash: Some(u64::MAX),
            x: Some(0.25),
            props: Some(r#"{"k":1}"#.into()),
            ..Event::new(Uuid::from_u128(7), Kind::Click, 1_700_000_000_000_000, "c", "a")
        }
    }

    #[test]
    fn a_record_reads_back_as_the_event_it_was() {
        assert_eq!(decode_record(&encode_record(&event())), Ok(event()));
    }

    #[test]
    fn a_record_cut_short_or_from_the_future_is_an_error_never_another_event() {
        let bytes = encode_record(&event());
        assert_eq!(decode_record(&[]), Err(DecodeError::Empty));
        assert_eq!(decode_record(&[9, 1, 2]), Err(DecodeError::UnknownVersion(9)));
        for cut in 1..bytes.len() {
            assert!(decode_record(&bytes[..cut]).is_err(), "{cut} of {} bytes were taken for an event", bytes.len());
        }
    }
}
