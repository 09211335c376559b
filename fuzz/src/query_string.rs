//! Bytes as the query of `GET /v1/click` and `/v1/pixel.gif`, and as a form. The first byte says which.
//!
//! What is kept must be what the pairs say by another reader of them; the same pairs as a query and as a form must be the
//! same event; and nobody is sent to a host that is not on the list.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use axum::http::{HeaderValue, Method, Request, Uri, header};
use serde_json::{Map, Value};
use tally_model::{Event, Kind, Purpose};
use url::{Url, form_urlencoded};

use crate::door::{Answer, PROXY, STRANGER, send};
use crate::event_limits;

/// The fields of docs/api.md; everything else goes into `props`.
pub const FIELDS: [&str; 30] = [
    "event_id",
    "kind",
    "occurred_at",
    "campaign_id",
    "ad_id",
    "placement_id",
    "publisher_id",
    "variant",
    "user_id",
    "ip",
    "user_agent",
    "referrer",
    "x",
    "y",
    "country",
    "subdivision",
    "age_group",
    "gender",
    "segments",
    "cost_micros",
    "revenue_micros",
    "currency",
    "click_id",
    "gdpr",
    "gdpr_consent",
    "gpp",
    "gpp_sid",
    "us_privacy",
    "gpc",
    "props",
];

/// Shorter ones may be in a record by chance.
const ADDRESS_BYTES_MIN: usize = 8;

/// Who asks and how, beside the pairs themselves.
struct Sender {
    method: Method,
    peer: &'static str,
    forwarded_for: Option<HeaderValue>,
}

pub fn check(input: &[u8]) {
    let Some((&how, mut rest)) = input.split_first() else { return };
    let mut forwarded_for = None;
    if how & 16 != 0
        && let Some(at) = rest.iter().position(|byte| *byte == b'\n')
    {
        forwarded_for = HeaderValue::from_bytes(&rest[..at]).ok();
        rest = &rest[at + 1..];
    }
    let method = if how & 4 == 0 { Method::GET } else { Method::HEAD };
    let sender = Sender { method, peer: if how & 8 == 0 { STRANGER } else { PROXY }, forwarded_for };
    match how & 3 {
        0 => check_click(&sender, &carried(rest)),
        1 => check_pixel(&sender, &carried(rest)),
        2 => check_form(&sender, rest),
        _ => check_alike(&sender, &carried(rest)),
    }
}

/// The bytes as a client would put them into a URL: percent-encoded where a query cannot hold them.
fn carried(bytes: &[u8]) -> String {
    let mut query = String::with_capacity(bytes.len());
    for &byte in bytes {
        if matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'_' | b'a'..=b'~') {
            query.push(byte.into());
        } else {
            write!(query, "%{byte:02X}").expect("a text grows");
        }
    }
    query
}

impl Sender {
    /// None where HTTP cannot carry such a URL.
    fn get(&self, path: &str, query: &str) -> Option<Answer> {
        let uri: Uri = format!("{path}?{query}").parse().ok()?;
        Some(self.send(self.method.clone(), uri, None, Vec::new()))
    }

    fn post(&self, body: Vec<u8>) -> Answer {
        const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.send(Method::POST, Uri::from_static("/v1/events"), Some(FORM), body)
    }

    fn send(&self, method: Method, uri: Uri, content_type: Option<HeaderValue>, body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        let headers = [(header::CONTENT_TYPE, &content_type), (X_FORWARDED_FOR, &self.forwarded_for)];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let uri = request.uri_ref().and_then(Uri::query).unwrap_or_default();
        let told = format!("{:?}", (pairs(uri), pairs(&String::from_utf8_lossy(&body))));
        let answer = send(request, self.peer, body);
        let hops = self.forwarded_for.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        for hop in hops.map(str::trim).filter(|hop| hop.parse::<IpAddr>().is_ok() && hop.len() >= ADDRESS_BYTES_MIN) {
            let holds = |bytes: &[u8]| bytes.windows(hop.len()).any(|found| found == hop.as_bytes());
            assert!(told.contains(hop) || !answer.records.iter().any(|record| holds(record)), "the record holds {hop}");
        }
        answer
    }
}

const X_FORWARDED_FOR: header::HeaderName = header::HeaderName::from_static("x-forwarded-for");

fn check_click(sender: &Sender, query: &str) {
    let Some(answer) = sender.get("/v1/click", query) else { return };
    let Some(event) = kept(&answer, 302) else { return };
    check_not_stored(&answer);
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.expect("a redirect says where to");
    let url = Url::parse(location).unwrap_or_else(|error| panic!("{error}: {location}"));
    let host = url.host_str().unwrap_or_default();
    let is_listed =
        host == "shop.example" || (host.ends_with(".brand.example") && host.split('.').all(|label| !label.is_empty()));
    assert!(is_listed && matches!(url.scheme(), "http" | "https"), "sent to {location}");
    let click_id = url.query_pairs().find(|(name, _)| name == "click_id").map(|(_, id)| id.into_owned());
    let to = pairs(query).into_iter().find(|(name, _)| name == "to").map(|(_, to)| to);
    let to = to.and_then(|to| Url::parse(&to).ok()).expect("sent to somewhere that was asked for");
    assert_eq!(to.host(), url.host(), "sent to another host: {location}");
    let asks = ["{click_id}", "%7bclick_id%7d"].iter().any(|name| to.as_str().to_lowercase().contains(name));
    if !asks && !to.query_pairs().any(|(name, _)| name == "click_id") {
        assert_eq!(click_id, Some(event.id.to_string()), "{location}");
    }
    check_meaning(&sender.method, query, Some(Kind::Click), &event);
}

