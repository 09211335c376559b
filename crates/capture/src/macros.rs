//! Macros in a destination: `{click_id}` and the like become what is known of the click, percent-encoded, so that a value can
//! end no parameter and begin none. Only behind the host: where a link leads is never filled in.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tally_model::{Country, Privacy, Subdivision};
use url::{Position, Url};

use crate::parse::FreshEvent;

const CLICK_ID: &str = "click_id";
/// All but the unreserved characters (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A brace as URLs write it in a path; in a query it may stand as it is.
const OPENING: [&str; 3] = ["{", "%7B", "%7b"];
const CLOSING: [&str; 3] = ["}", "%7D", "%7d"];

/// The destination with its macros filled in. The click's id is handed on for the conversion to name: where no macro asks for it,
/// it is appended, unless the destination has one already.
pub(crate) fn filled(mut destination: Url, event: &FreshEvent<'_>) -> String {
    let has_id = destination.query_pairs().any(|(name, _)| name == CLICK_ID);
    let asks = pieces(&destination[Position::BeforePath..]).any(|piece| piece == Piece::Macro(CLICK_ID));
    if !has_id && !asks {
        destination.query_pairs_mut().append_pair(CLICK_ID, &event.id.to_string());
    }
    let mut location = destination[..Position::BeforePath].to_owned();
    for piece in pieces(&destination[Position::BeforePath..]) {
        match piece {
            Piece::Text(text) => location.push_str(text),
            Piece::Macro(name) => location.extend(utf8_percent_encode(&value(name, event), ENCODED)),
        }
    }
    location
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Macro(&'static str),
}

/// Every macro; others are text, and stay.
const NAMES: [&str; 16] = [
    CLICK_ID,
    "campaign_id",
    "ad_id",
    "placement_id",
    "publisher_id",
    "variant",
    "country",
    "subdivision",
    "timestamp",
    "timestamp_ms",
    "cachebuster",
    "gdpr",
    "gdpr_consent",
    "gpp",
    "gpp_sid",
    "us_privacy",
];

/// What a macro stands for; empty where that is not known.
fn value<'a>(name: &str, event: &'a FreshEvent<'_>) -> Cow<'a, str> {
    fn text(text: Option<&str>) -> Cow<'_, str> {
        Cow::Borrowed(text.unwrap_or_default())
    }
    let privacy = |of: fn(&Privacy) -> Option<&str>| text(event.privacy.as_deref().and_then(of));
    match name {
        CLICK_ID => event.id.to_string().into(),
        "campaign_id" => text(Some(&event.campaign_id)),
        "ad_id" => text(Some(&event.ad_id)),
        "placement_id" => text(event.placement_id.as_deref()),
        "publisher_id" => text(event.publisher_id.as_deref()),
        "variant" => text(event.variant.as_deref()),
        "country" => text(event.country.as_ref().map(Country::as_str)),
        "subdivision" => text(event.subdivision.as_ref().map(Subdivision::as_str)),
        "timestamp" => (event.received_at_us / 1_000_000).to_string().into(),
        "timestamp_ms" => (event.received_at_us / 1_000).to_string().into(),
        // The end of the id is its random part, and differs from click to click.
        "cachebuster" => (event.id.as_u128() as u32).to_string().into(),
        "gdpr" => privacy(|privacy| privacy.gdpr.map(|applies| if applies { "1" } else { "0" })),
        "gdpr_consent" => privacy(|privacy| privacy.gdpr_consent.as_deref()),
        "gpp" => privacy(|privacy| privacy.gpp.as_deref()),
        "gpp_sid" => privacy(|privacy| privacy.gpp_sid.as_deref()),
        "us_privacy" => privacy(|privacy| privacy.us_privacy.as_deref()),
        _ => Cow::Borrowed(""),
    }
}

/// Cuts a text at its macros.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((name, behind)) = macro_at_start(rest) {
            rest = behind;
            return Some(Piece::Macro(name));
        }
        // Up to the next place where a macro may begin; what begins here is none.
        let next = rest.char_indices().skip(1).find(|(at, _)| macro_at_start(&rest[*at..]).is_some());
        let (piece, behind) = rest.split_at(next.map_or(rest.len(), |(at, _)| at));
        rest = behind;
        Some(Piece::Text(piece))
    })
}

