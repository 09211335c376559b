//! Fields that Tally does not know, kept as they came in one JSON object.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tally_model::RATE_LIMITED_PROP;

use super::found::Key;
use crate::error::Fault;

/// Twenty times a usual event; raw rows stay rows and do not become documents.
const PROPS_BYTES_MAX: usize = 8 << 10;
/// Lists and objects within each other, the object of all props included: what common readers of JSON go down to.
const DEPTH_MAX: usize = 100;
const FIELD: &str = "props";

/// Keys with their values in JSON, in the order in which they came.
#[derive(Default)]
pub(crate) struct Props<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Props<'a> {
    pub fn add_raw(&mut self, key: Cow<'a, str>, json: &'a RawValue) {
        self.0.push((key, Cow::Borrowed(json.get())));
    }

    pub fn add_text(&mut self, key: Cow<'a, str>, text: &str) {
        self.0.push((key, Cow::Owned(quoted(text))));
    }

    /// Takes over the entries of an object that was given as `props`.
    pub fn merge(&mut self, object: &'a str) -> Result<(), Fault> {
        let entries = entries(object)?;
        self.0.extend(entries.into_iter().map(|(key, json)| (key, Cow::Borrowed(json.get()))));
        Ok(())
    }

    /// The same from text that does not outlive the call.
    pub fn merge_owned(&mut self, object: &str) -> Result<(), Fault> {
        for (key, json) in entries(object)? {
            self.0.push((Cow::Owned(key.into_owned()), Cow::Owned(json.get().to_owned())));
        }
        Ok(())
    }

    /// One JSON object, or none if there is nothing in it. Of equal keys the last one wins, so that every reader of the
    /// object sees the same. Our own mark is not for senders to set.
    pub fn finish(self) -> Result<Option<String>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut seen = HashSet::with_capacity(self.0.len());
        let ours = |key: &str| key == RATE_LIMITED_PROP;
        let mut entries: Vec<_> = self.0.iter().rev().filter(|(key, _)| !ours(key) && seen.insert(key)).collect();
        entries.reverse();
        if entries.is_empty() {
            return Ok(None);
        }
        let mut object = String::with_capacity(128);
        for (key, json) in entries {
            object.push(if object.is_empty() { '{' } else { ',' });
            object.push_str(&quoted(key));
            object.push(':');
            object.push_str(json);
            if object.len() >= PROPS_BYTES_MAX {
                let what =
                    format!("the fields that Tally does not know have more than {PROPS_BYTES_MAX} bytes together");
                return Err(Fault::new(FIELD, what, "send fewer or shorter ones"));
            }
        }
        object.push('}');
        if depth(&object) > DEPTH_MAX {
            let what = format!("the fields that Tally does not know are nested more than {DEPTH_MAX} deep");
            return Err(Fault::new(FIELD, what, "send flatter ones, or the inner part as a text"));
        }
        mend_surrogates(&mut object);
        Ok(Some(object))
    }
}

fn quoted(text: &str) -> String {
    // A string can always be written as JSON.
    serde_json::to_string(text).unwrap_or_default()
}

/// How deep lists and objects stand within each other in valid JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            // What is escaped ends no text.
            b'\\' => drop(bytes.next()),
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// A browser that cuts a text in the middle of an emoji sends half of a surrogate pair, which is valid JSON and no text: most
/// readers refuse the whole object. The half becomes the mark for what could not be read, as browsers do it in a form.
fn mend_surrogates(json: &mut String) {
    const ESCAPE_BYTES: usize = r"\uD83D".len();
    const REPLACEMENT: &str = r"\ufffd";
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let unit = |at| json.get(at..at + ESCAPE_BYTES).and_then(utf16_unit);
        match (unit(at), unit(at + ESCAPE_BYTES)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 2 * ESCAPE_BYTES,
            (Some(0xD800..=0xDFFF), _) => {
                json.replace_range(at..at + ESCAPE_BYTES, REPLACEMENT);
                at += ESCAPE_BYTES;
            }
            (Some(_), _) => at += ESCAPE_BYTES,
            // A shorter escape, whose second byte may be a backslash too.
            (None, _) => at += 2,
        }
    }
}

