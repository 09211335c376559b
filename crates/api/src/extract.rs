//! Request bodies as JSON, and parameters of addresses, with errors of our own form: which field, what of it, and the cure.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tally_model::report::ReportError;

use crate::ApiError;

/// The longest question that makes sense.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// That at 200 kbit/s. A body that trickles holds a connection no longer.
const READ_TIME: Duration = Duration::from_secs(10);
/// Where to read what a field may hold.
const SEE: &str = "see /docs for what it takes";

/// A body as JSON.
pub struct Question<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Question<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let read = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
        let body = tokio::time::timeout(READ_TIME, read)
            .await
            .map_err(|_| ApiError::Slow { limit: READ_TIME })?
            .map_err(|_| ApiError::Malformed(format!("the body is over {BODY_BYTES_MAX} bytes, or broke off")))?;
        from_json(&body, "the body").map(Self)
    }
}

/// A question as JSON that stands in `place`.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8], place: &str) -> Result<T, ApiError> {
    let malformed = |error: &serde_json::Error| {
        ApiError::Malformed(format!("{place} is not the expected JSON: {}", shortened(error.to_string())))
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let asked = serde_path_to_error::deserialize(&mut json).map_err(|error| match error.inner().classify() {
        Category::Data => field_error(&error.path().to_string(), &error.inner().to_string()).into(),
        Category::Syntax | Category::Eof | Category::Io => malformed(error.inner()),
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(asked)
}

/// What stands behind the question mark of an address.
pub(crate) struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri).map(|Query(asked)| Self(asked)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            // The field stands in front, where one is known.
            let (path, what) = text.split_once(": ").unwrap_or((".", text));
            field_error(path, what).into()
        })
    }
}

/// What the parser says of a field, as we say it.
fn field_error(path: &str, said: &str) -> ReportError {
    // "at line 1 column 17" says nothing to who did not write the text by hand.
    let said = said.split(" at line ").next().unwrap_or(said);
    let quoted: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
    let field = shortened(path.to_owned());
    match quoted.split_first() {
        Some((name, known)) if said.starts_with("unknown ") => ReportError::unknown(field, name, known.to_vec()),
        Some((name, _)) if said.starts_with("missing field") => {
            let field = if path == "." { (*name).to_owned() } else { format!("{field}.{name}") };
            ReportError { field, what: "it is missing".to_owned(), cure: SEE.to_owned() }
        }
        _ => ReportError { field, what: shortened(said.to_owned()), cure: SEE.to_owned() },
    }
}

/// The parser quotes what it did not expect, which may be as long as the body; what it did expect stands at the end.
fn shortened(text: String) -> String {
    const EDGE_BYTES: usize = 300;
    if text.len() <= 2 * EDGE_BYTES {
        return text;
    }
    let start = &text[..text.floor_char_boundary(EDGE_BYTES)];
    let end = &text[text.ceil_char_boundary(text.len() - EDGE_BYTES)..];
    format!("{start} .. {end}")
}
