//! What must hold for whatever bytes arrive, as one function a target. Without libFuzzer they are plain assertions, so the
//! crates that they are about run them too, over the corpus that is kept here: see `tests/corpus.rs` in each of them.
#![forbid(unsafe_code)]

pub mod corpus;
pub mod door;
pub mod event_json;
pub mod event_limits;
pub mod journal_frames;
pub mod memory_storage;
pub mod query_request;
pub mod query_string;
pub mod runtime;
