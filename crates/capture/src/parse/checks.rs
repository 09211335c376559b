//! What each field may be: pure functions from a found value to the checked one, or to what is wrong and the cure.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use tally_model::{Country, EventId, Kind, Subdivision};
use uuid::Uuid;

use super::field::Field;
use super::found::Found;
use crate::error::Fault;

/// A UUID with its hyphens has 36; enough for the longer ids of ad platforms, little enough for dictionaries.
pub(crate) const ID_BYTES_MAX: usize = 64;
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Real agents stay below 400 bytes; what is longer says nothing more.
pub(crate) const USER_AGENT_BYTES_MAX: usize = 1 << 10;
/// The length that every browser can handle in a URL.
pub(crate) const REFERRER_BYTES_MAX: usize = 2 << 10;
/// A million units of a currency on one event is a mistake, or wants to overflow a sum.
pub(crate) const MICROS_MAX: i128 = 1_000_000_000_000;
/// 2000-01-01T00:00:00Z. Earlier times are seconds read as milliseconds, or a clock that was never set.
const OCCURRED_AT_MIN_US: i64 = 946_684_800_000_000;
/// A clock in the wrong time zone is at most 14 hours ahead; a day forgives that, and no wrong unit.
const OCCURRED_AHEAD_MAX_US: i64 = 24 * 3_600 * 1_000_000;
const DAY_US: i64 = 24 * 3_600 * 1_000_000;
/// Where the seconds of a time in RFC 3339 end.
const SECOND_ENDS: usize = "2019-11-24T10:00:00".len();
/// Nanoseconds.
const SUBSECOND_DIGITS_MAX: u32 = 9;

pub(super) type Checked<T> = Result<T, Fault>;

pub(crate) fn text<'a>(field: Field, found: &'a Found<'_>) -> Checked<&'a str> {
    match found {
        Found::Text(text) => Ok(text),
        other => Err(other.fault(field, "is not text", "give a text in quotes")),
    }
}

/// A name that reports group by. An empty one is none.
pub(crate) fn id<'a>(field: Field, found: Found<'a>) -> Checked<Option<Cow<'a, str>>> {
    let length = text(field, &found)?.len();
    if length > ID_BYTES_MAX {
        let cure = format!("give at most {ID_BYTES_MAX} bytes; longer data may go into `props`");
        return Err(found.fault(field, &format!("has {length} bytes"), cure));
    }
    Ok(found.into_text().filter(|text| !text.is_empty()))
}

pub(crate) fn shortened<'a>(field: Field, found: Found<'a>, bytes_max: usize) -> Checked<Option<Cow<'a, str>>> {
    text(field, &found)?;
    let cut = |text| match text {
        Cow::Borrowed(text) => Cow::Borrowed(cut(text, bytes_max)),
        Cow::Owned(text) => Cow::Owned(cut(&text, bytes_max).to_owned()),
    };
    Ok(found.into_text().filter(|text| !text.is_empty()).map(cut))
}

pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

pub(crate) fn event_id(field: Field, found: &Found<'_>) -> Checked<EventId> {
    const CURE: &str = "give a UUID that stays the same when the event is sent again, or leave the field out";
    let id = text(field, found).ok().and_then(|text| Uuid::parse_str(text).ok());
    id.ok_or_else(|| found.fault(field, "is not a UUID", CURE))
}

pub(crate) fn kind(field: Field, found: &Found<'_>) -> Checked<Kind> {
    let known = text(field, found).ok().and_then(Kind::parse);
    known.ok_or_else(|| found.fault(field, "is not a kind of event", "give `impression`, `click` or `conversion`"))
}

/// Microseconds since the epoch, and the sender's offset from UTC in minutes.
pub(crate) fn occurred_at(field: Field, found: &Found<'_>, received_at_us: i64) -> Checked<(i64, i16)> {
    const FORM: &str = "give RFC 3339 text with a time zone such as \"2019-11-24T10:00:00.123Z\" or \
                        \"2019-11-24T11:00:00+01:00\"; Unix seconds or milliseconds are not taken";
    let Found::Text(text) = found else { return Err(found.fault(field, "is not a time in text", FORM)) };
    let (at, offset) = match usual_time(text) {
        Some(usual) => usual,
        None => {
            let pieces = Pieces::parse(text.as_ref()).map_err(|_| found.fault(field, "is not a time", FORM))?;
            let Some(time) = pieces.time() else { return Err(found.fault(field, "has no time of day", FORM)) };
            let Some(offset) = pieces.to_numeric_offset() else {
                return Err(found.fault(field, "has no time zone", "add `Z` for UTC, or the offset, such as `+02:00`"));
            };
            (pieces.date().to_datetime(time), offset)
        }
    };
    let instant = offset.to_timestamp(at);
    let at_us = instant.map_err(|_| found.fault(field, "is out of range", FORM))?.as_microsecond();
    if at_us < OCCURRED_AT_MIN_US {
        let cure = "check the sender's clock, and that seconds were not taken for milliseconds";
        return Err(found.fault(field, "lies before 2000-01-01", cure));
    }
    let ahead_us = at_us.saturating_sub(received_at_us);
    if ahead_us > OCCURRED_AHEAD_MAX_US {
        let is_not = format!("lies {} days or more in the future", ahead_us / DAY_US);
        let cure = "check the sender's clock and time zone, and that milliseconds were not taken for seconds";
        return Err(found.fault(field, &is_not, cure));
    }
    Ok((at_us, i16::try_from(offset.seconds() / 60).unwrap_or_default()))
}

