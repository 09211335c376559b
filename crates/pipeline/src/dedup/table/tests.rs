use super::super::mix::Mix;
use super::*;

fn key(n: u128) -> u128 {
    Mix::new(5).key(n)
}

#[test]
fn every_key_is_found_with_its_code_and_no_other_is() {
    let mut table = Table::new();
    for n in 0..200_000u32 {
        assert_eq!(table.find(key(n.into())), None, "{n} before it came");
        table.insert(key(n.into()), n % CODE_MAX + 1);
    }
    for n in 0..200_000u32 {
        assert_eq!(table.find(key(n.into())), Some(n % CODE_MAX + 1), "{n}");
    }
    assert_eq!(table.len(), 200_000);
}

#[test]
fn keys_that_differ_in_one_bit_only_are_told_apart() {
    // All bits, also those that are not stored: the shard's, and the ones that choose the buckets.
    let mut table = Table::new();
    let base = key(1);
    table.insert(base, 9);
    for bit in 0..128 {
        assert_eq!(table.find(base ^ (1 << bit)), None, "bit {bit}");
    }
    for bit in 0..128 {
        table.insert(base ^ (1 << bit), bit + 1);
    }
    for bit in 0..128 {
        assert_eq!(table.find(base ^ (1 << bit)), Some(bit + 1), "bit {bit}");
    }
    assert_eq!(table.find(base), Some(9));
}

/// One shard, as full as a hundred million keys make it.
fn crowded(keys: u128) -> (Table, Vec<u128>) {
    let keys: Vec<u128> = (0..keys).map(|n| (3 << (128 - SHARD_BITS)) | (key(n) >> SHARD_BITS)).collect();
    let mut table = Table::new();
    keys.iter().for_each(|key| table.insert(*key, 1));
    (table, keys)
}

#[test]
fn a_crowded_shard_takes_less_than_twenty_bytes_a_key() {
    let directory = Table::new().bytes();
    for n in [1_800, 10_000, 98_000, 400_000] {
        let (table, keys) = crowded(n);
        assert!(keys.iter().all(|key| table.find(*key) == Some(1)), "a key of {n} was lost");
        let bytes_per_key = (table.bytes() - directory) as f64 / n as f64;
        assert!(bytes_per_key < 20.0, "{bytes_per_key} bytes a key at {n} keys");
    }
}

#[test]
fn the_dead_leave_when_swept_and_their_room_is_used_again() {
    let (mut table, keys) = crowded(10_000);
    let full = table.bytes();
    table.sweep(3, |code, _| code == 1);
    assert_eq!((table.len(), table.find(keys[0]), table.bytes()), (0, None, Table::new().bytes()));
    keys.iter().for_each(|key| table.insert(*key, 1));
    keys[..2_000].iter().for_each(|key| table.replace(*key, 2));
    table.sweep(3, |code, _| code == 2);
    for n in 20_000..22_000u128 {
        table.insert((3 << (128 - SHARD_BITS)) | (key(n) >> SHARD_BITS), 3);
    }
    assert_eq!((table.len(), table.bytes()), (10_000, full), "it grew although others had left");
}

#[test]
fn a_replaced_code_is_found() {
    let (mut table, keys) = crowded(3_800);
    table.replace(keys[17], 5);
    assert_eq!((table.find(keys[17]), table.find(keys[18]), table.len()), (Some(5), Some(1), 3_800));
}

#[test]
fn a_shard_that_loses_most_keys_gives_memory_back_and_keeps_the_rest() {
    let (mut table, keys) = crowded(50_000);
    let full = table.bytes();
    // Again and again, so that it grows and shrinks through every number of buckets.
    for kept in [40_000, 20_000, 9_000, 2_500, 300] {
        let kept_keys: std::collections::HashSet<u128> = keys[..kept].iter().copied().collect();
        table.sweep(3, |_, key| !kept_keys.contains(&key()));
        assert_eq!(table.len(), kept);
        assert!(keys[..kept].iter().all(|key| table.find(*key) == Some(1)), "one of {kept} was lost");
        assert!(keys[kept..].iter().all(|key| table.find(*key).is_none()), "one beyond {kept} came back");
        assert!(table.bytes() < full / 50_000 * (kept as u64 + 5_000) * 3 / 2, "{} bytes for {kept}", table.bytes());
    }
    keys.iter().skip(300).for_each(|key| table.insert(*key, 7));
    assert!(keys[300..].iter().all(|key| table.find(*key) == Some(7)));
    let mut all: Vec<u128> = table.shard(3).map(|(key, _)| key).collect();
    let mut expected = keys.clone();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected, "the keys of a shard are whole keys");
}
