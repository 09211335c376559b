//! What fuzzing claims, over the corpus that it gathered: see fuzz/README.md. The claims stand there once, for both.

#[path = "../../../fuzz/src/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/src/journal_frames/mod.rs"]
mod journal_frames;
#[path = "../../../fuzz/src/memory_storage.rs"]
mod memory_storage;

#[test]
fn whatever_stands_in_a_segment_is_genuine_or_refused() {
    corpus::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/journal_frames"), journal_frames::check);
}
