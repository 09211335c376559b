//! Who may do what. One layer in front of all endpoints: it looks at the path, at the API key if there is one, and at where the
//! request comes from, and either lets it through or answers itself.

mod keyring;
mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use futures::future::{Either, Ready, ready};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tally_capture::{Caller, Limits};
use tally_model::Clock;
use tower::Service;

use crate::keys::{Scope, Session, Token};
pub(crate) use keyring::{Keyring, keep_up};
pub(crate) use refusal::Refusal;

const API_KEY: &str = "x-api-key";
pub(crate) const SESSION_COOKIE: &str = "tally_session";
/// Headers that a proxy or a page in a browser adds: what has one comes from elsewhere, whatever its address is.
const FROM_ELSEWHERE: [&str; 4] = ["forwarded", "x-forwarded-for", "via", "origin"];

pub(crate) struct AccessParts {
    pub keyring: Arc<Keyring>,
    /// Whether what is not open to the public needs a key.
    pub is_required: bool,
    pub limits: Arc<Limits>,
    pub clock: Arc<dyn Clock>,
}

pub(crate) struct Access {
    parts: AccessParts,
    refused: Family<ReasonLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What an endpoint asks of whoever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing; a key is not looked at.
    Nothing,
    /// Nothing, but a key that is shown must be good for this: whoever shows one means to be known.
    NoKeyOr(Scope),
    Key(Scope),
}

/// Browsers cannot keep a secret, so what tags send is open. What is not listed can only be asked with a key: a new endpoint is
/// closed until somebody decides otherwise.
pub(crate) fn need_of(method: &Method, path: &str) -> Need {
    match path {
        // Asks before a page's request, and brings nothing.
        _ if method == Method::OPTIONS => Need::Nothing,
        "/healthz" | "/readyz" | "/v1/click" | "/v1/pixel.gif" => Need::Nothing,
        // The script that pages load, by its name and by its contents.
        _ if path == "/tag.js" || path.starts_with("/tag-") => Need::Nothing,
        // The dashboard's files hold no figures, and whoever signs in has no session yet.
        "/session" | "/openapi.json" => Need::Nothing,
        _ if tally_api::is_web(path) => Need::Nothing,
        "/v1/events" => Need::NoKeyOr(Scope::Ingest),
        // A network can put a token into the address and nothing else; the endpoint asks for it where there is no key.
        "/v1/postback" => Need::NoKeyOr(Scope::Ingest),
        "/v1/events/batch" => Need::Key(Scope::Ingest),
        _ if path.starts_with("/v1/admin/") => Need::Key(Scope::Admin),
        _ => Need::Key(Scope::Query),
    }
}

impl Access {
    pub fn new(parts: AccessParts, registry: &mut Registry) -> Self {
        let refused = Family::default();
        registry.register("refused", "Requests refused for want of a right", refused.clone());
        Self { parts, refused }
    }

    /// Lets a request through, with the key's name on it if it has one, or says why not.
    fn admit(&self, request: &mut Request) -> Result<(), Refusal> {
        let (scope, is_public) = match need_of(request.method(), request.uri().path()) {
            Need::Nothing => return Ok(()),
            Need::NoKeyOr(scope) => (scope, true),
            Need::Key(scope) => (scope, false),
        };
        let Some(shown) = key_shown(request.headers()) else {
            return match () {
                () if self.has_session(request.headers(), scope)? => Ok(()),
                () if is_public => Ok(()),
                () if self.parts.is_required => Err(Refusal::NoKey { scope }),
                () if scope == Scope::Admin => {
                    from_elsewhere(request).map_or(Ok(()), |whence| Err(Refusal::Elsewhere(whence)))
                }
                () => Ok(()),
            };
        };
        let token = Token::parse(shown).ok_or(Refusal::UnknownKey)?;
        let now_s = self.parts.clock.now_us().div_euclid(1_000_000);
        let caller = Caller { key_id: self.parts.keyring.check(&token, scope, now_s)?.0.into() };
        self.parts.limits.key(caller).map_err(Refusal::Limited)?;
        if scope == Scope::Ingest {
            request.extensions_mut().insert(caller);
        }
        Ok(())
    }

    /// A session opens the figures, and nothing that changes them: what a page may be tricked into is to ask.
    fn has_session(&self, headers: &HeaderMap, scope: Scope) -> Result<bool, Refusal> {
        if scope != Scope::Query || !self.parts.is_required {
            return Ok(false);
        }
        let Some(session) = session_shown(headers) else { return Ok(false) };
        let now_s = self.parts.clock.now_us().div_euclid(1_000_000);
        self.parts.keyring.check_session(&session, now_s)?;
        self.parts.limits.key(Caller { key_id: session.id.0.into() }).map_err(Refusal::Limited)?;
        Ok(true)
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.refused.get_or_create(&ReasonLabel { reason: refusal.reason() }).inc();
        refusal.into_response()
    }
}

/// A key of ours. Other credentials are the affair of a proxy in front.
fn key_shown(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.to_str().unwrap_or_default().trim());
    }
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    (scheme.eq_ignore_ascii_case("bearer") && credentials.starts_with("tally_")).then_some(credentials)
}

/// What a browser sends along by itself after it signed in.
pub(crate) fn session_shown(headers: &HeaderMap) -> Option<Session> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| if name == SESSION_COOKIE { Session::parse(value) } else { None })
}

fn from_elsewhere(request: &Request) -> Option<&'static str> {
    let is_from_here = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    if !is_from_here {
        return Some("from the network");
    }
    let headers = request.headers();
    FROM_ELSEWHERE.iter().any(|name| headers.contains_key(*name)).then_some("through a proxy or from a page")
}

/// Endpoints with [`Access`] in front of them. Written out, since a middleware function would box a future for each request.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Guarded<S> {
    pub fn new(access: Arc<Access>, inner: S) -> Self {
        Self { access, inner }
    }
}

impl<S: Service<Request, Response = Response>> Service<Request> for Guarded<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match self.access.admit(&mut request) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(refusal) => Either::Left(ready(Ok(self.access.refuse(refusal)))),
        }
    }
}

#[cfg(test)]
mod tests;
