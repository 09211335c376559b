//! The endpoints: each takes a request apart, has the event checked, stamped and appended, and answers.
//! The answer depends on the request and the journal alone, never on what will be thought of the event.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tally_model::{EventId, Kind};
use utoipa::ToSchema;

use crate::Capture;
use crate::append::Records;
use crate::body::{self, BATCH_BYTES_DECOMPRESSED_MAX, BATCH_BYTES_MAX, EVENT_BYTES_MAX, Encoding, Share};
use crate::client::{Client, Sources};
use crate::error::{CaptureError, Fault, LineFault};
use crate::limits::Caller;
use crate::macros;
use crate::openapi::{self, BodyRefusals, InAddress, Refusals};
use crate::parse::{self, EventBuilder, FreshEvent, Items, Order, Stamp};
use crate::redirect::Link;
use crate::shed::kinds_in;

/// How long a person waits for our disk before going on. Longer is felt as a broken link.
const REDIRECT_WAIT: Duration = Duration::from_millis(250);
/// Errors of a batch that are listed; the rest are counted. More would be the same mistake again.
const ERRORS_LISTED_MAX: usize = 100;

/// A batch of this length is parsed in less time than another thread takes to wake up.
const PARSED_IN_PLACE_BYTES_MAX: usize = 16 << 10;

/// One transparent pixel.
const GIF: &[u8; 43] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

#[derive(Serialize, ToSchema)]
pub(crate) struct Taken {
    #[schema(value_type = uuid::Uuid)]
    pub event_id: EventId,
}

/// Takes one event
///
/// A JSON object, recognised as such whatever the content type says, or a form. 65,536 bytes; `Content-Encoding` may be `gzip` or
/// `zstd`. The answer leaves once the event is on disk, and says nothing about the verdict.
#[utoipa::path(
    post, path = "/v1/events", operation_id = "sendEvent", tag = "capture",
    request_body(content((openapi::Event = "application/json", example = json!({"kind": "click", "campaign_id": "spring", "ad_id": "a1", "user_id": "u1", "country": "DE", "cost_micros": 250_000, "currency": "EUR"})), (openapi::Event = "application/x-www-form-urlencoded"))),
    responses((status = 202, description = "It is on disk.", body = Taken), Refusals, BodyRefusals),
)]
pub(crate) async fn one(capture: Arc<Capture>, request: Request) -> Result<Response, CaptureError> {
    let client = capture.client(&request);
    capture.limits.request(&client)?;
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of(&parts.headers)?;
    let body = capture.read(&parts.headers, body, EVENT_BYTES_MAX, |_| Ok(())).await?;
    let (event_id, record) = capture.parse_one(&client, &parts.headers, encoding, body)?;
    drop(parts);
    capture.keep(record).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Taken { event_id })).into_response())
}

/// A batch read: the good events as records, and of the others the first errors.
struct Parsed {
    records: Records,
    errors: Vec<LineFault>,
    rejected: usize,
    /// Held until the records are in the journal: they take about as much memory as the text did.
    share: Share,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct BatchTaken {
    accepted: usize,
    rejected: usize,
    /// The first 100.
    errors: Vec<LineFault>,
    errors_omitted: usize,
}

/// Takes up to 100,000 events
///
/// JSON lines or an array; 16 MiB as sent, 128 MiB decompressed. A bad line never costs the good ones. After a 503, send all of
/// it again with the same ids.
#[utoipa::path(
    post, path = "/v1/events/batch", operation_id = "sendBatch", tag = "capture",
    request_body(content((Vec<openapi::Event> = "application/json", example = json!([{"kind": "impression", "campaign_id": "spring", "ad_id": "a1"}, {"kind": "click", "campaign_id": "spring", "ad_id": "a1"}])), (String = "application/x-ndjson"))),
    responses((status = 202, description = "All good events are on disk.", body = BatchTaken), Refusals, BodyRefusals),
)]
pub(crate) async fn batch(capture: Arc<Capture>, request: Request) -> Result<Response, CaptureError> {
    let client = capture.client(&request).of_batch();
    capture.limits.request(&client)?;
    let caller = request.extensions().get::<Caller>().copied();
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of(&parts.headers)?;
    let mut share = capture.budget.share();
    let body = capture.read(&parts.headers, body, BATCH_BYTES_MAX, |bytes| share.grow(bytes)).await?;
    let parsed = if encoding == Encoding::Identity && body.len() <= PARSED_IN_PLACE_BYTES_MAX {
        capture.parse_batch(&client, encoding, body, share)
    } else {
        // A large batch takes a second of work; on this thread, it would hold up every click that it serves.
        let parser = Arc::clone(&capture);
        let parsing = tokio::task::spawn_blocking(move || parser.parse_batch(&client, encoding, body, share));
        parsing.await.map_err(|_| CaptureError::Internal)?
    };
    let Parsed { records, errors, rejected, share } = parsed?;
    let (accepted, errors_omitted) = (records.count(), rejected - errors.len());
    if let Some(caller) = caller {
        capture.limits.batch(caller, accepted + rejected);
    }
    if accepted == 0 {
        return Err(CaptureError::NothingAccepted { rejected, errors, errors_omitted });
    }
    capture.keep(records).await?;
    drop(share);
    let taken = BatchTaken { accepted, rejected, errors, errors_omitted };
    Ok((StatusCode::ACCEPTED, axum::Json(taken)).into_response())
}

