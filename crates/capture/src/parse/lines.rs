//! A batch taken apart: the lines of NDJSON, or the elements of a JSON array, each with its number from 1.

use memchr::memchr_iter;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::CaptureError;

/// What one request may bring; at 50,000 events a second it is two seconds' work.
const EVENTS_MAX: usize = 100_000;

type Item<'a> = (usize, &'a [u8]);

/// Blank lines are no events. Nothing is parsed yet, except that an array must be one as a whole.
pub(crate) fn items(body: &[u8]) -> Result<Vec<Item<'_>>, CaptureError> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let items = if body.trim_ascii_start().starts_with(b"[") { elements(body)? } else { lines(body) };
    if items.is_empty() {
        return Err(CaptureError::Body {
            what: "the batch is empty".into(),
            cure: "give one JSON object on each line, or an array of them",
        });
    }
    if items.len() > EVENTS_MAX {
        return Err(CaptureError::TooLarge {
            what: format!("the batch has more than {EVENTS_MAX} events"),
            cure: "split it",
        });
    }
    Ok(items)
}

fn lines(body: &[u8]) -> Vec<Item<'_>> {
    let ends = memchr_iter(b'\n', body).chain([body.len()]);
    let mut from = 0;
    let lines = ends.map(|end| &body[std::mem::replace(&mut from, end + 1)..end]);
    let lines = (1..).zip(lines).map(|(number, line)| (number, line.trim_ascii()));
    lines.filter(|(_, line)| !line.is_empty()).take(EVENTS_MAX + 1).collect()
}

fn elements(body: &[u8]) -> Result<Vec<Item<'_>>, CaptureError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let elements = json.deserialize_seq(Elements).and_then(|elements| {
        // A batch with too many was not read to its end.
        if elements.len() <= EVENTS_MAX { json.end().map(|()| elements) } else { Ok(elements) }
    });
    elements.map_err(|error| CaptureError::Body {
        what: format!("the array is not valid JSON: {error}"),
        cure: "mend the text; in NDJSON, one object on each line, a bad line costs only itself",
    })
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<Item<'de>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            items.push((items.len() + 1, element.get().as_bytes()));
            if items.len() > EVENTS_MAX {
                return Ok(items);
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[(usize, &str)]) {
        let items = items(body.as_bytes()).unwrap();
        let found: Vec<_> = items.iter().map(|(n, text)| (*n, std::str::from_utf8(text).unwrap())).collect();
        assert_eq!(found, expected, "{body:?}");
    }

    #[test]
    fn lines_and_elements_keep_their_numbers() {
        check("{}\n\n {\"a\":1}\r\n", &[(1, "{}"), (3, "{\"a\":1}")]);
        check("\u{feff}{}", &[(1, "{}")]);
        check(" \n[{}, 7,\n\"x\"]\n", &[(1, "{}"), (2, "7"), (3, "\"x\"")]);
    }

    #[test]
    fn a_batch_with_nothing_in_it_or_too_much_is_refused() {
        for empty in ["", "\n\r\n", "[]", " [ ] "] {
            assert!(matches!(items(empty.as_bytes()), Err(CaptureError::Body { .. })), "{empty:?}");
        }
        let lines = "{}\n".repeat(EVENTS_MAX);
        assert_eq!(items(lines.as_bytes()).unwrap().len(), EVENTS_MAX);
        assert!(matches!(items(format!("{lines}{{}}").as_bytes()), Err(CaptureError::TooLarge { .. })));
        let array = format!("[{}{{}}]", "{},".repeat(EVENTS_MAX));
        assert!(matches!(items(array.as_bytes()), Err(CaptureError::TooLarge { .. })));
        assert!(matches!(items(b"[{},"), Err(CaptureError::Body { .. })));
        assert!(matches!(items(b"[{}] x"), Err(CaptureError::Body { .. })));
    }
}
