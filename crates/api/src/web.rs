//! The dashboard's files. What is in `web/` is what is served, without a build step: embedded, so that the binary needs nothing
//! beside it. Their paths hold a hash of all of them, so that browsers keep them for a year and never mix two versions.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Where each page is, so that every view has an address that can be shared. One document serves them all; `app.js` knows which.
const PAGES: [&str; 12] = [
    "/",
    "/campaigns",
    "/compare",
    "/funnel",
    "/heatmap",
    "/geography",
    "/quality",
    "/forecast",
    "/event",
    "/system",
    "/docs",
    "/sign-in",
];
const ASSETS_PATH: &str = "/assets/";
/// In the document, where its files are.
const ASSETS_MARK: &str = "/assets/HASH/";

const DOCUMENT: &str = include_str!("../web/index.html");
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const MANIFEST: &str = "application/manifest+json";

macro_rules! assets {
    ($($kind:ident $name:literal),* $(,)?) => {
        [$(Source { name: $name, kind: $kind, text: include_str!(concat!("../web/", $name)) }),*]
    };
}

struct Source {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const SOURCES: [Source; 26] = assets![
    SCRIPT "api.js",
    SCRIPT "app.js",
    SCRIPT "charts.js",
    SCRIPT "dom.js",
    SCRIPT "figures.js",
    SCRIPT "format.js",
    PICTURE "icon.svg",
    SCRIPT "live.js",
    MANIFEST "manifest.json",
    SCRIPT "pages/campaigns.js",
    SCRIPT "pages/compare.js",
    SCRIPT "pages/docs.js",
    SCRIPT "pages/event.js",
    SCRIPT "pages/forecast.js",
    SCRIPT "pages/funnel.js",
    SCRIPT "pages/geography.js",
    SCRIPT "pages/heatmap.js",
    SCRIPT "pages/overview.js",
    SCRIPT "pages/quality.js",
    SCRIPT "pages/signin.js",
    SCRIPT "pages/system.js",
    SCRIPT "range.js",
    STYLE "style.css",
    SCRIPT "theme.js",
    SCRIPT "vendor/uPlot.iife.min.js",
    STYLE "vendor/uPlot.min.css",
];

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// A year, the longest that caches take seriously.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// The document names the files of its version: asked for anew each time, and it is small.
const ANEW: &str = "no-cache";

/// What is sent, made once.
struct File {
    path: String,
    kind: &'static str,
    plain: Bytes,
    /// None where it cannot be compressed, which is no reason to serve nothing.
    gzip: Option<Bytes>,
}

impl File {
    fn new(path: String, kind: &'static str, text: Bytes) -> Self {
        Self { path, kind, gzip: gzip(&text).map(Bytes::from), plain: text }
    }

    fn answer(&self, headers: &HeaderMap, cache_control: &'static str) -> Response {
        let common = [
            (header::CONTENT_TYPE, self.kind),
            (header::CACHE_CONTROL, cache_control),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // Addresses of views hold ids of campaigns and events.
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        let takes = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        match &self.gzip {
            Some(gzip) if takes.is_some_and(|takes| takes.contains("gzip")) => {
                (common, [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))], gzip.clone()).into_response()
            }
            _ => (common, self.plain.clone()).into_response(),
        }
    }
}

struct Site {
    document: File,
    assets: Vec<File>,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    SOURCES.iter().for_each(|source| digest.update(source.text));
    let hash: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let folder = format!("{ASSETS_PATH}{hash}/");
    let asset = |source: &Source| {
        let path = format!("{folder}{}", source.name);
        File::new(path, source.kind, Bytes::from_static(source.text.as_bytes()))
    };
    let document = DOCUMENT.replace(ASSETS_MARK, &folder);
    Site {
        document: File::new(String::new(), "text/html; charset=utf-8", document.into()),
        assets: SOURCES.iter().map(asset).collect(),
    }
});

/// Whether the path is the dashboard's, which holds no figures and is open to everybody.
pub fn is_web(path: &str) -> bool {
    PAGES.contains(&path) || path.starts_with(ASSETS_PATH)
}

pub fn web_router() -> Router {
    let page = async |headers: HeaderMap| SITE.document.answer(&headers, ANEW);
    let pages = PAGES.into_iter().fold(Router::new(), |router, path| router.route(path, get(page)));
    SITE.assets.iter().fold(pages, |router, file| {
        router.route(&file.path, get(move |headers: HeaderMap| async move { file.answer(&headers, FOREVER) }))
    })
}

fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut encoder, text).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests;
