//! What docs/api.md says of event fields, as claims about an event that was taken. The numbers stand here once more on
//! purpose: a limit that moves in the code must be moved in the documentation and here.

use jiff::Timestamp;
use serde_json::Value;
use tally_model::{Event, Kind, Privacy, Region};

/// 2023-11-14T22:13:20Z: the time of receipt of everything that is sent here.
pub const NOW_US: i64 = 1_700_000_000_000_000;

const NAME_BYTES_MAX: usize = 64;
const USER_AGENT_BYTES_MAX: usize = 1_024;
const REFERRER_BYTES_MAX: usize = 2_048;
const CONSENT_BYTES_MAX: usize = 4_096;
const SEGMENTS_MAX: usize = 64;
const PROPS_BYTES_MAX: usize = 8_192;
const MICROS_MAX: i64 = 1_000_000_000_000;
const DAY_US: i64 = 24 * 3_600 * 1_000_000;

pub fn check(event: &Event) {
    check_names(event);
    check_time(event);
    for (name, micros) in [("cost_micros", event.cost_micros), ("revenue_micros", event.revenue_micros)] {
        assert!((-MICROS_MAX..=MICROS_MAX).contains(&micros), "`{name}` is {micros}");
    }
    if let Some(currency) = &event.currency {
        let is_code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        assert!(is_code, "`currency` is {currency:?}");
    }
    for (name, at) in [("x", event.x), ("y", event.y)] {
        assert!(at.is_none_or(f32::is_finite), "`{name}` is {at:?}");
    }
    assert_eq!(event.region, Region::of(event.country), "the region follows from the country");
    if let Some(subdivision) = &event.subdivision {
        assert_eq!(Some(subdivision.country()), event.country, "the subdivision is in the country");
    }
    check_privacy(event);
    if let Some(props) = &event.props {
        assert!(props.len() <= PROPS_BYTES_MAX, "`props` has {} bytes", props.len());
        match serde_json::from_str::<Value>(props) {
            Ok(read) => {
                assert!(read.as_object().is_some_and(|props| !props.is_empty()), "`props` is no object: {props}")
            }
            // Numbers are kept as they were written, and are not ours to round.
            Err(error) => assert!(error.to_string().contains("number out of range"), "{error}: {props}"),
        }
    }
}

fn check_names(event: &Event) {
    let segments = event.segments.iter().map(|segment| ("segments", Some(segment)));
    for (field, name) in names(event).into_iter().chain(segments) {
        let bytes = name.map(String::len);
        assert!(bytes.is_none_or(|bytes| (1..=NAME_BYTES_MAX).contains(&bytes)), "`{field}` has {bytes:?} bytes");
    }
    assert!(event.segments.len() <= SEGMENTS_MAX, "{} segments", event.segments.len());
    for (at, segment) in event.segments.iter().enumerate() {
        assert!(!event.segments[..at].contains(segment), "the segment {segment:?} stands twice");
    }
    let has_place = !event.campaign_id.is_empty() && !event.ad_id.is_empty();
    let has_click = event.kind == Kind::Conversion && event.click_id.is_some();
    assert!(has_place || has_click, "neither `campaign_id` and `ad_id` nor the click of a conversion");
    let texts =
        [("user_agent", &event.user_agent, USER_AGENT_BYTES_MAX), ("referrer", &event.referrer, REFERRER_BYTES_MAX)];
    for (field, text, bytes_max) in texts {
        let bytes = text.as_ref().map(String::len);
        assert!(bytes.is_none_or(|bytes| (1..=bytes_max).contains(&bytes)), "`{field}` has {bytes:?} bytes");
    }
}

/// Signals of privacy are kept whole or not at all.
fn check_privacy(event: &Event) {
    let Some(privacy) = &event.privacy else { return };
    let texts = [
        ("gdpr_consent", &privacy.gdpr_consent, CONSENT_BYTES_MAX),
        ("gpp", &privacy.gpp, CONSENT_BYTES_MAX),
        ("gpp_sid", &privacy.gpp_sid, NAME_BYTES_MAX),
        ("us_privacy", &privacy.us_privacy, "1YNN".len()),
    ];
    for (field, text, bytes_max) in texts {
        let is_one =
            |text: &String| (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(text.as_ref().is_none_or(is_one), "`{field}` is {text:?}");
    }
    assert_ne!(**privacy, Privacy::default(), "nothing was said, and it is kept");
}

/// What reports group by, as it was kept; an empty one is none.
pub fn names(event: &Event) -> [(&'static str, Option<&String>); 8] {
    [
        ("campaign_id", Some(&event.campaign_id).filter(|id| !id.is_empty())),
        ("ad_id", Some(&event.ad_id).filter(|id| !id.is_empty())),
        ("placement_id", event.placement_id.as_ref()),
        ("publisher_id", event.publisher_id.as_ref()),
        ("variant", event.variant.as_ref()),
        ("age_group", event.age_group.as_ref()),
        ("gender", event.gender.as_ref()),
        ("click_id", event.click_id.as_ref()),
    ]
}

fn check_time(event: &Event) {
    assert_eq!(event.received_at_us, NOW_US, "time is stamped by the clock that was handed in");
    let earliest = "2000-01-01T00:00:00Z".parse::<Timestamp>().expect("a time").as_microsecond();
    let at = event.occurred_at_us;
    assert!((earliest..=NOW_US + DAY_US).contains(&at), "`occurred_at` is {at}");
    let offset = event.utc_offset_minutes;
    assert!((-26 * 60..=26 * 60).contains(&offset), "an offset of {offset} minutes");
}
