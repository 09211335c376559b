//! What stands in `events` for a record that is no event we can read: its place in the log, and its bytes for later.
//!
//! Every offset of the log has one row and one verdict, also where nothing is known of kind or campaign. So the row says the
//! least that a row can (a click of no campaign, which no real click is), and keeps the record to be read again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use crate::{Event, Kind, Offset, Partition};

/// The name under which the record is kept in `props`.
const RECORD: &str = "undecodable_record";
/// Twice what the longest event that is taken in makes. What is longer is nothing that capture wrote, and is cut.
const RECORD_BYTES_MAX: usize = 128 * 1024;
/// Marks the ids of stand-ins ("tlly"), so that one is told from an id that somebody sent.
const ID_PREFIX: u128 = 0x746c_6c79;

/// What is known of a record that cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct StandIn<'a> {
    pub partition: Partition,
    pub offset: Offset,
    /// The partition's time there: the record's own time of receipt cannot be read either.
    pub at_us: i64,
    pub bytes: &'a [u8],
    pub why: &'a str,
}

/// A function of the record and its place only, so that a replay makes the same.
pub fn stand_in(of: StandIn<'_>) -> Event {
    let kept = &of.bytes[..of.bytes.len().min(RECORD_BYTES_MAX)];
    let record = json!({"why": of.why, "bytes": of.bytes.len(), "base64": STANDARD.encode(kept)});
    Event {
        props: Some(json!({RECORD: record}).to_string()),
        ..Event::new(id(of.partition, of.offset), Kind::Click, of.at_us, "", "")
    }
}

/// The whole record that a stand-in's `props` keep; none for other events, and for one that was cut.
pub fn record_kept(props: &str) -> Option<Vec<u8>> {
    let props: Value = serde_json::from_str(props).ok()?;
    let record = &props[RECORD];
    let bytes = STANDARD.decode(record["base64"].as_str()?).ok()?;
    (record["bytes"].as_u64() == u64::try_from(bytes.len()).ok()).then_some(bytes)
}

/// Version 8 (RFC 9562): prefix and partition in front, the offset behind.
fn id(partition: Partition, offset: Offset) -> Uuid {
    let bits = (ID_PREFIX << 96) | (u128::from(partition) << 80) | u128::from(offset & (u64::MAX >> 2));
    Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_record;

    fn kept(bytes: &[u8]) -> Option<Vec<u8>> {
        let event = stand_in(StandIn { partition: 3, offset: 7, at_us: 1, bytes, why: "of course" });
        record_kept(&event.props.unwrap())
    }

    #[test]
    fn a_record_comes_back_from_its_stand_in_whole_or_not_at_all() {
        let record = encode_record(&Event::new(Uuid::from_u128(1), Kind::Conversion, 2, "c", "a"));
        assert_eq!(kept(&record), Some(record));
        assert_eq!(kept(&[]), Some(Vec::new()));
        assert_eq!(kept(&vec![7; RECORD_BYTES_MAX + 1]), None, "cut");
        assert_eq!(record_kept(r#"{"campaign":"x"}"#), None);
    }

    #[test]
    fn each_place_in_the_log_has_an_id_of_its_own_that_stays_the_same() {
        let ids: std::collections::HashSet<_> =
            (0..4).flat_map(|partition| (0..1_000).map(move |offset| id(partition, offset))).collect();
        assert_eq!(ids.len(), 4_000);
        assert_eq!(id(3, 7).to_string(), "746c6c79-0003-8000-8000-000000000007");
    }
}