fn check_pixel(sender: &Sender, query: &str) {
    let Some(answer) = sender.get("/v1/pixel.gif", query) else { return };
    let Some(event) = kept(&answer, 200) else { return };
    check_not_stored(&answer);
    assert_eq!(answer.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes), Some(&b"image/gif"[..]));
    if sender.method == Method::GET {
        assert_eq!((answer.body.len(), &answer.body[..6]), (43, &b"GIF89a"[..]));
    }
    check_meaning(&sender.method, query, Some(Kind::Impression), &event);
}

fn check_form(sender: &Sender, body: &[u8]) {
    let answer = sender.post(body.to_vec());
    let Some(event) = kept(&answer, 202) else { return };
    assert_eq!(answer.json(), serde_json::json!({"event_id": event.id}));
    let body = std::str::from_utf8(body).expect("a form that was taken is UTF-8");
    // A mark of the byte order in front belongs to no name.
    let body = body.strip_prefix('\u{FEFF}').unwrap_or(body);
    if !is_json(body) {
        check_meaning(&Method::POST, body, None, &event);
    }
}

/// The same pairs mean the same in a query and in a form.
fn check_alike(sender: &Sender, query: &str) {
    let query = format!("{query}&kind=impression");
    if is_json(&query) {
        return;
    }
    let get = Sender { method: Method::GET, peer: sender.peer, forwarded_for: sender.forwarded_for.clone() };
    let Some(pixel) = get.get("/v1/pixel.gif", &query) else { return };
    let form = get.post(query.clone().into_bytes());
    assert_eq!(pixel.status == 200, form.status == 202, "{}; {}", pixel.text(), form.text());
    assert_eq!(pixel.events, form.events, "{query}");
}

fn is_json(text: &str) -> bool {
    text.trim_ascii_start().starts_with(['{', '['])
}

/// The one event of an answer with this status; none and no event where it is another.
fn kept(answer: &Answer, status: u16) -> Option<Event> {
    assert!(answer.status == status || answer.status >= 400, "{}: {}", answer.status, answer.text());
    assert_eq!(answer.events.len(), usize::from(answer.status == status), "{}: {}", answer.status, answer.text());
    answer.events.first().cloned()
}

fn check_not_stored(answer: &Answer) {
    assert_eq!(answer.headers.get(header::CACHE_CONTROL).map(HeaderValue::as_bytes), Some(&b"no-store"[..]));
}

fn pairs(encoded: &str) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(encoded.as_bytes()).into_owned();
    pairs.filter(|(_, value)| !value.is_empty()).collect()
}

/// Of a field that is given twice the last value stays, of segments all; and what Tally does not know is a prop.
fn check_meaning(method: &Method, encoded: &str, kind: Option<Kind>, event: &Event) {
    let pairs = pairs(encoded);
    let last: BTreeMap<&str, &str> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let text = |name: &str| last.get(name).copied();
    assert_eq!(text("kind").and_then(Kind::parse).or(kind), Some(event.kind));
    for (name, micros) in [("cost_micros", event.cost_micros), ("revenue_micros", event.revenue_micros)] {
        assert_eq!(text(name).map_or(Ok(0), str::parse), Ok(micros), "`{name}`");
    }
    for (name, kept) in event_limits::names(event) {
        assert_eq!(text(name), kept.map(String::as_str), "`{name}`");
    }
    if let Some(id) = text("event_id") {
        assert_eq!(id.parse().ok(), Some(event.id));
    }
    assert_eq!(event.user_hash.is_some(), text("user_id").is_some());
    assert!(event.ip_hash.is_some(), "the connection has an address");
    let mut segments = Vec::new();
    for (_, value) in pairs.iter().filter(|(name, _)| name == "segments") {
        for segment in value.split(',').filter(|segment| !segment.is_empty()) {
            if !segments.contains(&segment) {
                segments.push(segment);
            }
        }
    }
    assert_eq!(event.segments, segments);
    assert_eq!(event.purpose, (method == Method::HEAD).then_some(Purpose::Head));
    if text("props").is_none() {
        check_props(&pairs, kind, event);
    }
}

fn check_props(pairs: &[(String, String)], kind: Option<Kind>, event: &Event) {
    let is_destination = |name: &str| kind == Some(Kind::Click) && name == "to";
    let unknown = pairs.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str()) && !is_destination(name));
    let expected: Map<String, Value> =
        unknown.map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    let kept = event.props.as_deref().map_or(Ok(Map::new()), serde_json::from_str);
    assert_eq!(kept.ok(), Some(expected), "props");
}
