//! What fuzzing claims, over the corpus that it gathered: see fuzz/README.md. The claims stand there once, for both.

#[path = "../../../fuzz/src/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/src/query_request.rs"]
mod query_request;
#[path = "../../../fuzz/src/runtime.rs"]
mod runtime;

#[test]
fn whatever_is_asked_is_answered_or_told_what_is_wrong() {
    corpus::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/query_request"), query_request::check);
}
