//! Which event a line is. One without an id gets it here, for the server could only invent another at each sending.
//!
//! The id is a hash of the line's text and its number: the same file sent twice, renamed or compressed, gives the same
//! ids; two equal lines of one file are two events. The price: equal lines at the same number of two different files
//! are taken for one event. Lines that carry a time or a user do not meet like that; where they may, give ids.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// Fixed by the ids that servers hold already.
const DOMAIN: &[u8] = b"tally line id 1\n";
const KEY: &[u8] = b"\"event_id\"";

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    event_id: Option<Cow<'a, str>>,
}

/// A version 8 UUID (RFC 9562: bits by our own rule).
pub fn derived(content: &[u8], line_number: u64) -> Uuid {
    let hash =
        Sha256::new().chain_update(DOMAIN).chain_update(line_number.to_be_bytes()).chain_update(content).finalize();
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash[..16]);
    Builder::from_custom_bytes(bits).into_uuid()
}

/// The event's id and the line to send. What is no event goes as it is, with no id: the server says what is wrong.
pub fn identified(line: &[u8], line_number: u64) -> (Option<Uuid>, Cow<'_, [u8]>) {
    match serde_json::from_slice::<Head>(line) {
        Ok(Head { event_id: Some(id) }) => (Uuid::parse_str(&id).ok(), Cow::Borrowed(line)),
        Ok(Head { event_id: None }) => {
            let id = derived(line, line_number);
            match with_id(line, id) {
                Some(identified) => (Some(id), Cow::Owned(identified)),
                None => (None, Cow::Borrowed(line)),
            }
        }
        Err(_) => (None, Cow::Borrowed(line)),
    }
}

fn with_id(line: &[u8], id: Uuid) -> Option<Vec<u8>> {
    let fields = line.strip_prefix(b"{")?;
    let is_named = fields.windows(KEY.len()).any(|part| part == KEY);
    if is_named {
        // Null, or the name of something deeper: rare enough to be read and written anew.
        let mut fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
        fields.insert("event_id".to_owned(), Value::String(id.to_string()));
        return serde_json::to_vec(&fields).ok();
    }
    let comma = if fields.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    Some([format!("{{\"event_id\":\"{id}\"{comma}").as_bytes(), fields].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let (_, sent) = identified(line.as_bytes(), 1);
        assert_eq!(String::from_utf8_lossy(&sent), expected, "from {line}");
    }

    #[test]
    fn an_id_is_given_only_where_there_is_none() {
        let id = "b7dbfbd5-4c1c-4b1e-9a4b-0c6f2b9a7d11";
        let own = format!(r#"{{"kind":"click","event_id":"{id}"}}"#);
        check(&own, &own);
        assert_eq!(identified(own.as_bytes(), 1).0, Uuid::parse_str(id).ok());
        for absent in
            ["{}", "{ }", r#"{"kind":"click"}"#, r#"{"event_id":null}"#, r#"{"kind":"click","props":{"event_id":"x"}}"#]
        {
            let (id, sent) = identified(absent.as_bytes(), 1);
            let sent: Value = serde_json::from_slice(&sent).unwrap();
            assert_eq!(sent["event_id"].as_str().map(str::to_owned), id.map(|id| id.to_string()), "from {absent}");
            assert!(id.is_some_and(|id| id.get_version_num() == 8), "no id for {absent}");
        }
    }

    #[test]
    fn a_line_that_is_no_event_is_left_to_the_server() {
        for line in ["", "[]", "{\"kind\":", "{\"event_id\":7}", "null", "{\"event_id\":\"not a uuid\"}"] {
            check(line, line);
        }
    }

    #[test]
    fn an_id_depends_on_the_line_and_its_number_alone() {
        // Fixed by the ids that servers hold already: if this changes, a file sent again is counted again.
        assert_eq!(derived(b"{}", 1).to_string(), "c0c54674-30d7-8716-a007-51f6ca83c382");
        assert_ne!(derived(b"{}", 1), derived(b"{}", 2));
        assert_ne!(derived(b"{}", 1), derived(b"[]", 1));
    }
}
