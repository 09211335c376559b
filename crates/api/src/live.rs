//! `GET /v1/live` (WebSocket) and `GET /v1/live/events` (server-sent events): the newest figures, to whoever looks. They are
//! computed and written as JSON once for all; each connection holds a place to read the newest from, so a slow one skips what
//! it missed and nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::openapi::Viewers;
use crate::{ApiError, Problem};

/// People who look at once. A frame is 25 KB at most, so that this many take 25 MB a second.
const CONNECTIONS_MAX: usize = 1_000;
/// A connection that does not take a frame within this is not looked at by anybody.
const SEND_TIME: Duration = Duration::from_secs(30);
/// What a viewer may send: nothing but what the protocol itself needs.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The figures as JSON; the same text for everybody.
pub type Frame = Utf8Bytes;

/// Who looks at the newest figures.
pub struct Live {
    frames: watch::Receiver<Frame>,
    places: Arc<Semaphore>,
    connections: Gauge,
    refused: Counter,
}

impl Live {
    pub fn new(frames: watch::Receiver<Frame>, registry: &mut Registry) -> Arc<Self> {
        let live = Self {
            frames,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            connections: Gauge::default(),
            refused: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("tally_live");
        registry.register("connections", "Connections that are pushed the newest figures", live.connections.clone());
        registry.register("refused", "Such connections refused, since there were too many", live.refused.clone());
        Arc::new(live)
    }

    pub fn is_watched(&self) -> bool {
        self.places.available_permits() < CONNECTIONS_MAX
    }

    fn viewer(&self) -> Result<Viewer, ApiError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused.inc();
            return Err(ApiError::TooManyViewers { max: CONNECTIONS_MAX });
        };
        let mut frames = self.frames.clone();
        // What was computed for the last viewer may be old; the next frame is due within a second.
        frames.mark_unchanged();
        self.connections.inc();
        Ok(Viewer { frames, connections: self.connections.clone(), _place: place })
    }
}

/// One connection's place.
struct Viewer {
    frames: watch::Receiver<Frame>,
    connections: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    /// The newest figures, once there are newer ones; none where the server stops.
    async fn next(&mut self) -> Option<Frame> {
        self.frames.changed().await.ok()?;
        Some(self.frames.borrow_and_update().clone())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

pub fn live_router(live: Arc<Live>) -> Router {
    Router::new().route("/v1/live", get(socket)).route("/v1/live/events", get(events)).with_state(live)
}

/// Live figures, by WebSocket
///
/// Each second, and after a commit, a JSON text with the figures of the last minute and the last five: the same as
/// `/v1/live/events` sends.
#[utoipa::path(
    get, path = "/v1/live", operation_id = "live", tag = "live",
    responses(
        (status = 101, description = "A WebSocket."),
        (status = 400, description = "It is no request for a WebSocket.", body = String, content_type = "text/plain"),
        (status = 403, description = "A page of another server asks: `other-origin`.", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "The connection cannot become a WebSocket.", body = String, content_type = "text/plain"),
        Viewers,
    ),
)]
pub(crate) async fn socket(
    State(live): State<Arc<Live>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    // Browsers let any page open a socket to any server, with its cookies; the rule of one origin is ours to keep.
    if !is_of_one_origin(&headers) {
        return Err(ApiError::OtherOrigin);
    }
    let viewer = live.viewer()?;
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(|socket| push(socket, viewer)))
}

async fn push(mut socket: WebSocket, mut viewer: Viewer) {
    loop {
        tokio::select! {
            frame = viewer.next() => {
                let message = frame.map_or_else(going_away, Message::Text);
                let is_last = matches!(message, Message::Close(_));
                let sent = tokio::time::timeout(SEND_TIME, socket.send(message)).await;
                if is_last || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            // Pings are answered by the library; all else says nothing to us.
            said = socket.recv() => match said {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

fn going_away() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::AWAY, reason: Utf8Bytes::from_static("the server stops") }))
}

/// Live figures, by server-sent events
///
/// Each second, and after a commit, the whole state as `data`. The answer does not end by itself.
#[utoipa::path(
    get, path = "/v1/live/events", operation_id = "liveEvents", tag = "live",
    responses((status = 200, description = "A stream of texts.", body = String, content_type = "text/event-stream"), Viewers),
)]
pub(crate) async fn events(State(live): State<Arc<Live>>) -> Result<Response, ApiError> {
    let frames = futures::stream::unfold(live.viewer()?, |mut viewer| async {
        let frame = viewer.next().await?;
        Some((Ok::<_, std::convert::Infallible>(format!("data: {frame}\n\n")), viewer))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// Whether it comes from a page of this server, or from no page at all. A proxy in front must pass `Host` on.
fn is_of_one_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some() && authority == headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

#[cfg(test)]
mod tests;
