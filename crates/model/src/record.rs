//! How an event is written in the journal: one version byte, then the event in postcard's encoding.
//!
//! The journal outlives the binary that wrote it. A change of `Event` is a new version here, and the old one stays
//! readable for as long as journals that hold it are kept. Fields are only ever added, as options and at the end: so an old
//! record is a new one that ends early, and what it lacks is absent.

use postcard::de_flavors::Flavor;
use postcard::{Deserializer, ser_flavors};
use serde::{Deserialize, Serialize};

use crate::Event;

const VERSION: u8 = 3;
/// The fields at the end of `Event` that each version brought, the first one being whole.
const FIELDS_ADDED: [usize; VERSION as usize] = [0, 3, 2];
/// An option that is absent, in postcard.
const ABSENT: u8 = 0;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("the record is empty")]
    Empty,
    #[error("the record has format version {0}, this binary reads up to {VERSION}; run the newer binary that wrote it")]
    UnknownVersion(u8),
    #[error("the record's bytes are not an event: {0}")]
    Malformed(postcard::Error),
}

pub fn encode_record<T: Serialize>(event: &Event<T>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    encode_record_onto(&mut bytes, event);
    bytes
}

/// The same behind what is there already.
pub fn encode_record_onto<T: Serialize>(bytes: &mut Vec<u8>, event: &Event<T>) {
    bytes.push(VERSION);
    let encoded = postcard::serialize_with_flavor(event, Onto(bytes));
    encoded.expect("every field of `Event` has a known length, and the buffer grows");
}

/// Writes behind what is there already.
struct Onto<'a>(&'a mut Vec<u8>);

impl ser_flavors::Flavor for Onto<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

pub fn decode_record(bytes: &[u8]) -> Result<Event, DecodeError> {
    read(bytes)
}

/// The same without a copy of any text.
pub fn decode_borrowed(bytes: &[u8]) -> Result<Event<&str>, DecodeError> {
    read(bytes)
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Event<T>, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    let added = version.checked_sub(1).and_then(|earlier| FIELDS_ADDED.get(usize::from(earlier) + 1..));
    let lacking = added.ok_or(DecodeError::UnknownVersion(version))?.iter().sum();
    let mut reader = Deserializer::from_flavor(Widened { body, lacking });
    Event::deserialize(&mut reader).map_err(DecodeError::Malformed)
}

/// An old record with what it lacks behind it.
struct Widened<'a> {
    body: &'a [u8],
    lacking: usize,
}

impl<'a> Flavor<'a> for Widened<'a> {
    type Remainder = &'a [u8];
    type Source = &'a [u8];

    #[inline]
    fn pop(&mut self) -> postcard::Result<u8> {
        if let Some((&first, rest)) = self.body.split_first() {
            self.body = rest;
            return Ok(first);
        }
        self.lacking = self.lacking.checked_sub(1).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        Ok(ABSENT)
    }

    #[inline]
    fn try_take_n(&mut self, count: usize) -> postcard::Result<&'a [u8]> {
        let (taken, rest) = self.body.split_at_checked(count).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.body = rest;
        Ok(taken)
    }

    fn finalize(self) -> postcard::Result<&'a [u8]> {
        Ok(self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConversionStatus, Country, Kind, Privacy, Purpose, Region, Subdivision};
    use uuid::Uuid;

    /// What the first version wrote for [`event`] without the fields that came later.
    const VERSION_1: &str = concat!(
        "011000000000000000000000000000000007018080f28183898506008080f281838985060163016100000001",
        "ffffffffffffffffff01000000010000803e0001444501000002016101620000000001077b226b223a317d",
    );

    fn event() -> Event {
        Event {
            country: Country::parse("DE"),
            region: Region::Eu,
            segments: vec!["a".into(), "b".into()],
            user_hash: Some(u64::MAX),
            x: Some(0.25),
            props: Some(r#"{"k":1}"#.into()),
            subdivision: Subdivision::parse("DE-BE"),
            purpose: Some(Purpose::Prefetch),
            privacy: Privacy { gdpr: Some(true), gpp: Some("DBAA".into()), ..Privacy::default() }.some(),
            txn_id: Some("order 7".into()),
            status: Some(ConversionStatus::Rejected),
            ..Event::new(Uuid::from_u128(7), Kind::Click, 1_700_000_000_000_000, "c", "a")
        }
    }

    #[test]
    fn a_record_reads_back_as_the_event_it_was() {
        let record = encode_record(&event());
        assert_eq!(decode_record(&record), Ok(event()));
        assert_eq!(decode_borrowed(&record).unwrap().map(|text| (*text).to_owned()), event());
    }

    fn version_1() -> Vec<u8> {
        (0..VERSION_1.len()).step_by(2).map(|at| u8::from_str_radix(&VERSION_1[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_record_of_an_older_version_reads_as_the_event_that_it_was() {
        let no_transaction = Event { txn_id: None, status: None, ..event() };
        assert_eq!(decode_record(&version_2(&no_transaction)), Ok(no_transaction.clone()));
        let expected = Event { subdivision: None, purpose: None, privacy: None, ..no_transaction };
        assert_eq!(decode_record(&version_1()), Ok(expected.clone()));
        assert_eq!(decode_borrowed(&version_1()), Ok(expected.map(String::as_str)));
    }

    /// What the second version wrote for an event that has none of the fields that came later.
    fn version_2(event: &Event) -> Vec<u8> {
        let mut bytes = encode_record(event);
        bytes[0] = 2;
        assert_eq!(bytes.split_off(bytes.len() - 2), [ABSENT; 2]);
        bytes
    }

    #[test]
    fn a_record_cut_short_or_from_the_future_is_an_error_never_another_event() {
        assert_eq!(decode_record(&[]), Err(DecodeError::Empty));
        for version in [0, VERSION + 1, 9] {
            assert_eq!(decode_record(&[version, 1, 2]), Err(DecodeError::UnknownVersion(version)));
        }
        for bytes in [encode_record(&event()), version_1(), version_2(&Event { txn_id: None, status: None, ..event() })]
        {
            for cut in 1..bytes.len() {
                assert!(
                    decode_record(&bytes[..cut]).is_err(),
                    "{cut} of {} bytes were taken for an event",
                    bytes.len()
                );
            }
        }
    }
}
