//! One connection from its first byte to its last: requests go to the routes, with the peer's address, until the peer closes,
//! its time is over, or we are told to close.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tower::Service;
use tracing::debug;

use super::activity::{Activity, HEAD_TIME};
use super::connections::Connected;
use super::metrics::DoorMetrics;
use super::stream::Stream;
use super::tls::Tls;

/// A request's head, and with it the buffer of a connection. nginx takes 32 KiB of headers; a destination may be long.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of an HTTP/2 request, decompressed.
const HTTP2_HEAD_BYTES_MAX: u32 = HEAD_BYTES_MAX as u32;
/// Requests at once in one HTTP/2 connection. Each may hold a batch, so that is what bounds a peer that has one connection.
const HTTP2_STREAMS_MAX: u32 = 128;
/// What an HTTP/2 peer may send ahead of our reading: in one request, and in all of a connection.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// When we close, a request that is on its way gets here within this, and is answered. To close at once would answer it with a
/// reset.
const LAST_REQUEST_TIME: Duration = Duration::from_millis(300);

/// What answers the requests of all connections.
pub(crate) trait Endpoints:
    Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<E> Endpoints for E where
    E: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

/// What all connections have in common.
#[derive(Clone)]
pub(super) struct Exchange<E> {
    http: Arc<auto::Builder<TokioExecutor>>,
    endpoints: E,
    idle: Duration,
    tls: Option<Arc<Tls>>,
    metrics: DoorMetrics,
}

impl<E: Endpoints> Exchange<E> {
    pub fn new(endpoints: E, idle: Duration, tls: Option<Arc<Tls>>, metrics: &DoorMetrics) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().max_buf_size(HEAD_BYTES_MAX).timer(TokioTimer::new()).header_read_timeout(None);
        http.http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HTTP2_HEAD_BYTES_MAX)
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES);
        Self { http: Arc::new(http), endpoints, idle, tls, metrics: metrics.clone() }
    }

    pub async fn run(self, tcp: TcpStream, peer: SocketAddr, connected: Connected, mut closing: watch::Receiver<bool>) {
        let activity = Activity::new();
        // An answer is written whole: to wait for more to send along would only delay it.
        let _ = tcp.set_nodelay(true);
        let stream = match &self.tls {
            None => Stream::new(tcp, Arc::clone(&activity), connected),
            Some(tls) => match timeout(HEAD_TIME, tls.acceptor().accept(tcp)).await {
                Ok(Ok(tls)) => Stream::new(tls, Arc::clone(&activity), connected),
                Ok(Err(error)) => {
                    self.metrics.tls_handshakes_failed.inc();
                    debug!(%peer, %error, "no TLS came about");
                    return;
                }
                Err(_) => {
                    self.metrics.connections_timed_out.inc();
                    return;
                }
            },
        };
        let service = service_fn(|mut request: Request<Incoming>| {
            let in_hand = activity.request();
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = self.endpoints.clone().call(request.map(Body::new));
            async move {
                let answer = answer.await;
                drop(in_hand);
                answer
            }
        });
        let mut connection = pin!(self.http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut look_again = pin!(sleep_until(Instant::now() + HEAD_TIME));
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return note(peer, ended),
                () = &mut look_again => {
                    let now = Instant::now();
                    let closes_at = activity.closes_at(now, self.idle);
                    if closes_at <= now {
                        self.metrics.connections_timed_out.inc();
                        return;
                    }
                    look_again.as_mut().reset(closes_at);
                }
                _ = closing.wait_for(|closing| *closing) => break,
            }
        }
        let before = activity.requests_begun();
        let answering = || activity.is_answering() || activity.requests_begun() > before;
        let next_request = poll_fn(|_| if answering() { Poll::Ready(()) } else { Poll::Pending });
        tokio::select! {
            biased;
            ended = connection.as_mut() => return note(peer, ended),
            // Looked at after the connection, which is what changes it.
            _ = timeout(LAST_REQUEST_TIME, next_request) => {}
        }
        connection.as_mut().graceful_shutdown();
        note(peer, connection.await);
    }
}

/// What goes wrong with one connection is the peer's affair, or the network's.
fn note(peer: SocketAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke off");
    }
}
