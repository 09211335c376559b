//! A number out of `props`, the fields of events that Tally does not know.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The number that an object holds under a name; null where there is none.
pub(super) fn number_function(name: String) -> ScalarUDF {
    let numbers = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let texts = arrays[0].as_string_opt::<i32>();
        let texts = texts.ok_or_else(|| DataFusionError::Internal("props are no texts".to_owned()))?;
        let numbers: Float64Array = texts.iter().map(|text| number(text?, &name)).collect();
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    };
    create_udf("number_of", vec![DataType::Utf8], DataType::Float64, Volatility::Immutable, Arc::new(numbers))
}

/// Texts are read as numbers too: a query or a form has nothing else.
fn number(object: &str, name: &str) -> Option<f64> {
    let mut json = serde_json::Deserializer::from_str(object);
    match (Only { name }).deserialize(&mut json).ok()?? {
        Value::Number(number) => Some(number),
        Value::Text(text) => text.trim().parse().ok(),
        Value::Other(_) => None,
    }
    .filter(|number: &f64| number.is_finite())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(f64),
    Text(String),
    Other(IgnoredAny),
}

/// One value of an object, the others being passed over.
struct Only<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Only<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Only<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is { name: self.name })? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is the one, without keeping it.
struct Is<'a> {
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_that_read_as_numbers_are_found_by_their_key() {
        let object =
            r#"{"a":{"b":7},"b":1.5,"t":" 12 ","n":-3e2,"x":"12 EUR","f":true,"q\"\u0064":9,"i":"inf","none":null}"#;
        for (name, known) in [
            ("b", Some(1.5)),
            ("t", Some(12.0)),
            ("n", Some(-300.0)),
            ("q\"d", Some(9.0)),
            ("a", None),
            ("x", None),
            ("f", None),
            ("i", None),
            ("none", None),
            ("missing", None),
        ] {
            assert_eq!(number(object, name), known, "{name}");
        }
        assert_eq!(number("no object", "b"), None);
    }
}
