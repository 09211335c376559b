//! A batch taken apart: the lines of NDJSON, or the elements of a JSON array, each with its number from 1.

use memchr::memchr_iter;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::CaptureError;

/// What one request may bring; at 50,000 events a second it is two seconds' work.
const EVENTS_MAX: usize = 100_000;

type Item<'a> = (usize, &'a [u8]);

/// How far a batch is taken apart.
#[derive(Debug, Default)]
pub(crate) struct Items {
    lines: usize,
    items: usize,
}

impl Items {
    /// Calls `each` with what the next piece holds: whole lines, or the one array. Blank lines are no events. Nothing is parsed yet,
    /// except that an array must be one as a whole.
    pub fn each(&mut self, piece: &[u8], mut each: impl FnMut(usize, &[u8])) -> Result<(), CaptureError> {
        if self.lines == 0 && is_array(piece) {
            for (number, element) in elements(without_mark(piece))? {
                self.count()?;
                each(number, element);
            }
            return Ok(());
        }
        let piece = if self.lines == 0 { without_mark(piece) } else { piece };
        let mut from = 0;
        for end in memchr_iter(b'\n', piece).chain((!piece.ends_with(b"\n")).then_some(piece.len())) {
            let line = piece[std::mem::replace(&mut from, end + 1)..end].trim_ascii();
            self.lines += 1;
            if !line.is_empty() {
                self.count()?;
                each(self.lines, line);
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), CaptureError> {
        self.items += 1;
        if self.items <= EVENTS_MAX {
            return Ok(());
        }
        Err(CaptureError::TooLarge { what: format!("the batch has more than {EVENTS_MAX} events"), cure: "split it" })
    }

    /// To be asked when all pieces were taken apart.
    pub fn check_any(&self) -> Result<(), CaptureError> {
        if self.items > 0 {
            return Ok(());
        }
        Err(CaptureError::Body {
            what: "the batch is empty".into(),
            cure: "give one JSON object on each line, or an array of them",
        })
    }
}

/// Whether a text that begins so is an array, which has to be read as a whole.
pub(crate) fn is_array(text: &[u8]) -> bool {
    without_mark(text).trim_ascii_start().starts_with(b"[")
}

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text)
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

    fn items(body: &str) -> Result<Vec<(usize, String)>, CaptureError> {
        let (mut items, mut found) = (Items::default(), Vec::new());
        items.each(body.as_bytes(), |number, text| found.push((number, String::from_utf8(text.to_vec()).unwrap())))?;
        items.check_any().map(|()| found)
    }

    fn check(body: &str, expected: &[(usize, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(number, text)| (*number, (*text).to_owned())).collect();
        assert_eq!(items(body).unwrap(), expected, "{body:?}");
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
            assert!(matches!(items(empty), Err(CaptureError::Body { .. })), "{empty:?}");
        }
        let lines = "{}\n".repeat(EVENTS_MAX);
        assert_eq!(items(&lines).unwrap().len(), EVENTS_MAX);
        assert!(matches!(items(&format!("{lines}{{}}")), Err(CaptureError::TooLarge { .. })));
        let array = format!("[{}{{}}]", "{},".repeat(EVENTS_MAX));
        assert!(matches!(items(&array), Err(CaptureError::TooLarge { .. })));
        assert!(matches!(items("[{},"), Err(CaptureError::Body { .. })));
        assert!(matches!(items("[{}] x"), Err(CaptureError::Body { .. })));
    }
}