fn macro_at_start(text: &str) -> Option<(&'static str, &str)> {
    let inner = OPENING.iter().find_map(|brace| text.strip_prefix(brace))?;
    NAMES.into_iter().find_map(|name| {
        let behind = inner.strip_prefix(name)?;
        Some((name, CLOSING.iter().find_map(|brace| behind.strip_prefix(brace))?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::Kind;
    use uuid::Uuid;

    fn event() -> FreshEvent<'static> {
        FreshEvent {
            variant: Some("A&b=c /\u{e4}".into()),
            country: Country::parse("DE"),
            privacy: Privacy { gdpr: Some(true), gdpr_consent: Some("CPX".into()), ..Privacy::default() }.some(),
            ..FreshEvent::of(
                Uuid::from_u128(7),
                Kind::Click,
                1_700_000_000_123_456,
                "spring".into(),
                "a{click_id}".into(),
            )
        }
    }

    fn check(destination: &str, expected: &str) {
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(filled(Url::parse(destination).unwrap(), &event()), expected.replace("ID", id), "{destination}");
    }

    #[test]
    fn macros_are_filled_in_wherever_they_stand_behind_the_host() {
        check("https://s.example/{campaign_id}/x?c={click_id}#{country}", "https://s.example/spring/x?c=ID#DE");
        check("https://s.example/?c=%7Bclick_id%7D&t={timestamp}", "https://s.example/?c=ID&t=1700000000");
        check("https://s.example/?{click_id}{click_id}", "https://s.example/?IDID");
        check(
            "https://s.example/?m={timestamp_ms}&b={cachebuster}&c={click_id}",
            "https://s.example/?m=1700000000123&b=7&c=ID",
        );
        check("https://s.example/?g={gdpr}&gc={gdpr_consent}&c={click_id}", "https://s.example/?g=1&gc=CPX&c=ID");
    }

    #[test]
    fn a_value_ends_no_parameter_and_brings_no_macro() {
        check(
            "https://s.example/{variant}?v={variant}&c={click_id}",
            "https://s.example/A%26b%3Dc%20%2F%C3%A4?v=A%26b%3Dc%20%2F%C3%A4&c=ID",
        );
        check("https://s.example/?a={ad_id}&c={click_id}", "https://s.example/?a=a%7Bclick_id%7D&c=ID");
    }

    #[test]
    fn what_is_not_known_is_empty_and_what_is_no_macro_stays() {
        check("https://s.example/?p={placement_id}&c={click_id}", "https://s.example/?p=&c=ID");
        check("https://s.example/?p={nobody}&{}&{{click_id}}", "https://s.example/?p={nobody}&{}&{ID}");
        check("https://s.example/?a={click_id", "https://s.example/?a={click_id&click_id=ID");
        check("https://s.example/\u{e4}?\u{20ac}={\u{e4}}", "https://s.example/%C3%A4?%E2%82%AC={%C3%A4}&click_id=ID");
    }

    #[test]
    fn the_click_id_is_appended_once_where_no_macro_asks_for_it() {
        check("https://s.example/a?b=c%20d#e", "https://s.example/a?b=c%20d&click_id=ID#e");
        check("https://s.example", "https://s.example/?click_id=ID");
        check("https://s.example/?click_id=mine", "https://s.example/?click_id=mine");
        check("https://s.example/?click_id={click_id}", "https://s.example/?click_id=ID");
    }

    #[test]
    fn a_host_is_never_filled_in() {
        check("https://{country}.example/?c={click_id}", "https://{country}.example/?c=ID");
        check("https://{country}@s.example:80/?c={click_id}", "https://%7Bcountry%7D@s.example:80/?c=ID");
    }

    proptest! {
        #[test]
        fn no_destination_and_no_value_lead_to_another_host(
            behind in "(\\{(click_id|variant|ad_id|nobody)\\}|%7[Bb]variant%7[Dd]|[a-z{}%&=?#/@:.\\\\ ä]){0,12}",
            value in "[a-z{}%&=?#/@:.\\\\ \\r\\n\\PC]{0,12}",
        ) {
            let destination = Url::parse(&format!("https://s.example:81/{behind}")).unwrap();
            let event = FreshEvent { variant: Some(value.into()), ..event() };
            let location = filled(destination.clone(), &event);
            prop_assert!(axum::http::HeaderValue::from_str(&location).is_ok(), "{location:?} is no header");
            let url = Url::parse(&location).unwrap();
            prop_assert_eq!(url.origin(), destination.origin());
            // No more parameters than were asked for, and the click's id.
            let asked = destination.query_pairs().count();
            prop_assert!(url.query_pairs().count() <= asked + 1, "{location}");
        }
    }

    #[test]
    fn every_macro_has_a_value_of_its_own() {
        for name in NAMES {
            let cut: Vec<_> = pieces(&format!("a{{{name}}}b")).map(|piece| format!("{piece:?}")).collect();
            assert_eq!(cut, [r#"Text("a")"#.to_owned(), format!("Macro({name:?})"), r#"Text("b")"#.to_owned()]);
        }
    }
}
