//! Which endpoint a request goes to: one match on its path, in front of all else that is served. A router would box and clone its way
//! to each handler, and most of what a server is asked comes this way.

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use futures::future::Either;
use tower::Service;

use crate::Capture;
use crate::error::CaptureError;
use crate::http::{batch, click, one, pixel};
use crate::postback::postback;
use crate::tag::{self, Tag};

/// The ingest endpoints, and behind them all others. Serve it with the peer's address (`ConnectInfo<SocketAddr>`); without, it is
/// taken for loopback.
#[derive(Debug, Clone)]
pub struct Front {
    capture: Arc<Capture>,
    others: Router,
}

impl Front {
    pub fn new(capture: Arc<Capture>) -> Self {
        Self { capture, others: Router::new() }
    }

    pub fn before(self, others: Router) -> Self {
        Self { others, ..self }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Answered, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match Endpoint::of(request.uri().path()) {
            Some(endpoint) => Either::Left(endpoint.answer(self.capture.clone(), request)),
            None => Either::Right(self.others.call(request)),
        }
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    Events,
    Batch,
    Click,
    Pixel,
    Postback,
    NewestTag,
    Tag(&'static Tag),
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/events" => Self::Events,
            "/v1/events/batch" => Self::Batch,
            "/v1/click" => Self::Click,
            "/v1/pixel.gif" => Self::Pixel,
            "/v1/postback" => Self::Postback,
            "/tag.js" => Self::NewestTag,
            _ => Self::Tag(tag::at(path)?),
        })
    }

    /// As metrics have it.
    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Batch => "batch",
            Self::Click => "click",
            Self::Pixel => "pixel",
            Self::Postback => "postback",
            Self::NewestTag | Self::Tag(_) => "tag",
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Events | Self::Batch => "POST,OPTIONS",
            Self::Postback => "GET,POST,OPTIONS",
            Self::Click | Self::Pixel | Self::NewestTag | Self::Tag(_) => "GET,HEAD,OPTIONS",
        }
    }

    fn answer(self, capture: Arc<Capture>, request: Request) -> Answered {
        let (shared, is_head) = (capture.clone(), request.method() == Method::HEAD);
        let answer: Answer = match (self, request.method().as_str()) {
            (_, "OPTIONS") => Box::pin(ready(preflight())),
            (Self::Events, "POST") => Box::pin(one(capture, request)),
            (Self::Batch, "POST") => Box::pin(batch(capture, request)),
            (Self::Click, "GET" | "HEAD") => Box::pin(click(capture, request)),
            (Self::Pixel, "GET" | "HEAD") => Box::pin(pixel(capture, request)),
            (Self::Postback, "GET" | "POST") => Box::pin(postback(capture, request)),
            (Self::NewestTag, "GET" | "HEAD") => Box::pin(ready(Ok(tag::newest(request.headers())))),
            (Self::Tag(tag), "GET" | "HEAD") => Box::pin(ready(Ok(tag::version(tag, request.headers())))),
            _ => Box::pin(ready(Err(CaptureError::Method))),
        };
        Answered { endpoint: self, capture: shared, is_head, answer }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, CaptureError>> + Send>>;

/// What all endpoints share: any page may call them, wrong methods get a problem, and every answer is counted. A future by hand,
/// since one that awaits another holds it twice.
pub struct Answered {
    endpoint: Endpoint,
    capture: Arc<Capture>,
    is_head: bool,
    answer: Answer,
}

impl Future for Answered {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.answer.as_mut().poll(context));
        Poll::Ready(Ok(self.finished(answer.into_response())))
    }
}

impl Answered {
    fn finished(&self, mut response: Response) -> Response {
        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static(self.endpoint.methods()));
        }
        if self.is_head {
            without_body(&mut response);
        }
        self.capture.metrics.answered(self.endpoint.name(), status.as_u16());
        response
    }
}

/// As HEAD asks: the same headers.
fn without_body(response: &mut Response) {
    if let Some(bytes) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    }
    *response.body_mut() = Body::empty();
}

fn preflight() -> Result<Response, CaptureError> {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, content-encoding"),
        // A day; browsers cut it to what they allow.
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}
