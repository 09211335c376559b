//! An event as a JSON object. Read by hand, so that a wrong type names its field, and known text is borrowed.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::builder::{EventBuilder, FreshEvent, Stamp};
use super::field::Field;
use super::found::{Found, Key};
use super::order::Order;
use super::scan;
use crate::body::EVENT_BYTES_MAX;
use crate::error::Fault;

const CURE: &str =
    "give one JSON object for each event; several go to /v1/events/batch, one on each line or in an array";

/// `order` is that of the events before it, and learns from it.
pub(crate) fn event<'a>(text: &'a [u8], stamp: &'a Stamp<'a>, order: &mut Order) -> Result<FreshEvent<'a>, Fault> {
    if text.len() > EVENT_BYTES_MAX {
        let what = format!("the event has {} bytes", text.len());
        return Err(Fault::no_event(what, format!("give at most {EVENT_BYTES_MAX} bytes for one event")));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let what = format!("byte {} is not UTF-8", error.valid_up_to() + 1);
        Fault::no_event(what, "write the text in UTF-8")
    })?;
    let text = text.trim_ascii();
    match text.bytes().next() {
        Some(b'{') => {}
        Some(b'[') => return Err(Fault::no_event("is an array", CURE)),
        Some(_) => return Err(Fault::no_event("is not a JSON object", CURE)),
        None => return Err(Fault::no_event("is empty", CURE)),
    }
    let mut builder = EventBuilder::new(stamp);
    if scan::usual(text, &mut builder, order).is_some() {
        return builder.finish();
    }
    thorough(text, stamp)
}

/// By the JSON parser: whatever is JSON, and why what is not is none.
pub(super) fn thorough<'a>(text: &'a str, stamp: &'a Stamp<'a>) -> Result<FreshEvent<'a>, Fault> {
    let mut reader = EventReader { builder: EventBuilder::new(stamp), fault: None };
    let mut json = serde_json::Deserializer::from_str(text);
    DeserializeSeed::deserialize(&mut reader, &mut json)
        .and_then(|()| json.end())
        .map_err(|error| malformed(&error))?;
    match reader.fault {
        Some(fault) => Err(fault),
        None => reader.builder.finish(),
    }
}

/// The message of a syntax error holds a position and no part of the text.
fn malformed(error: &serde_json::Error) -> Fault {
    let what = format!("is not valid JSON: {error}");
    Fault::no_event(what.replace(" at line 1 column ", " at column "), CURE)
}

struct EventReader<'a> {
    builder: EventBuilder<'a>,
    /// The first field that was wrong. What follows is still read: text that is no JSON is the graver complaint.
    fault: Option<Fault>,
}

impl<'de> DeserializeSeed<'de> for &mut EventReader<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut EventReader<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = entries.next_key::<Key<'de>>()? {
            let set = match Field::parse(&key) {
                Some(Field::Props) => self.builder.set_props(entries.next_value::<&'de RawValue>()?),
                Some(field) => self.builder.set(field, entries.next_value::<Found<'de>>()?),
                None => {
                    self.builder.add_prop(key, entries.next_value::<&'de RawValue>()?);
                    Ok(())
                }
            };
            if let Err(fault) = set {
                self.fault.get_or_insert(fault);
            }
        }
        Ok(())
    }
}