/// `2019-11-24T10:00:00.123Z` or `2019-11-24T11:00:00+01:00`, as nearly every sender writes it. Whatever else is a time is left to the
/// parser that knows all of them.
fn usual_time(text: &str) -> Option<(DateTime, Offset)> {
    let bytes = text.as_bytes();
    let number = |at: Range<usize>| {
        let digit = |number: i32, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0'));
        bytes.get(at)?.iter().try_fold(0, digit)
    };
    let two = |from: usize| i8::try_from(number(from..from + 2)?).ok();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes.get(*at) != Some(separator)) {
        return None;
    }
    let (subsec_ns, zone) = match bytes.get(SECOND_ENDS)? {
        b'.' => {
            let digits = bytes[SECOND_ENDS + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let zone = SECOND_ENDS + 1 + digits;
            let unit_ns = 10_i32.pow(SUBSECOND_DIGITS_MAX.checked_sub(u32::try_from(digits).ok()?)?);
            (number(SECOND_ENDS + 1..zone).filter(|_| digits > 0)? * unit_ns, zone)
        }
        _ => (0, SECOND_ENDS),
    };
    let offset = match bytes.get(zone..)? {
        [b'Z'] => Offset::UTC,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(zone + 1..zone + 3)?, number(zone + 4..zone + 6)?);
            // Minus zero says that the zone is not known.
            if minutes > 59 || (*sign == b'-' && hours + minutes == 0) {
                return None;
            }
            let seconds = (hours * 60 + minutes) * 60;
            Offset::from_seconds(if *sign == b'-' { -seconds } else { seconds }).ok()?
        }
        _ => return None,
    };
    let date = Date::new(i16::try_from(number(0..4)?).ok()?, two(5)?, two(8)?).ok()?;
    let time = Time::new(two(11)?, two(14)?, two(17)?, subsec_ns).ok()?;
    Some((date.to_datetime(time), offset))
}

pub(crate) fn ip(field: Field, found: &Found<'_>) -> Checked<IpAddr> {
    let address = text(field, found)?.parse();
    address.map_err(|_| found.fault(field, "is not an IP address", "give an IPv4 or IPv6 address without a port"))
}

pub(crate) fn number(field: Field, found: &Found<'_>) -> Checked<f32> {
    let number = match found {
        Found::Whole(whole) => *whole as f32,
        Found::Decimal(decimal) => *decimal as f32,
        other => return Err(other.fault(field, "is not a number", "give a number without quotes, e.g. 0.25")),
    };
    if number.is_finite() {
        return Ok(number);
    }
    Err(found.fault(field, "is too large for a coordinate", "give a position in pixels, or between 0 and 1"))
}

pub(crate) fn micros(field: Field, found: &Found<'_>) -> Checked<i64> {
    const CURE: &str = "give millionths of the currency as a whole number, e.g. 250000";
    let Found::Whole(whole) = found else { return Err(found.fault(field, "is not a whole number", CURE)) };
    match i64::try_from(*whole) {
        Ok(micros) if whole.abs() <= MICROS_MAX => Ok(micros),
        _ => Err(found.fault(field, &format!("is beyond {MICROS_MAX} millionths"), CURE)),
    }
}

pub(crate) fn country(field: Field, found: &Found<'_>) -> Checked<Country> {
    let known = text(field, found).ok().and_then(Country::parse);
    known.ok_or_else(|| found.fault(field, "is not a country code", "give two letters (ISO 3166-1), e.g. \"DE\""))
}

pub(crate) fn subdivision(field: Field, found: &Found<'_>) -> Checked<Subdivision> {
    let known = text(field, found).ok().and_then(Subdivision::parse);
    known.ok_or_else(|| found.fault(field, "is no part of a country", "give its code (ISO 3166-2), e.g. \"US-CA\""))
}

pub(crate) fn currency<'a>(field: Field, found: Found<'a>) -> Checked<Cow<'a, str>> {
    match found {
        Found::Text(code) if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => Ok(code),
        Found::Text(code) if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Ok(code.to_ascii_uppercase().into())
        }
        other => Err(other.fault(field, "is not a currency code", "give three letters (ISO 4217), e.g. \"EUR\"")),
    }
}

/// Adds to `segments`; each once, empty ones not at all.
pub(crate) fn segments<'a>(field: Field, found: Found<'a>, segments: &mut Vec<Cow<'a, str>>) -> Checked<()> {
    const CURE: &str = "give a list of texts, e.g. [\"sports\",\"returning\"]";
    let Found::List(list) = found else { return Err(found.fault(field, "is not a list", CURE)) };
    for segment in list {
        let Some(name) = id(field, segment)?.filter(|name| !segments.contains(name)) else { continue };
        if segments.len() == SEGMENTS_MAX {
            let what = format!("there are more than {SEGMENTS_MAX}");
            return Err(Fault::new(
                field.as_str(),
                what,
                "send those that reports group by; others may go into `props`",
            ));
        }
        segments.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_the_parser(text: &str) -> Option<(DateTime, Offset)> {
        let pieces = Pieces::parse(text).ok()?;
        Some((pieces.date().to_datetime(pieces.time()?), pieces.to_numeric_offset()?))
    }

    #[test]
    fn times_as_senders_write_them_are_read_quickly() {
        for text in ["2019-11-24T10:00:00.123Z", "2019-11-24T11:00:00+01:00", "2024-02-29T23:59:59.123456-09:30"] {
            assert_eq!(usual_time(text), by_the_parser(text), "{text}");
            assert!(usual_time(text).is_some(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn a_time_that_is_read_quickly_is_what_the_parser_reads(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.,][0-9]{0,10})?(Z|z|[+-][0-2][0-9]:?[0-9]{2})?"
        ) {
            if let Some(quick) = usual_time(&text) {
                prop_assert_eq!(Some(quick), by_the_parser(&text), "{}", text);
            }
        }
    }
}
