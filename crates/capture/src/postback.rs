//! `/v1/postback`: a conversion that a server tells us of, such as an affiliate network or a shop, and what becomes of it later.
//!
//! Each word about a transaction is an event of its own, whose id follows from what it says: a repeat is a copy by the ordinary
//! rule, and a change of status is not. Which word is the last is found out when reports are made; nothing is changed here.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use tally_model::{ConversionStatus, Kind};

use crate::Capture;
use crate::body::{self, EVENT_BYTES_MAX, Encoding};
use crate::client::Client;
use crate::error::{CaptureError, Fault};
use crate::http::{Taken, event_from_pairs};
use crate::limits::Caller;
use crate::openapi::{BodyRefusals, EventProblem, InAddress, Refusals};
use crate::parse::{self, FreshEvent, ID_BYTES_MAX};

const TXN_ID: &str = "txn_id";
const AMOUNT: &str = "amount";
const STATUS: &str = "status";
const CLICK_ID: &str = "click_id";
/// Digits behind the point that millionths have.
const DECIMALS: usize = 6;

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

// 200 rather than 202: networks look for nothing else.
/// Takes a conversion from a network or a shop
///
/// By GET or POST, as a query, a form or a flat JSON object, or two of them. A repeat is a duplicate; another `status` is another
/// word about the same transaction.
#[utoipa::path(
    method(get, post), path = "/v1/postback", operation_id = "postback", tag = "capture",
    params(
        ("token" = Option<String>, Query, description = "As `tally postback-url` made it; or an API key with the scope `ingest`."),
        ("txn_id" = Option<String>, Query, description = "Required, here or in the body: the network's own number of the transaction."),
        ("amount" = Option<String>, Query, description = "In units of `currency`, such as `12.50`; or `revenue_micros`."),
        ("status" = Option<ConversionStatus>, Query, description = "`approved` by default."),
        InAddress,
    ),
    responses(
        (status = 200, description = "It is on disk.", body = Taken),
        (status = 403, description = "It does not say who sends it: `token`.", body = EventProblem, content_type = "application/problem+json"),
        Refusals, BodyRefusals,
    ),
)]
pub(crate) async fn postback(capture: Arc<Capture>, request: Request) -> Result<Response, CaptureError> {
    capture.limits.request(&capture.client(&request))?;
    let has_key = request.extensions().get::<Caller>().is_some();
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of(&parts.headers)?;
    let body = capture.read(&parts.headers, body, EVENT_BYTES_MAX, |_| Ok(())).await?;
    let body = body::decompress(encoding, body, EVENT_BYTES_MAX)?;
    let query = parse::pairs(parts.uri.query().unwrap_or_default());
    let said = Said::of(query.chain(in_body(&parts.headers, &body)?));
    if !has_key && !capture.lets_in(&said) {
        return Err(CaptureError::NoToken);
    }
    let event = capture.checked(capture.event_of(said))?;
    capture.keep(capture.record(&event)).await?;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, axum::Json(Taken { event_id: event.id })).into_response())
}

/// A postback taken apart: what is its own, and the fields of the event.
#[derive(Default)]
struct Said<'a> {
    token: Option<Cow<'a, str>>,
    txn_id: Option<Cow<'a, str>>,
    amount: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    fields: Vec<Pair<'a>>,
}

impl<'a> Said<'a> {
    fn of(pairs: impl Iterator<Item = Pair<'a>>) -> Self {
        let mut said = Self::default();
        for (name, value) in pairs {
            match name.as_ref() {
                "token" => said.token = Some(value),
                TXN_ID => said.txn_id = Some(value),
                AMOUNT => said.amount = Some(value),
                STATUS => said.status = Some(value),
                // Both follow from what it is.
                "kind" | "event_id" => {}
                _ => said.fields.push((name, value)),
            }
        }
        said
    }

    /// Of a field that is given twice the last value stays, as everywhere.
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }
}

impl Capture {
    fn lets_in(&self, said: &Said<'_>) -> bool {
        let Some(token) = &said.token else { return false };
        let campaign_id = said.field("campaign_id").unwrap_or_default();
        self.redirects.keys.held().is_some_and(|keys| keys.lets_in(token, campaign_id))
    }