// HEAD gets the same answer: its event is kept too, marked with its purpose, so that a rule may think its part.
/// Takes a click and redirects
///
/// To where `to` says, if the link is signed or the host is on a list. It waits 250 ms for the disk, and no longer.
#[utoipa::path(
    get, path = "/v1/click", operation_id = "click", tag = "capture",
    params(
        ("to" = String, Query, description = "An absolute `http` or `https` URL of up to 8,000 bytes, with macros such as `{click_id}`.", example = "https://shop.example/sale?id={click_id}"),
        ("sig" = Option<String>, Query, description = "As `tally sign-link` made it: covers what stands in front of it."),
        InAddress,
    ),
    responses((status = 302, description = "There it is.", headers(("Location" = String, description = "The destination, with its macros filled in."))), Refusals),
)]
pub(crate) async fn click(capture: Arc<Capture>, request: Request) -> Result<Response, CaptureError> {
    let client = capture.client(&request);
    let query = request.uri().query().unwrap_or_default();
    let link = Link::of(query);
    let stamp = capture.stamp(&client, Some(Kind::Click));
    let mut event = capture.checked(event_from_pairs(link.fields(), &stamp))?;
    let destination = capture.checked(capture.redirects.destination(&link, &event))?;
    let location = macros::filled(destination, &event);
    let is_kept = capture.limits.click(&mut event, &client);
    // The one answer that may leave before the record is durable (invariant 1): the person is worth more than the click.
    let record = is_kept.then(|| capture.record(&event));
    drop(event);
    if let Some(record) = record
        && !matches!(tokio::time::timeout(REDIRECT_WAIT, capture.keep(record)).await, Ok(Ok(())))
    {
        capture.metrics.redirects_unrecorded.inc();
    }
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// Takes an impression
///
/// For pages without scripts. All parameters are event fields.
#[utoipa::path(
    get, path = "/v1/pixel.gif", operation_id = "pixel", tag = "capture",
    params(InAddress),
    responses((status = 200, description = "A transparent GIF of one pixel, once the event is on disk.", body = Vec<u8>, content_type = "image/gif"), Refusals),
)]
pub(crate) async fn pixel(capture: Arc<Capture>, request: Request) -> Result<Response, CaptureError> {
    let client = capture.client(&request);
    let query = request.uri().query().unwrap_or_default();
    capture.limits.request(&client)?;
    let stamp = capture.stamp(&client, Some(Kind::Impression));
    let mut event = capture.checked(event_from_pairs(parse::pairs(query), &stamp))?;
    capture.limits.single(&mut event, &client)?;
    let record = capture.record(&event);
    drop(event);
    capture.keep(record).await?;
    let headers = [(header::CONTENT_TYPE, "image/gif"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, GIF.as_slice()).into_response())
}

pub(crate) fn event_from_pairs<'a>(
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    stamp: &'a Stamp<'a>,
) -> Result<FreshEvent<'a>, Fault> {
    let mut builder = EventBuilder::new(stamp);
    parse::fill_from_form(&mut builder, pairs)?;
    builder.finish()
}

/// How one event is written in a body.
enum Form<'a> {
    Json,
    Pairs(&'a str),
}