fn utf16_unit(escape: &str) -> Option<u16> {
    u16::from_str_radix(escape.strip_prefix(r"\u")?, 16).ok()
}

fn entries(object: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Fault> {
    if !object.trim_start().starts_with('{') {
        return Err(Fault::new(
            FIELD,
            "is not a JSON object",
            "give an object, e.g. {\"theme\":\"dark\"}, or leave it out",
        ));
    }
    let no_json = |_| Fault::new(FIELD, "is not valid JSON", "give an object, e.g. {\"theme\":\"dark\"}");
    serde_json::from_str::<Entries<'_>>(object).map(|entries| entries.0).map_err(no_json)
}

struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((Key(key), json)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            entries.push((key, json));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_written_and_keep_their_order() {
        let mut props = Props::default();
        props.merge(r#"{"z": 1.50, "a": [ 1, {"b":null} ], "big": 123456789012345678901234567890}"#).unwrap();
        props.add_text("q\"uote".into(), "li\nne");
        let object = props.finish().unwrap().unwrap();
        let expected = r#"{"z":1.50,"a":[ 1, {"b":null} ],"big":123456789012345678901234567890,"q\"uote":"li\nne"}"#;
        assert_eq!(object, expected);
    }

    #[test]
    fn of_equal_keys_the_last_one_stays() {
        let mut props = Props::default();
        props.merge_owned(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(props.finish().unwrap().as_deref(), Some(r#"{"b":2,"a":3}"#));
    }

    #[test]
    fn nobody_marks_an_event_in_our_name() {
        let mut props = Props::default();
        props.merge(r#"{"tally_rate_limited":"user"}"#).unwrap();
        assert_eq!(props.finish().unwrap(), None);
        let mut props = Props::default();
        props.merge(r#"{"tally_rate_limite\u0064":"user","a":1}"#).unwrap();
        props.add_text(RATE_LIMITED_PROP.into(), "user");
        assert_eq!(props.finish().unwrap().as_deref(), Some(r#"{"a":1}"#));
    }

    #[test]
    fn half_a_surrogate_pair_is_marked_and_the_rest_stays() {
        let check = |given: &str, expected: &str| {
            let mut props = Props::default();
            props.merge(given).unwrap();
            let object = props.finish().unwrap().unwrap();
            assert_eq!(object, expected);
            assert!(serde_json::from_str::<serde_json::Value>(&object).is_ok(), "{object}");
        };
        check(r#"{"title":"cut \uD83D"}"#, r#"{"title":"cut \ufffd"}"#);
        check(r#"{"a":["\ude00\ud83d","\ud83d\ude00"]}"#, r#"{"a":["\ufffd\ufffd","\ud83d\ude00"]}"#);
        check(r#"{"a":"\ud83d\ud83d\ude00"}"#, r#"{"a":"\ufffd\ud83d\ude00"}"#);
        check(r#"{"a":"\\ud83d \\\ud83d \u0041"}"#, r#"{"a":"\\ud83d \\\ufffd \u0041"}"#);
    }

    #[test]
    fn what_is_nested_too_deep_to_be_read_is_refused() {
        let nested = |depth: usize| {
            let json = format!(r#"{{"a]":"\"[[","b":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
            let mut props = Props::default();
            props.merge(&json).map(|()| props.finish())
        };
        assert!(nested(DEPTH_MAX).unwrap().is_ok());
        let fault = nested(DEPTH_MAX + 1).unwrap().unwrap_err();
        assert!(fault.what.contains("more than 100 deep"), "{}", fault.what);
    }

    #[test]
    fn what_is_no_object_or_too_large_is_refused() {
        assert!(Props::default().merge("[1]").unwrap_err().what.contains("not a JSON object"));
        assert!(Props::default().merge("{\"a\":").unwrap_err().what.contains("not valid JSON"));
        let mut props = Props::default();
        props.add_text("a".into(), &"x".repeat(PROPS_BYTES_MAX));
        assert!(props.finish().unwrap_err().what.contains("8192 bytes"));
        let mut props = Props::default();
        props.add_text("a".into(), &"x".repeat(PROPS_BYTES_MAX - 8));
        assert_eq!(props.finish().unwrap().unwrap().len(), PROPS_BYTES_MAX);
    }
}
