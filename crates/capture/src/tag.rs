//! The script that pages load: served under a name that stays, and under one that says what it is, so that caches may keep it for
//! ever and pages can insist on its hash.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256, Sha384};

/// The newest first. A version that was released stays here, since pages name it by its hash.
const VERSIONS: [&str; 1] = [include_str!("tag/tag.js")];
/// Long enough for a page's visit, short enough for a mended tag to spread.
const NEWEST: &str = "public, max-age=3600";
/// A year, the longest that caches take seriously.
const FOREVER: &str = "public, max-age=31536000, immutable";
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A version of the script, as it is served.
pub(crate) struct Tag {
    /// `/tag-0123456789ab.js`: the beginning of its SHA-256.
    path: String,
    /// For `If-None-Match`.
    etag: String,
    /// For `integrity` (W3C Subresource Integrity).
    integrity: String,
    plain: Bytes,
    /// Made once, since the script is asked for with every page.
    gzip: Option<Bytes>,
}

static TAGS: LazyLock<Vec<Tag>> = LazyLock::new(|| VERSIONS.iter().map(|script| Tag::of(script)).collect());

impl Tag {
    fn of(script: &'static str) -> Self {
        let hash: String = Sha256::digest(script).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self {
            path: format!("/tag-{hash}.js"),
            etag: format!("\"{hash}\""),
            integrity: format!("sha384-{}", STANDARD.encode(Sha384::digest(script))),
            plain: Bytes::from_static(script.as_bytes()),
            gzip: gzip(script.as_bytes()).map(Bytes::from),
        }
    }

    fn answer(&self, headers: &HeaderMap, cache_control: &'static str) -> Response {
        let says = |name: HeaderName, token: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(token))
        };
        let common = [
            (header::CACHE_CONTROL, cache_control),
            (header::ETAG, &self.etag),
            (header::VARY, "accept-encoding"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (RESOURCE_POLICY, "cross-origin"),
        ];
        if says(header::IF_NONE_MATCH, &self.etag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let kind = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
        match &self.gzip {
            Some(gzip) if says(header::ACCEPT_ENCODING, "gzip") => {
                let encoding = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                (common, [kind], [encoding], gzip.clone()).into_response()
            }
            _ => (common, [kind], self.plain.clone()).into_response(),
        }
    }
}

/// None where it cannot be compressed, which then is no reason to serve nothing.
fn gzip(script: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut encoder, script).ok()?;
    encoder.finish().ok()
}

/// The script that pages load
///
/// Always the newest version, cached for an hour.
#[utoipa::path(
    get, path = "/tag.js", operation_id = "tag", tag = "capture",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"), (status = 304, description = "It is the one that `If-None-Match` names.")),
)]
pub(crate) fn newest(headers: &HeaderMap) -> Response {
    TAGS[0].answer(headers, NEWEST)
}

/// One version of the script
///
/// Cached for a year; `tally tag` prints the element with its address and `integrity`.
#[utoipa::path(
    get, path = "/tag-{version}.js", operation_id = "tagVersion", tag = "capture",
    params(("version" = String, Path, description = "The first twelve digits of its SHA-256.", example = "0123456789ab")),
    responses(
        (status = 200, description = "The script.", body = String, content_type = "text/javascript"),
        (status = 304, description = "It is the one that `If-None-Match` names."),
        (status = 404, description = "This server has no such version."),
    ),
)]
pub(crate) fn version(tag: &Tag, headers: &HeaderMap) -> Response {
    tag.answer(headers, FOREVER)
}

/// The version that is served at a path.
pub(crate) fn at(path: &str) -> Option<&'static Tag> {
    TAGS.iter().find(|tag| tag.path == path)
}

/// The element that loads the newest version from a server, and no other script that somebody puts in its place.
pub fn tag_element(server: &str) -> String {
    let Tag { path, integrity, .. } = &TAGS[0];
    let server = server.trim_end_matches('/');
    format!(r#"<script async src="{server}{path}" integrity="{integrity}" crossorigin="anonymous"></script>"#)
}