impl<'a> Form<'a> {
    /// Beacons and `curl -d` name types that say little, so a text that begins as JSON is JSON whatever its type.
    fn of(headers: &HeaderMap, text: &'a [u8]) -> Result<Self, CaptureError> {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is = |name: &str| {
            content_type.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        if is("multipart/") {
            return Err(CaptureError::Media {
                what: "multipart forms are not taken".into(),
                cure: "send JSON, or `new URLSearchParams(form)`",
            });
        }
        if !is("application/x-www-form-urlencoded") || matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return Ok(Self::Json);
        }
        std::str::from_utf8(text).map(Self::Pairs).map_err(|_| {
            CaptureError::from(Fault::no_event("the form is not UTF-8", "percent-encode what is not ASCII"))
        })
    }
}

impl Capture {
    pub(crate) fn client(&self, request: &Request) -> Client {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(address)| address.ip());
        let geo = self.geo.held();
        let sources = Sources { proxies: &self.proxies, key: &self.key, geo: geo.as_deref() };
        let client = Client::of(peer, request.method(), request.headers(), &sources);
        if request.extensions().get::<Caller>().is_some() { client.with_key() } else { client }
    }

    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
        mut reserve: impl FnMut(usize) -> Result<(), CaptureError>,
    ) -> Result<Vec<u8>, CaptureError> {
        let counted = |bytes| {
            self.metrics.body_bytes.inc_by(bytes as u64);
            reserve(bytes)
        };
        body::read(headers, body, bytes_max, counted).await
    }

    /// Counts what was refused.
    pub(crate) fn checked<T>(&self, checked: Result<T, Fault>) -> Result<T, Fault> {
        checked.inspect_err(|fault| self.metrics.rejected(fault))
    }

    fn parse_one(
        &self,
        client: &Client,
        headers: &HeaderMap,
        encoding: Encoding,
        body: Vec<u8>,
    ) -> Result<(EventId, Records), CaptureError> {
        let text = body::decompress(encoding, body, EVENT_BYTES_MAX)?;
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
        let stamp = self.stamp(client, None);
        let event = match Form::of(headers, text)? {
            Form::Json => parse::event_from_json(text, &stamp, &mut Order::default()),
            Form::Pairs(encoded) => event_from_pairs(parse::pairs(encoded), &stamp),
        };
        let mut event = self.checked(event)?;
        self.limits.single(&mut event, client)?;
        Ok((event.id, self.record(&event)))
    }

    fn parse_batch(
        &self,
        client: &Client,
        encoding: Encoding,
        body: Vec<u8>,
        mut share: Share,
    ) -> Result<Parsed, CaptureError> {
        let pieces = |reserve: &mut dyn FnMut(usize) -> Result<(), CaptureError>,
                      each: &mut dyn FnMut(&[u8]) -> Result<(), CaptureError>| {
            body::each_piece(encoding, &body, BATCH_BYTES_DECOMPRESSED_MAX, reserve, each)
        };
        if self.shedding.is_on(self.journal.fullness()) {
            let mut kinds = [0; Kind::ALL.len()];
            pieces(&mut |_| Ok(()), &mut |piece| {
                kinds.iter_mut().zip(kinds_in(piece)).for_each(|(sum, events)| *sum += events);
                Ok(())
            })?;
            self.shed(kinds)?;
        }
        let stamp = self.stamp(client, None);
        let (mut records, mut errors, mut rejected) = (Records::default(), Vec::new(), 0);
        let mut order = Order::default();
        let mut take = |line, item: &[u8]| match parse::event_from_json(item, &stamp, &mut order) {
            Ok(mut event) => {
                self.limits.of_batch(&mut event, client);
                records.push(&event, self.journal.partitions());
            }
            Err(fault) => {
                self.metrics.rejected(&fault);
                rejected += 1;
                if errors.len() < ERRORS_LISTED_MAX {
                    errors.push(LineFault { line, fault });
                }
            }
        };
        let mut items = Items::default();
        // Nothing is kept before all of it was read: a body that is damaged at its end is refused as a whole.
        pieces(&mut |bytes| share.grow(bytes), &mut |piece| items.each(piece, &mut take))?;
        items.check_any()?;
        Ok(Parsed { records, errors, rejected, share })
    }
}
