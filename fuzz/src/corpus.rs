//! The corpus without a fuzzer: for the tests of the crates, so that what was found once stays mended.

use std::fs;
use std::panic::catch_unwind;

/// Holds a target's claims against each file of its folder. The panic before the last one tells what does not hold.
pub fn replay(folder: &str, check: fn(&[u8])) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{folder} has {} files, which shows nothing", files.len());
    let mut failed = Vec::new();
    for file in files {
        let input = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if catch_unwind(|| check(&input)).is_err() {
            failed.push(file);
        }
    }
    assert!(failed.is_empty(), "what is claimed above does not hold for {failed:?}");
}
