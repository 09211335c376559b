//! What fuzzing claims, over the corpus that it gathered: see fuzz/README.md. The claims stand there once, for both.

#[path = "../../../fuzz/src/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/src/door.rs"]
mod door;
#[path = "../../../fuzz/src/event_json.rs"]
mod event_json;
#[path = "../../../fuzz/src/event_limits.rs"]
mod event_limits;
#[path = "../../../fuzz/src/query_string.rs"]
mod query_string;
#[path = "../../../fuzz/src/runtime.rs"]
mod runtime;

#[test]
fn whatever_is_posted_gets_its_answer_and_its_records() {
    corpus::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/event_json"), event_json::check);
}

#[test]
fn whatever_stands_in_a_query_gets_its_answer_and_its_record() {
    corpus::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/query_string"), query_string::check);
}
