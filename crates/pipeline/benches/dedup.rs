//! Deduplication at size, side by side: our table in memory, our table with most ids on disk, hash maps, and an LSM store.
//!
//! `cargo bench -p tally-pipeline --bench dedup -- --keys 100000000`; `--only hot,disk,hashbrown,std,fjall` chooses,
//! `--memory-bytes N` bounds what is held in memory for `disk`, `--fjall-keys N` the size for the store.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench prints its figures, and stops at any error"
)]

mod cost;

use std::collections::HashSet;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use cost::{median, thread_cpu_seconds};
use tally_model::{EventId, Positions, partition_of};
use tally_pipeline::{Arrival, Dedup, DedupOptions};

const PARTITIONS: u16 = 4;
const TTL_S: u64 = 86_400;
const T0_S: i64 = 1_700_000_000;
const SECOND_US: i64 = 1_000_000;
/// As many as the pipeline reads at once.
const BATCH: usize = 8_192;
/// Decisions that a median is taken over, in this many rounds.
const MEASURED: u64 = 2_000_000;
const ROUNDS: u64 = 5;

struct Arguments {
    keys: u64,
    fjall_keys: u64,
    memory_bytes: u64,
    only: Vec<String>,
    folder: PathBuf,
}

type Run = fn(&Arguments);

const RUNS: [(&str, Run); 5] =
    [("hot", hot), ("disk", disk), ("hashbrown", hashbrown), ("std", std_map), ("fjall", fjall)];

fn main() {
    let arguments = arguments();
    println!("{:<34} {:>10} {:>14} {:>12} {:>12}", "", "ids", "decisions/s", "bytes/id", "note");
    for (name, run) in RUNS {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            run(&arguments);
        }
    }
    let _ = std::fs::remove_dir_all(&arguments.folder);
}

fn arguments() -> Arguments {
    let mut arguments = Arguments {
        keys: 10_000_000,
        fjall_keys: 1_000_000,
        memory_bytes: 0,
        only: Vec::new(),
        folder: std::env::temp_dir().join(format!("tally-bench-dedup-{}", std::process::id())),
    };
    let mut given = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = given.next() {
        let value = given.next().unwrap_or_else(|| panic!("`{name}` needs a value"));
        match name.as_str() {
            "--keys" => arguments.keys = value.parse().expect("--keys is a number"),
            "--fjall-keys" => arguments.fjall_keys = value.parse().expect("--fjall-keys is a number"),
            "--memory-bytes" => arguments.memory_bytes = value.parse().expect("--memory-bytes is a number"),
            "--only" => arguments.only = value.split(',').map(str::to_owned).collect(),
            "--folder" => arguments.folder = PathBuf::from(value).join("tally-bench-dedup"),
            _ => panic!("there is no `{name}`"),
        }
    }
    if arguments.memory_bytes == 0 {
        // A tenth of the ids in memory, and filters for the rest.
        arguments.memory_bytes = (4 << 20) + arguments.keys * 2 + arguments.keys * 6 / 5;
    }
    arguments
}

fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A version 4 UUID's worth of bits.
fn id(n: u64) -> EventId {
    EventId::from_u128(u128::from(mix(n)) << 64 | u128::from(mix(n ^ 0x5555_0000)))
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn report(name: &str, ids: u64, per_second: f64, bytes: u64, note: &str) {
    println!("{name:<34} {ids:>10} {per_second:>14.0} {:>12.2}   {note}", bytes as f64 / ids as f64);
}

/// Ids spread over a day, as they come.
fn arrival(n: u64, second: i64) -> Arrival {
    let id = id(n);
    Arrival { partition: partition_of(id, PARTITIONS), id, received_at_us: (T0_S + second) * SECOND_US }
}

struct Filled {
    dedup: Dedup,
    judged: Positions,
    /// New ids begin here.
    next: u64,
}

fn fill(keys: u64, options: &DedupOptions) -> Filled {
    let mut dedup = Dedup::open(TTL_S, PARTITIONS, options, &Positions::default()).unwrap();
    let judged = Positions::start(PARTITIONS);
    let mut batch = Vec::with_capacity(BATCH);
    let mut firsts = 0u64;
    for n in 0..keys {
        batch.push(arrival(n, (n as u128 * 86_000 / u128::from(keys)) as i64));
        if batch.len() == BATCH || n + 1 == keys {
            dedup.decide(&batch, |sighted| firsts += u64::from(sighted.is_first)).unwrap();
            batch.clear();
            dedup.keep_up(&judged);
        }
    }
    assert_eq!(firsts, keys, "every id is new");
    Filled { dedup, judged, next: keys }
}

/// Decisions a second of CPU time, a tenth of them repeats of any age; median of the rounds.
fn decide(filled: &mut Filled, keys: u64) -> (f64, f64) {
    let (mut rates, mut walls) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let arrivals: Vec<Arrival> = (0..MEASURED / ROUNDS)
            .map(|n| if n % 10 == 9 { mix(round << 32 | n) % keys } else { filled.next + n })
            .map(|n| arrival(n, 86_100))
            .collect();
        filled.next += MEASURED / ROUNDS;
        let (started, cpu) = (Instant::now(), thread_cpu_seconds());
        let mut firsts = 0u64;
        for batch in arrivals.chunks(BATCH) {
            filled.dedup.decide(batch, |sighted| firsts += u64::from(sighted.is_first)).unwrap();
        }
        assert_eq!(firsts, (MEASURED / ROUNDS).div_ceil(10) * 9, "repeats, and only they, are known");
        rates.push((MEASURED / ROUNDS) as f64 / (thread_cpu_seconds() - cpu));
        walls.push((MEASURED / ROUNDS) as f64 / started.elapsed().as_secs_f64());
    }
    (median(rates), median(walls))
}

