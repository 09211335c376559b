//! Events as name and value pairs, `name=value&..`: the query of a click or pixel, the body of a form or beacon.

use std::borrow::Cow;

use url::form_urlencoded;

use super::builder::EventBuilder;
use super::field::Field;
use super::found::Found;
use crate::error::Fault;

/// A form has no null: an empty value is its way to say that there is none.
pub(crate) fn pairs(encoded: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(encoded.as_bytes()).filter(|(_, value)| !value.is_empty())
}

pub(crate) fn fill<'a>(
    builder: &mut EventBuilder<'a>,
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> Result<(), Fault> {
    for (name, value) in pairs {
        match Field::parse(&name) {
            Some(field) => builder.set(field, found(field, value)?)?,
            None => builder.add_text_prop(name, &value),
        }
    }
    Ok(())
}

/// Everything in a form is text. Where the field takes something else and the text reads as that, it is that; where it
/// does not, the field's own check complains.
fn found(field: Field, value: Cow<'_, str>) -> Result<Found<'_>, Fault> {
    // Decoding leaves this mark where bytes were not UTF-8. Two ids must not become one by it; prose may hold it.
    if value.contains(char::REPLACEMENT_CHARACTER) && !matches!(field, Field::Referrer | Field::UserAgent) {
        return Err(Fault::new(field.as_str(), "is not UTF-8", "percent-encode the text as UTF-8"));
    }
    Ok(match field {
        Field::CostMicros | Field::RevenueMicros => match value.parse() {
            Ok(whole) => Found::Whole(whole),
            Err(_) => Found::Text(value),
        },
        Field::X | Field::Y => match value.parse() {
            Ok(decimal) => Found::Decimal(decimal),
            Err(_) => Found::Text(value),
        },
        Field::Segments => Found::List(value.split(',').map(|name| Found::Text(Cow::Owned(name.to_owned()))).collect()),
        Field::OccurredAt => Found::Text(with_plus(value)),
        _ => Found::Text(value),
    })
}

/// A `+` that was not encoded arrives as a space. In front of an offset it can have been nothing else.
fn with_plus(time: Cow<'_, str>) -> Cow<'_, str> {
    const DATE_BYTES: usize = "2019-11-24".len();
    match time.rfind(' ') {
        Some(at) if at > DATE_BYTES => Cow::Owned(format!("{}+{}", &time[..at], &time[at + 1..])),
        _ => time,
    }
}
