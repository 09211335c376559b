use std::fs;

use super::super::mix::Mix;
use super::super::table::SHARDS;
use super::super::tests::folder;
use super::*;

const RULES: Rules = Rules { ttl_s: 3_600, unit_s: 1, partitions: 4 };

fn keys(n: u128) -> Vec<(u128, u32)> {
    let mix = Mix::new(3);
    let mut keys: Vec<(u128, u32)> = (0..n).map(|n| (mix.key(n + 10), n as u32)).collect();
    keys.sort_unstable();
    keys
}

fn write(folder: &Path, ids: &[(u128, u32)]) -> Run {
    let mut writer = RunWriter::create(folder, RULES, 3, 100, 200).unwrap();
    for shard in 0..SHARDS {
        let from = ids.partition_point(|(key, _)| shard_of(*key) < shard);
        let upto = ids.partition_point(|(key, _)| shard_of(*key) <= shard);
        writer.put_shard(shard, &ids[from..upto]).unwrap();
    }
    writer.finish(Positions::from_offsets(vec![1, 2, 3, 4])).unwrap()
}

#[test]
fn a_run_finds_what_was_written_and_nothing_else_before_and_after_it_is_opened_again() {
    let folder = folder();
    for n in [1u128, 203, 204, 205, 300_000] {
        let ids = keys(n);
        let run = write(folder.path(), &ids);
        let reopened = Run::open(run.path()).unwrap();
        assert_eq!(reopened.head, run.head);
        for run in [&run, &reopened] {
            for (key, first_seen_s) in ids.iter().step_by(1 + n as usize / 1_000) {
                assert!(run.may_hold(*key), "a filter lost a key of {n}");
                assert_eq!(run.find(*key).unwrap(), Some(i64::from(*first_seen_s)));
                assert_eq!(run.find(key ^ 1).unwrap(), None);
                assert_eq!(run.find(key ^ (1 << 90)).unwrap(), None);
            }
            assert_eq!((run.find(0).unwrap(), run.find(u128::MAX).unwrap()), (None, None));
        }
    }
}

#[test]
fn keys_that_share_their_upper_half_are_all_found_across_blocks() {
    let folder = folder();
    let ids: Vec<(u128, u32)> = (0..1_000u32).map(|n| ((77 << 64) | u128::from(n), n)).collect();
    let run = write(folder.path(), &ids);
    for (key, first_seen_s) in ids {
        assert_eq!(run.find(key).unwrap(), Some(i64::from(first_seen_s)), "{key:x}");
    }
}

#[test]
fn memory_for_what_is_on_disk_is_about_1_2_bytes_an_id() {
    let folder = folder();
    let mut run = write(folder.path(), &keys(1_000_000));
    let bytes_per_id = run.bytes() as f64 / 1e6;
    assert!(bytes_per_id < 1.25, "{bytes_per_id}");
    run.unload();
    assert_eq!(run.bytes(), 0);
    run.load().unwrap();
    assert!(run.find(keys(1_000_000)[5].0).unwrap().is_some());
}

#[test]
fn damage_anywhere_is_an_error_and_never_another_answer() {
    let folder = folder();
    let ids = keys(1_000);
    let path = write(folder.path(), &ids).path().to_owned();
    let whole = fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(211) {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(Run::open(&path).is_err(), "cut at {cut}");
    }
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, bytes).unwrap();
        let Ok(run) = Run::open(&path) else { continue };
        for (key, first_seen_s) in &ids {
            match run.find(*key) {
                Ok(found) => assert_eq!(found, Some(i64::from(*first_seen_s)), "flipped at {at}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }
    }
}