fn hot(arguments: &Arguments) {
    let before = resident_bytes();
    let options = DedupOptions { folder: None, memory_bytes_max: u64::MAX, seed: 42 };
    let (started, cpu) = (Instant::now(), thread_cpu_seconds());
    let mut filled = fill(arguments.keys, &options);
    let cpu = thread_cpu_seconds() - cpu;
    let resident = resident_bytes() - before;
    let note = format!(
        "growing; by its own count {:.2} bytes/id; {:.1} s by the clock",
        filled.dedup.memory_bytes() as f64 / arguments.keys as f64,
        started.elapsed().as_secs_f64()
    );
    report("tally, growing", arguments.keys, arguments.keys as f64 / cpu, resident, &note);
    let (rate, wall) = decide(&mut filled, arguments.keys);
    report("tally, hot", arguments.keys, rate, resident, &format!("a tenth repeats; {wall:.0}/s by the clock"));
}

fn disk(arguments: &Arguments) {
    let before = resident_bytes();
    let options =
        DedupOptions { folder: Some(arguments.folder.clone()), memory_bytes_max: arguments.memory_bytes, seed: 42 };
    let (started, cpu) = (Instant::now(), thread_cpu_seconds());
    let mut filled = fill(arguments.keys, &options);
    while filled.dedup.keep_up(&filled.judged) {}
    let cpu = thread_cpu_seconds() - cpu;
    let files = filled.dedup.runs();
    let note = format!(
        "filled and sealed to {files} files in {:.1} s by the clock; by its own count {:.2} bytes/id in memory",
        started.elapsed().as_secs_f64(),
        filled.dedup.memory_bytes() as f64 / arguments.keys as f64
    );
    let resident = resident_bytes().saturating_sub(before);
    report("tally, most on disk, filling", arguments.keys, arguments.keys as f64 / cpu, resident, &note);
    let (rate, wall) = decide(&mut filled, arguments.keys);
    let note = format!("a tenth repeats; {wall:.0}/s by the clock; {} blocks read", filled.dedup.reads());
    report("tally, most on disk", arguments.keys, rate, resident, &note);
    let judged = filled.judged.clone();
    drop(filled);
    let started = Instant::now();
    let reopened = Dedup::open(TTL_S, PARTITIONS, &options, &judged).unwrap();
    let missing_s = T0_S + 86_100 - reopened.missing_from_s();
    println!(
        "  reopened {} ids in {:.2} s; the last {missing_s} s of ids are left to the lake",
        reopened.len(),
        started.elapsed().as_secs_f64()
    );
    drop(reopened);
    std::fs::remove_dir_all(&arguments.folder).unwrap();
}

/// Fills a set, then measures as [`decide`] does.
fn set(name: &str, keys: u64, mut insert: impl FnMut(u128) -> bool) {
    let before = resident_bytes();
    (0..keys).for_each(|n| assert!(insert(id(n).as_u128())));
    let resident = resident_bytes() - before;
    let mut next = keys;
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let ids: Vec<u128> = (0..MEASURED / ROUNDS)
            .map(|n| if n % 10 == 9 { mix(round << 32 | n) % keys } else { next + n })
            .map(|n| id(n).as_u128())
            .collect();
        next += MEASURED / ROUNDS;
        let cpu = thread_cpu_seconds();
        let firsts = ids.into_iter().filter(|id| insert(*id)).count();
        black_box(firsts);
        rates.push((MEASURED / ROUNDS) as f64 / (thread_cpu_seconds() - cpu));
    }
    report(name, keys, median(rates), resident, "a tenth repeats; ids only, without times");
}

fn hashbrown(arguments: &Arguments) {
    let mut map: hashbrown::HashMap<(u64, u64), u32> = hashbrown::HashMap::new();
    set("hashbrown map (64+64 bits, second)", arguments.keys, |id| {
        map.insert(((id >> 64) as u64, id as u64), 1).is_none()
    });
}

fn std_map(arguments: &Arguments) {
    let mut ids: HashSet<u128> = HashSet::new();
    set("std HashSet<u128>", arguments.keys, |id| ids.insert(id));
}

fn fjall(arguments: &Arguments) {
    let database = fjall::Database::builder(&arguments.folder).open().unwrap();
    let keyspace = database.keyspace("ids", fjall::KeyspaceCreateOptions::default).unwrap();
    let before = resident_bytes();
    let started = Instant::now();
    set("fjall (LSM on disk)", arguments.fjall_keys, |id| {
        let is_new = !keyspace.contains_key(id.to_be_bytes()).unwrap();
        if is_new {
            keyspace.insert(id.to_be_bytes(), 1u32.to_le_bytes()).unwrap();
        }
        is_new
    });
    database.persist(fjall::PersistMode::SyncAll).unwrap();
    println!(
        "  {:.1} s by the clock with its own threads; {} MB resident",
        started.elapsed().as_secs_f64(),
        resident_bytes().saturating_sub(before) >> 20
    );
    drop((keyspace, database));
    let _ = std::fs::remove_dir_all(&arguments.folder);
}
