//! A usual event read quickly: one object on one line, in whose texts nothing is escaped. At any surprise it gives up, and the
//! event is read anew by the parser in `json.rs`, which knows all of JSON and words every complaint.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::value::RawValue;

use super::builder::EventBuilder;
use super::field::Field;
use super::found::Found;
use super::order::Order;

/// Digits that fit into 64 bits whatever they are.
const DIGITS_MAX: usize = 18;

/// What stands in front of a value.
enum Named<'a> {
    Field(Field),
    Prop(&'a str),
}

/// Sets all fields, or gives up where the text is unusual or wrong.
pub(super) fn usual<'a>(text: &'a str, builder: &mut EventBuilder<'a>, order: &mut Order) -> Option<()> {
    // JSON allows no such bytes in a text, and usual senders put none between them.
    // All of it is looked at, without a way out: so many bytes are compared at once.
    if text.bytes().fold(false, |found, byte| found | (byte < b' ')) {
        return None;
    }
    let mut scanner = Scanner { text, at: 0 };
    scanner.expect(b'{')?;
    order.begin();
    loop {
        match scanner.name(order)? {
            Named::Field(Field::Props) => builder.set_props(scanner.raw()?).ok()?,
            Named::Field(field) => builder.set(field, scanner.value()?).ok()?,
            Named::Prop(key) => builder.add_prop(Cow::Borrowed(key), scanner.raw()?),
        }
        match scanner.next()? {
            b',' => {}
            b'}' => return (scanner.at == text.len()).then_some(()),
            _ => return None,
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while *bytes.get(self.at)? == b' ' {
            self.at += 1;
        }
        Some(bytes[self.at])
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn name(&mut self, order: &mut Order) -> Option<Named<'a>> {
        self.peek()?;
        if let Some(field) = order.expected(&self.text.as_bytes()[self.at..]) {
            self.at += field.json_key().len();
            return Some(Named::Field(field));
        }
        self.expect(b'"')?;
        let key = self.rest_of_text()?;
        self.expect(b':')?;
        let field = Field::parse(key);
        field.into_iter().for_each(|field| order.found(field));
        Some(field.map_or(Named::Prop(key), Named::Field))
    }

    /// Up to the quote that ends it.
    fn rest_of_text(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        let end = memchr2(b'"', b'\\', rest.as_bytes())?;
        let text = &rest[..end];
        self.at += end + 1;
        (rest.as_bytes()[end] == b'"').then_some(text)
    }

    fn value(&mut self) -> Option<Found<'a>> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.rest_of_text().map(|text| Found::Text(Cow::Borrowed(text)))
            }
            b'[' => self.texts(),
            b'0'..=b'9' => self.whole().or_else(|| self.other()),
            _ => self.other(),
        }
    }

    /// A list of texts; the other lists that there are end the quick way.
    fn texts(&mut self) -> Option<Found<'a>> {
        let mut list = Vec::new();
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(Found::List(list));
        }
        loop {
            self.expect(b'"')?;
            list.push(Found::Text(Cow::Borrowed(self.rest_of_text()?)));
            match self.next()? {
                b',' => {}
                b']' => return Some(Found::List(list)),
                _ => return None,
            }
        }
    }

    /// A whole number that is not negative; none, and nothing read, where it may be another.
    fn whole(&mut self) -> Option<Found<'a>> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_plain = digits <= DIGITS_MAX && (rest[0] != b'0' || digits == 1);
        if !is_plain || !matches!(rest.get(digits)?, b',' | b'}' | b' ') {
            return None;
        }
        let number = rest[..digits].iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
        self.at += digits;
        Some(Found::Whole(number.into()))
    }

    fn other(&mut self) -> Option<Found<'a>> {
        serde_json::from_str(self.raw()?.get()).ok()
    }

    /// Any value, as it is written.
    fn raw(&mut self) -> Option<&'a RawValue> {
        let mut values = serde_json::Deserializer::from_str(self.text.get(self.at..)?).into_iter::<&'a RawValue>();
        let raw = values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashKey;
    use crate::client::Client;
    use crate::parse::Stamp;
    use crate::parse::json::thorough;
    use crate::tests::garbage;
    use proptest::prelude::*;
    use tally_model::SeededEntropy;

    fn both(text: &str) -> (Option<String>, String) {
        both_after(None, text)
    }

    /// Both ways of reading, each with a stamp of its own, so that an id that is made is the same. The quick one has read another
    /// event before.
    fn both_after(before: Option<&str>, text: &str) -> (Option<String>, String) {
        let (key, client) = (HashKey::from_bytes([7; 32]), Client { speaks_for_others: true, ..Client::default() });
        let entropies = [SeededEntropy::new(1), SeededEntropy::new(1)];
        let [first, second] = entropies.each_ref().map(|entropy| Stamp {
            received_at_us: 1_700_000_000_000_000,
            key: &key,
            entropy,
            client: &client,
            geo: None,
            kind: None,
        });
        let mut order = Order::default();
        if let Some(before) = before {
            let _ = usual(before, &mut EventBuilder::new(&second), &mut order);
        }
        let mut builder = EventBuilder::new(&first);
        let quick = usual(text, &mut builder, &mut order).map(|()| format!("{:?}", builder.finish()));
        (quick, format!("{:?}", thorough(text, &second)))
    }

    #[test]
    fn what_senders_usually_send_is_read_quickly() {
        let usual = [
            r#"{"event_id":"d51bcbe5-3825-47dc-a9e2-2058489ff253","kind":"click","occurred_at":"2023-11-14T18:59:58.578-05:00","campaign_id":"c","ad_id":"a","user_id":"u","ip":"198.18.230.103","user_agent":"Mozilla/5.0 (iPhone)","referrer":"https://p.example/2","country":"US","gender":"female","segments":["travel","sports"],"cost_micros":6294,"currency":"EUR"}"#,
            r#"{"kind": "impression", "campaign_id": "c", "ad_id": "größe", "segments": [ ], "x": 0, "y": 0.25, "cost_micros": -5}"#,
            r#"{"kind":"click","campaign_id":"c","ad_id":"a","user_id":null,"theme":"dark","deep":{"a":[1,{"b":"\"}"}]},"props":{"k":1.50}}"#,
        ];
        for text in usual {
            for before in usual {
                let (quick, thorough) = both_after(Some(before), text);
                assert_eq!(quick.as_deref(), Some(thorough.as_str()), "{text}");
                assert!(thorough.starts_with("Ok"), "{thorough}");
            }
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_the_parser() {
        let unusual = [
            r#"{"kind":"cl\u0069ck","campaign_id":"c","ad_id":"a"}"#,
            "{\"kind\":\"click\",\t\"campaign_id\":\"c\",\"ad_id\":\"a\"}",
            r#"{"kind":"click","campaign_id":"c","ad_id":"a"} x"#,
            r#"{"kind":"click","campaign_id":"c","ad_id":"a",}"#,
            r#"{"kind":"click","campaign_id":7,"ad_id":"a"}"#,
            r#"{"kind":"click","campaign_id":"c","ad_id":"a","cost_micros":007}"#,
            r#"{"kind":"click","campaign_id":"c","ad_id":"a"#,
            "{}",
            "{",
        ];
        for text in unusual {
            assert_eq!(both(text).0, None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn read_quickly_or_thoroughly_an_event_is_the_same(before in garbage::mutated(), text in garbage::mutated()) {
            if let Ok(text) = std::str::from_utf8(&text) {
                let (quick, thorough) = both_after(std::str::from_utf8(&before).ok(), text.trim_ascii());
                if let Some(quick) = quick {
                    prop_assert_eq!(quick, thorough);
                }
            }
        }
    }
}
