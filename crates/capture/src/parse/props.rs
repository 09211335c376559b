//! Fields that Tally does not know, kept as they came in one JSON object.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::found::Key;
use crate::error::Fault;

/// Twenty times a usual event; raw rows stay rows and do not become documents.
const PROPS_BYTES_MAX: usize = 8 << 10;
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
    /// object sees the same.
    pub fn finish(self) -> Result<Option<String>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut seen = HashSet::with_capacity(self.0.len());
        let mut entries: Vec<_> = self.0.iter().rev().filter(|(key, _)| seen.insert(key)).collect();
        entries.reverse();
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
        Ok(Some(object))
    }
}

fn quoted(text: &str) -> String {
    // A string can always be written as JSON.
    serde_json::to_string(text).unwrap_or_default()
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
