//! Resources that run out, and come back: senders are told to retry, reports go on, and then everything resumes by itself with
//! nothing lost and nothing counted twice.

mod descriptors;
mod disk;
mod memory;

use serde_json::Value;

use crate::server::{click, ndjson};

/// A thousand clicks that take about a megabyte in the journal; each number has its own.
fn batch(number: u128) -> String {
    let referrer = "r".repeat(1_000);
    let mut events: Vec<Value> = (0..1_000).map(|n| click(number * 1_000 + n, "c")).collect();
    events.iter_mut().for_each(|event| event["referrer"] = referrer.as_str().into());
    ndjson(&events)
}
