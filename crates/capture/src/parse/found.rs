//! A value as it was found in JSON, whatever was expected there, so that a complaint can say what it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::field::Field;
use crate::error::Fault;

/// How much of a wrong value is quoted back.
const QUOTE_CHARS_MAX: usize = 40;

#[derive(Clone, PartialEq)]
pub(crate) enum Found<'a> {
    Null,
    Bool(bool),
    Whole(i128),
    Decimal(f64),
    Text(Cow<'a, str>),
    List(Vec<Found<'a>>),
    Object,
}

impl<'a> Found<'a> {
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Found::Text(text) => Some(text),
            _ => None,
        }
    }

    /// `field` was expected to be something else: says so, quoting the value unless it may name a person.
    pub fn fault(&self, field: Field, is_not: &str, cure: impl Into<Cow<'static, str>>) -> Fault {
        let subject = if field.is_personal() { self.sort().to_owned() } else { self.quote() };
        Fault::new(field.as_str(), format!("{subject} {is_not}"), cure)
    }

    fn sort(&self) -> &'static str {
        match self {
            Found::Null => "null",
            Found::Bool(_) => "true or false",
            Found::Whole(_) | Found::Decimal(_) => "a number",
            Found::Text(_) => "the text",
            Found::List(_) => "a list",
            Found::Object => "an object",
        }
    }

    fn quote(&self) -> String {
        match self {
            Found::Bool(value) => value.to_string(),
            Found::Whole(value) => value.to_string(),
            Found::Decimal(value) => format!("{value:?}"),
            Found::Text(value) => match value.char_indices().nth(QUOTE_CHARS_MAX) {
                Some((end, _)) => format!("{:?}..", &value[..end]),
                None => format!("{value:?}"),
            },
            Found::Null | Found::List(_) | Found::Object => self.sort().to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Found<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FoundVisitor)
    }
}

struct FoundVisitor;

impl<'de> Visitor<'de> for FoundVisitor {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Found::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Found::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Found::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Found::Decimal(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Found::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Found::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Object)
    }
}

/// An object's key, borrowed where nothing in it is escaped (serde's own `Cow` never borrows).
pub(crate) struct Key<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}
