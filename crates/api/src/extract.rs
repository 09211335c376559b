//! Request bodies as JSON, with errors of our own form.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::ApiError;

/// The longest question that makes sense.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// That at 200 kbit/s. A body that trickles holds a connection no longer.
const READ_TIME: Duration = Duration::from_secs(10);

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

pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8], place: &str) -> Result<T, ApiError> {
    serde_json::from_slice(json).map_err(|error| {
        let why = shortened(error.to_string());
        ApiError::Malformed(format!("{place} is not the expected JSON: {why}"))
    })
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