    fn event_of(&self, mut said: Said<'_>) -> Result<FreshEvent<'static>, Fault> {
        const HOW: &str = "let the network fill in its macro for it, as the address of `tally postback-url` shows";
        if said.field(CLICK_ID).is_none() {
            return Err(Fault::new(CLICK_ID, "is missing", HOW));
        }
        let txn_id = said.txn_id.take().ok_or_else(|| Fault::new(TXN_ID, "is missing", HOW))?.into_owned();
        for (name, value) in [(TXN_ID, Some(txn_id.as_str())), (CLICK_ID, said.field(CLICK_ID))] {
            // Every transaction would have this one id, and all but the first would be copies.
            if value.is_some_and(is_macro) {
                return Err(Fault::new(name, "is a macro that nobody filled in", HOW));
            }
        }
        if txn_id.len() > ID_BYTES_MAX || txn_id.contains(char::REPLACEMENT_CHARACTER) {
            let what = format!("has {} bytes, or is not UTF-8", txn_id.len());
            return Err(Fault::new(TXN_ID, what, format!("give UTF-8 text of at most {ID_BYTES_MAX} bytes")));
        }
        let status = match said.status.as_deref() {
            None => ConversionStatus::Approved,
            Some(status) => ConversionStatus::parse(status).ok_or_else(|| {
                Fault::new(STATUS, "is not a status", "give `approved`, `pending` or `rejected`, or leave it out")
            })?,
        };
        if let Some(amount) = &said.amount {
            if said.field("revenue_micros").is_some() {
                let cure = "give one of the two, which are the same amount";
                return Err(Fault::new(AMOUNT, "stands beside `revenue_micros`", cure));
            }
            let micros = micros(amount).ok_or_else(|| {
                let cure = "give units of the currency with a point, such as 12.50, and up to six digits behind it";
                Fault::new(AMOUNT, "is not an amount", cure)
            })?;
            said.fields.push(("revenue_micros".into(), micros.to_string().into()));
        }
        // The connection is a server's and tells nothing of the visitor; what the server says of one is believed.
        let client = Client::default().with_key();
        let stamp = self.stamp(&client, Some(Kind::Conversion));
        let event = event_from_pairs(said.fields.into_iter(), &stamp)?;
        let mut event: FreshEvent<'static> = event.map(|text| Cow::Owned(text.clone().into_owned()));
        let scope = match event.campaign_id.as_ref() {
            "" => event.click_id.as_deref().unwrap_or_default(),
            campaign_id => campaign_id,
        };
        event.id = self.key.postback(scope, &txn_id, status);
        event.txn_id = Some(txn_id.into());
        event.status = Some(status);
        Ok(event)
    }
}

/// What the body says, as pairs; none where there is no body.
fn in_body<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<impl Iterator<Item = Pair<'a>> + use<'a>, Fault> {
    const CURE: &str = "send a form, or one flat JSON object";
    let text = std::str::from_utf8(body).map_err(|_| Fault::no_event("the body is not UTF-8", CURE))?.trim();
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let is_json = text.starts_with('{') || content_type.starts_with(b"application/json");
    let (object, form) = match is_json && !text.is_empty() {
        true => {
            let object = serde_json::from_str::<Map<String, Value>>(text);
            (object.map_err(|error| Fault::no_event(format!("the body is no JSON object: {error}"), CURE))?, "")
        }
        false => (Map::new(), text),
    };
    let values = object.into_iter().filter_map(|(name, value)| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text,
            other => other.to_string(),
        };
        (!text.is_empty()).then_some((Cow::Owned(name), Cow::Owned(text)))
    });
    Ok(values.chain(parse::pairs(form)))
}

/// The spellings that networks have for what they fill in: `{x}`, `{{x}}`, `${x}`, `[x]`, `%%x%%`, `#x#`.
fn is_macro(value: &str) -> bool {
    [("{", "}"), ("${", "}"), ("[", "]"), ("%%", "%%"), ("#", "#")]
        .into_iter()
        .any(|(opening, closing)| value.len() > opening.len() && value.starts_with(opening) && value.ends_with(closing))
}

/// An amount in units as millionths; no float on the way. Nobody pays less than nothing: what is taken back is `rejected`.
fn micros(amount: &str) -> Option<i64> {
    let (units, decimals) = amount.split_once('.').unwrap_or((amount, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if units.is_empty() || !is_number(units) || !is_number(decimals) || decimals.len() > DECIMALS {
        return None;
    }
    let units: i64 = units.parse().ok()?;
    let decimals: i64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
    units.checked_mul(1_000_000)?.checked_add(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_becomes_millionths_to_the_last_digit() {
        for (amount, expected) in [
            ("12", Some(12_000_000)),
            ("12.5", Some(12_500_000)),
            ("0.000001", Some(1)),
            ("12.", Some(12_000_000)),
            ("0", Some(0)),
            ("9223372036855", None),
            ("0.0000001", None),
            ("-1", None),
            ("1,50", None),
            ("1e3", None),
            (".5", None),
            ("", None),
        ] {
            assert_eq!(micros(amount), expected, "{amount:?}");
        }
    }

    #[test]
    fn a_macro_that_nobody_filled_in_is_known_in_each_spelling() {
        for value in ["{txn_id}", "{{txn}}", "${TXN}", "[TXN]", "%%TXN%%", "#order#"] {
            assert!(is_macro(value), "{value} was taken for a value");
        }
        for value in ["4711", "{", "#", "order-{", "a[1]", ""] {
            assert!(!is_macro(value), "{value} was taken for a macro");
        }
    }
}
