use std::collections::HashMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::filter::Spoilt;
use super::*;

const T0_S: i64 = 1_700_000_000;
const PARTITIONS: u16 = 2;

/// In memory where the system has such a place: these tests are about files, not about the disk's pace.
pub(super) fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { tempfile::tempdir_in(in_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn options(folder: Option<&Path>) -> DedupOptions {
    DedupOptions { folder: folder.map(Path::to_owned), memory_bytes_max: u64::MAX, seed: 11 }
}

fn in_memory(ttl_s: u64) -> Dedup {
    Dedup::open(ttl_s, PARTITIONS, &options(None), &Positions::default()).unwrap()
}

fn arrival(n: u128, second: i64) -> Arrival {
    let id = Uuid::from_u128(n);
    Arrival { partition: partition_of(id, PARTITIONS), id, received_at_us: (T0_S + second) * SECOND_US }
}

fn is_first(dedup: &mut Dedup, n: u128, second: i64) -> bool {
    let mut is_first = None;
    dedup.decide(&[arrival(n, second)], |sighted| is_first = Some(sighted.is_first)).unwrap();
    is_first.unwrap()
}

fn keep_up_fully(dedup: &mut Dedup, judged: &Positions) {
    while dedup.keep_up(judged) {}
}

/// Ids of one partition, so that they share its time.
fn of_one_partition() -> impl Iterator<Item = u128> {
    (0..).filter(|n| partition_of(Uuid::from_u128(*n), PARTITIONS) == 0)
}

#[test]
fn the_first_sighting_counts_and_every_later_one_does_not() {
    let mut dedup = in_memory(86_400);
    assert!(is_first(&mut dedup, 1, 0));
    assert!(!is_first(&mut dedup, 1, 0));
    assert!(is_first(&mut dedup, 2, 0));
    assert!(!is_first(&mut dedup, 1, 86_399));
}

#[test]
fn an_id_is_forgotten_after_the_time_to_live_to_the_second_and_a_repeat_does_not_prolong_it() {
    for ttl_s in [1, 5, 3_600, 86_400, 100_000] {
        let mut dedup = in_memory(ttl_s);
        let ttl_s = ttl_s as i64;
        assert!(is_first(&mut dedup, 1, 0));
        assert!(!is_first(&mut dedup, 1, ttl_s - 1), "{ttl_s}");
        assert!(is_first(&mut dedup, 1, ttl_s), "{ttl_s}");
        assert!(!is_first(&mut dedup, 1, 2 * ttl_s - 1), "{ttl_s}");
    }
}

#[test]
fn a_time_to_live_of_weeks_is_never_cut_short_and_not_much_prolonged() {
    let ttl_s = 30 * 86_400;
    for shift in [0, 1, 13, 25] {
        let mut dedup = in_memory(ttl_s as u64);
        assert!(is_first(&mut dedup, 1, shift));
        assert!(!is_first(&mut dedup, 1, shift + ttl_s - 1));
        assert!(is_first(&mut dedup, 1, shift + ttl_s + 2 * 26));
    }
}

#[test]
fn a_clock_that_jumps_back_forgets_nothing_and_revives_nothing() {
    let ids: Vec<u128> = of_one_partition().take(2).collect();
    let mut dedup = in_memory(3_600);
    assert!(is_first(&mut dedup, ids[0], 0));
    assert!(!is_first(&mut dedup, ids[0], -86_400));
    assert!(is_first(&mut dedup, ids[1], 7_200));
    // By the partition's time the first id has expired, although this record was stamped earlier.
    assert!(is_first(&mut dedup, ids[0], 1));
}

#[test]
fn a_clock_that_jumps_by_weeks_revives_no_id_however_codes_come_round() {
    // The codes of times come round after about 131,071 s: none of these jumps may make an old id look young.
    for jump_s in
        [86_400, 44_671, 81_070, 81_071, 131_070, 131_071, 131_072, 180_000, 262_141, 262_142, 262_143, 10_000_000]
    {
        let ids: Vec<u128> = of_one_partition().take(50).collect();
        let mut dedup = in_memory(86_400);
        ids[..40].iter().for_each(|id| assert!(is_first(&mut dedup, *id, 0)));
        assert!(is_first(&mut dedup, ids[41], 50_000));
        assert!(is_first(&mut dedup, ids[40], 50_000 + jump_s));
        for id in &ids[..40] {
            assert!(is_first(&mut dedup, *id, 50_000 + jump_s), "{jump_s}");
            assert!(!is_first(&mut dedup, *id, 50_000 + jump_s), "{jump_s}");
        }
    }
}

#[test]
fn expired_ids_leave_memory() {
    let mut dedup = in_memory(3_600);
    for n in 0..1_000 {
        is_first(&mut dedup, n, 0);
    }
    let full = dedup.memory_bytes();
    let (one, other) =
        ((5_000..).find(|n| arrival(*n, 0).partition == 0), (5_000..).find(|n| arrival(*n, 0).partition == 1));
    is_first(&mut dedup, one.unwrap(), 7_200);
    is_first(&mut dedup, other.unwrap(), 7_200);
    keep_up_fully(&mut dedup, &Positions::default());
    assert_eq!(dedup.len(), 2);
    assert!(dedup.memory_bytes() < full);
}

/// The rule as plainly as it can be said.
#[derive(Default)]
struct Model {
    first_seen_s: HashMap<u128, i64>,
    now_s: [i64; PARTITIONS as usize],
}

impl Model {
    fn decide(&mut self, arrival: &Arrival, ttl_s: i64) -> Sighted {
        let now_s = &mut self.now_s[usize::from(arrival.partition)];
        *now_s = (*now_s).max(arrival.received_at_us / SECOND_US);
        let known = self.first_seen_s.get(&arrival.id.as_u128());
        let is_first = known.is_none_or(|first_seen_s| *now_s - first_seen_s >= ttl_s);
        if is_first {
            self.first_seen_s.insert(arrival.id.as_u128(), *now_s);
        }
        Sighted { is_first, judged_at_s: *now_s }
    }
}

/// What happens to a pipeline, besides records.
#[derive(Debug, Clone, Copy)]
enum Step {
    Record {
        n: u128,
        second: i64,
    },
    KeepUp {
        steps: usize,
    },
    Commit,
    /// Killed: what was judged since the last commit is judged again.
    Crash,
    /// Killed, and then a file of ids is cut, garbled or lost.
    CrashAndDamage {
        file: usize,
        at: usize,
        how: u8,
    },
    /// A file of ids is damaged while they are being asked for.
    Damage {
        file: usize,
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = || (0u128..60, 0i64..900).prop_map(|(n, second)| Step::Record { n, second });
    // Mostly forward in time, so that spans end; sometimes anywhere.
    let step = prop_oneof![
        20 => record(),
        2 => (0u128..60, prop_oneof![Just(2_000i64), Just(400_000), Just(30_000_000)])
            .prop_map(|(n, second)| Step::Record { n, second }),
        6 => (1usize..400).prop_map(|steps| Step::KeepUp { steps }),
        3 => Just(Step::Commit),
        2 => Just(Step::Crash),
        2 => (0usize..8, 0usize..9_000, 0u8..4).prop_map(|(file, at, how)| Step::CrashAndDamage { file, at, how }),
        1 => (0usize..8, 0usize..9_000).prop_map(|(file, at)| Step::Damage { file, at }),
    ];
    prop::collection::vec(step, 1..150)
}

/// A pipeline's worth of dedup: a log, what of it is committed, and a life that can end.
struct Rig {
    folder: Option<TempDir>,
    ttl_s: i64,
    spoilt: Option<Spoilt>,
    memory_bytes_max: u64,
    log: Vec<(Arrival, Sighted)>,
    committed: usize,
    judged: usize,
    dedup: Dedup,
}

impl Rig {
    fn new(ttl_s: i64, on_disk: bool, memory_bytes_max: u64, spoilt: Option<Spoilt>) -> Self {
        let folder = on_disk.then(folder);
        let mut rig = Self {
            folder,
            ttl_s,
            spoilt,
            memory_bytes_max,
            log: Vec::new(),
            committed: 0,
            judged: 0,
            dedup: in_memory(ttl_s as u64),
        };
        rig.start();
        rig
    }

    fn positions(&self, records: usize) -> Positions {
        let mut positions = Positions::start(PARTITIONS);
        for (arrival, _) in &self.log[..records] {
            positions.advance(arrival.partition, positions.next(arrival.partition) + 1);
        }
        positions
    }

    /// As the pipeline does it: files first, then what the lake has committed, then the log from there on.
    fn start(&mut self) {
        let options = DedupOptions {
            folder: self.folder.as_ref().map(|folder| folder.path().to_owned()),
            memory_bytes_max: self.memory_bytes_max,
            seed: 11 + self.log.len() as u128,
        };
        let committed = self.positions(self.committed);
        self.dedup = Dedup::open(self.ttl_s as u64, PARTITIONS, &options, &committed).unwrap();
        if let Some(runs) = &mut self.dedup.runs {
            runs.spoilt = self.spoilt;
            runs.spoil();
        }
        let missing_from_s = self.dedup.missing_from_s();
        for (arrival, sighted) in self.log[..self.committed].iter().rev() {
            if sighted.is_first && sighted.judged_at_s >= missing_from_s {
                let Arrival { partition, id, .. } = *arrival;
                self.dedup.restore(&[Known { partition, id, first_seen_s: sighted.judged_at_s }]);
            }
        }
        for (arrival, sighted) in &self.log[..self.committed] {
            self.dedup.move_on_to(arrival.partition, sighted.judged_at_s);
        }
        self.judged = self.committed;
        self.judge();
    }

    /// Judges what the log holds beyond what is judged, and compares with what it must be.
    fn judge(&mut self) {
        while self.judged < self.log.len() {
            let (arrival, expected) = self.log[self.judged];
            let mut found = None;
            match self.dedup.decide(&[arrival], |sighted| found = Some(sighted)) {
                Ok(()) => {
                    assert_eq!(found, Some(expected), "record {}: {arrival:?}", self.judged);
                    self.judged += 1;
                }
                // A damaged file was asked: it is gone, and a start restores what it had.
                Err(DedupError::Lost { .. }) => return self.start(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let mut files: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn damage(&self, file: usize, at: usize, how: u8) {
        let files = self.files();
        let Some(path) = files.get(file % files.len().max(1)) else { return };
        let mut bytes = fs::read(path).unwrap();
        let at = at % bytes.len().max(1);
        match how {
            0 => bytes.truncate(at),
            1 => return fs::remove_file(path).unwrap(),
            2 => return fs::write(path.with_extension("unfinished"), &bytes[..at]).unwrap(),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x55;
                }
            }
        }
        fs::write(path, bytes).unwrap();
    }

    fn run(&mut self, steps: &[Step]) {
        let mut model = Model::default();
        for step in steps {
            match *step {
                Step::Record { n, second } => {
                    let arrival = arrival(n, second + self.log.len() as i64 * 5);
                    let expected = model.decide(&arrival, self.ttl_s);
                    self.log.push((arrival, expected));
                    self.judge();
                }
                Step::KeepUp { steps } => {
                    let judged = self.positions(self.judged);
                    (0..steps).for_each(|_| {
                        self.dedup.keep_up(&judged);
                    });
                }
                Step::Commit => self.committed = self.judged,
                Step::Crash => self.start(),
                Step::CrashAndDamage { file, at, how } => {
                    self.damage(file, at, how);
                    self.start();
                }
                Step::Damage { file, at } => self.damage(file, at, 3),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Seal anywhere, stop anywhere, damage any file, set the clock: the decisions are those of a plain map that never stopped.
    #[test]
    fn restarts_sealing_and_damage_decide_nothing(steps in steps(), ttl_s in prop_oneof![Just(60i64), Just(600), Just(3_600)]) {
        Rig::new(ttl_s, true, 0, None).run(&steps);
        Rig::new(ttl_s, true, u64::MAX, None).run(&steps);
        Rig::new(ttl_s, false, 0, None).run(&steps);
    }

    /// A filter may be as wrong as it likes about what it does not hold: no event is dropped for it.
    #[test]
    fn a_filter_that_is_wrong_drops_no_event(steps in steps()) {
        Rig::new(600, true, 0, Some(Spoilt::SaysMaybeToAll)).run(&steps);
        Rig::new(600, true, 0, Some(Spoilt::SaysMaybeToEverySecond)).run(&steps);
    }
}

/// A day of ids under a memory bound that holds a part of them.
fn a_day(folder: &Path, memory_bytes_max: u64) -> (Dedup, Positions) {
    let options = DedupOptions { memory_bytes_max, ..options(Some(folder)) };
    let mut dedup = Dedup::open(86_400, PARTITIONS, &options, &Positions::default()).unwrap();
    let mut judged = Positions::start(PARTITIONS);
    for hour in 0..24u128 {
        for n in 0..1_000u128 {
            let arrival = arrival(hour * 1_000 + n, hour as i64 * 3_600 + n as i64 * 3);
            judged.advance(arrival.partition, judged.next(arrival.partition) + 1);
            dedup.decide(&[arrival], |sighted| assert!(sighted.is_first)).unwrap();
        }
        keep_up_fully(&mut dedup, &judged);
    }
    (dedup, judged)
}

#[test]
fn beyond_the_bound_the_oldest_ids_are_on_disk_and_all_are_known() {
    let folder = folder();
    let (mut dedup, _) = a_day(folder.path(), 0);
    assert!(dedup.runs() >= 23 && dedup.table.len() <= 1_000, "{} runs, {} in memory", dedup.runs(), dedup.table.len());
    assert_eq!(dedup.len(), 24_000);
    for n in (0..24_000).step_by(7) {
        assert!(!is_first(&mut dedup, n, 86_000), "{n}");
    }
    let read = dedup.reads();
    (30_000..40_000).for_each(|n| assert!(is_first(&mut dedup, n, 86_000)));
    assert!(dedup.reads() - read < 2_000, "filters spare the reads: {}", dedup.reads() - read);
}

#[test]
fn a_start_takes_ids_from_disk_and_asks_for_the_last_span_only() {
    let folder = folder();
    let (dedup, judged) = a_day(folder.path(), u64::MAX);
    drop(dedup);
    let dedup = Dedup::open(86_400, PARTITIONS, &options(Some(folder.path())), &judged).unwrap();
    assert!(dedup.missing_from_s() > T0_S + 22 * 3_600, "{}", dedup.missing_from_s() - T0_S);
    assert!(dedup.len() >= 22_000 && dedup.table.len() == 0);
}

#[test]
fn a_file_of_events_that_were_never_committed_is_not_believed() {
    let folder = folder();
    drop(a_day(folder.path(), u64::MAX));
    let dedup = Dedup::open(86_400, PARTITIONS, &options(Some(folder.path())), &Positions::start(PARTITIONS)).unwrap();
    assert_eq!((dedup.len(), dedup.missing_from_s()), (0, 0));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "they are deleted");
}

#[test]
fn ids_kept_by_another_rule_are_not_used() {
    let folder = folder();
    let (_, judged) = a_day(folder.path(), u64::MAX);
    let dedup = Dedup::open(90_000, PARTITIONS, &options(Some(folder.path())), &judged).unwrap();
    assert_eq!((dedup.runs(), dedup.missing_from_s()), (0, 0));
}

#[test]
fn a_folder_that_cannot_be_written_keeps_ids_in_memory() {
    let folder = folder();
    let inside = folder.path().join("dedup");
    let mut dedup = Dedup::open(86_400, PARTITIONS, &options(Some(&inside)), &Positions::default()).unwrap();
    fs::remove_dir(&inside).unwrap();
    for n in 0..1_000 {
        assert!(is_first(&mut dedup, n, n as i64 * 30));
    }
    keep_up_fully(&mut dedup, &Positions::default());
    (0..1_000).for_each(|n| assert!(!is_first(&mut dedup, n, 30_000)));
    assert_eq!(dedup.runs(), 0);
}
