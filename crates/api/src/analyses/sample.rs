//! `POST /v1/analyses/sample`: raw events, drawn uniformly.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_model::analysis::{About, Sample};
use tally_model::report::FilterRequest;
use tally_model::{Entropy, SystemEntropy};

use super::{asked, meta_of, within};
use crate::extract::Question;
use crate::openapi::{Problems, SampleShown};
use crate::turns::Work;
use crate::{Api, ApiError};
use utoipa::ToSchema;

const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = 10_000;
/// Up to here every reader of JSON has the same whole numbers.
const SEED_MAX: u64 = (1 << 53) - 1;

asked!(SampleRequest {
    /// Events; by default 100.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    size: Option<usize>,
    /// The same seed draws the same events, as long as no more match. By default a new one.
    #[serde(default)]
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    seed: Option<u64>,
});

/// Sample of raw events
///
/// Events drawn uniformly, of every verdict, without any hash of a person.
#[utoipa::path(
    post, path = "/v1/analyses/sample", operation_id = "sample", tag = "analyses",
    request_body(content = SampleRequest, example = json!({"from": "2026-03-01T00:00:00Z", "to": "2026-03-08T00:00:00Z", "size": 10})),
    responses((status = 200, description = "The answer.", body = SampleShown), Problems),
)]
pub(crate) async fn sample(
    State(api): State<Arc<Api>>,
    Question(asked): Question<SampleRequest>,
) -> Result<Json<Value>, ApiError> {
    let (started, freshness) = (Instant::now(), api.query.freshness());
    // Nobody can know beforehand which events are drawn.
    let seed = asked.seed.unwrap_or_else(|| SystemEntropy.bits() as u64 & SEED_MAX);
    let question = Sample {
        about: asked.about().report(&["clicks".to_owned()], &[])?,
        size: within("size", asked.size.unwrap_or(SIZE_DEFAULT), 1, SIZE_MAX)?,
        seed: within("seed", seed, 0, SEED_MAX)?,
    };
    let answer = api.run(Work::Heavy, api.query.sample(&question)).await?;
    let meta = meta_of("events", answer.table_version, freshness, started);
    Ok(Json(json!({"rows": answer.rows, "matching": answer.matching, "seed": seed, "meta": meta})))
}
