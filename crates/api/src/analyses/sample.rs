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
use crate::{Api, ApiError};

const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = 10_000;
/// Up to here every reader of JSON has the same whole numbers.
const SEED_MAX: u64 = (1 << 53) - 1;

asked!(SampleRequest {
    #[serde(default)]
    size: Option<usize>,
    #[serde(default)]
    seed: Option<u64>,
});

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
    let answer = api.run(api.query.sample(&question)).await?;
    let meta = meta_of("events", answer.table_version, freshness, started);
    Ok(Json(json!({"rows": answer.rows, "matching": answer.matching, "seed": seed, "meta": meta})))
}
