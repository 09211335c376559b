use std::os::unix::fs::FileExt;

use super::*;

/// A folder with three segments; gives their paths and the records in them.
fn written(folder: &Path) -> (Vec<PathBuf>, Vec<Stored>) {
    let journal = open(folder);
    (0..10).for_each(|n| put(&journal, n % 2, 900));
    let stored = read_all(&journal, &journal.start());
    drop(journal);
    let paths: Vec<_> = segments(folder).into_iter().map(|id| segment_path(folder, id)).collect();
    assert_eq!(paths.len(), 3);
    (paths, stored)
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Where the blocks of a segment begin, and where they end.
fn bounds(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let mut bounds = vec![0];
    while let Ok(block) = block::decode(&bytes[bounds[bounds.len() - 1]..]) {
        bounds.push(bounds[bounds.len() - 1] + block.length);
    }
    bounds
}

#[track_caller]
fn assert_refused(folder: &Path, path: &Path, at: usize) {
    let error = DiskJournal::open(options(folder)).expect_err("damage must be refused");
    let place = format!("`{}` at byte {at}:", path.display());
    assert!(matches!(&error, JournalError::Corrupt { what } if what.contains(&place)), "{error}, not {place}");
}

#[test]
fn after_a_torn_tail_is_cut_new_records_take_its_place_for_good() {
    for cut_from_end in [1, 17, 500, 900, 940] {
        let folder = tempfile::tempdir().unwrap();
        let (paths, stored) = written(folder.path());
        let last = paths.last().unwrap();
        let end = *bounds(last).last().unwrap();
        edit(last, |bytes| bytes[end - cut_from_end - 7..].fill(0));

        let journal = open(folder.path());
        assert_eq!(read_all(&journal, &journal.start()), stored[..9], "the tail was one record");
        journal.append(vec![record(1, "n")]).unwrap().wait().unwrap();
        drop(journal);
        let journal = open(folder.path());
        let again = read_all(&journal, &journal.start());
        assert_eq!(again[..9], stored[..9]);
        assert_eq!((places(&again[9..]), &again[9].bytes[..]), (vec![(1, 4)], &b"n"[..]));
    }
}

#[test]
fn every_flip_in_the_last_block_on_disk_keeps_what_was_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, stored) = written(folder.path());
    let path = paths.last().unwrap();
    let bounds = bounds(path);
    let [.., last, end] = bounds[..] else { panic!("no blocks") };
    let pristine = fs::read(path).unwrap();
    let storage = OsFolder::new(folder.path());
    for at in last..end {
        let mut damaged = pristine.clone();
        damaged[at] ^= 0x10;
        fs::write(path, damaged).unwrap();
        let recovered = recover::recover(&storage, 2).unwrap();
        assert_eq!(recovered.end.total(), 9, "flip at {at}");
        // The cut is on disk: the same bytes are found again without the torn tail.
        let cut = fs::read(path).unwrap();
        assert_eq!(cut[last..last + block::HEADER_BYTES], [0; block::HEADER_BYTES]);
    }
    fs::write(path, pristine).unwrap();
    let journal = open(folder.path());
    assert_eq!(read_all(&journal, &journal.start()), stored);
}

#[test]
fn a_flip_before_a_valid_block_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = written(folder.path());
    let at = bounds(&paths[0])[2];
    edit(&paths[0], |bytes| bytes[at + 60] ^= 1);
    assert_refused(folder.path(), &paths[0], at);
}

#[test]
fn a_broken_end_of_a_segment_is_refused_if_another_follows() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = written(folder.path());
    let [.., last, _] = bounds(&paths[1])[..] else { panic!("no blocks") };
    edit(&paths[1], |bytes| bytes[last..].fill(0));
    assert_refused(folder.path(), &paths[1], last);
}

#[test]
fn a_missing_segment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = written(folder.path());
    fs::remove_file(&paths[1]).unwrap();
    assert_refused(folder.path(), &paths[1], 0);
}

#[test]
fn a_segment_without_its_first_block_is_refused() {
    for length in [0, 30, SEGMENT_BYTES as usize] {
        let folder = tempfile::tempdir().unwrap();
        let (paths, _) = written(folder.path());
        fs::write(&paths[2], vec![0; length]).unwrap();
        assert_refused(folder.path(), &paths[2], 0);
    }
}

#[test]
fn swapped_segments_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, _) = written(folder.path());
    fs::copy(&paths[0], &paths[1]).unwrap();
    assert_refused(folder.path(), &paths[1], 0);
}

#[test]
fn a_spare_is_never_data() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, stored) = written(folder.path());
    // As a crash leaves it between writing the first block and giving the segment its name.
    fs::copy(&paths[2], folder.path().join(segment::spare_name(9))).unwrap();
    fs::write(folder.path().join(segment::spare_name(10)), [0; 100]).unwrap();
    let journal = open(folder.path());
    assert_eq!(read_all(&journal, &journal.start()), stored);
    (0..20).for_each(|_| put(&journal, 0, 900));
    assert_eq!(journal.end().total(), 30);
}

#[test]
fn damage_under_a_running_reader_is_an_error_after_the_records_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, stored) = written(folder.path());
    let journal = open(folder.path());
    let at = bounds(&paths[0])[3] as u64;
    let file = File::options().write(true).open(&paths[0]).unwrap();
    FileExt::write_all_at(&file, b"!", at + 100).unwrap();
    let mut reader = journal.reader(&journal.start()).unwrap();
    assert_eq!(reader.read(9, Duration::ZERO).unwrap(), stored[..2]);
    let place = format!("`{}` at byte {at}:", paths[0].display());
    for _ in 0..2 {
        let error = reader.read(9, Duration::ZERO).unwrap_err();
        assert!(matches!(&error, JournalError::Corrupt { what } if what.contains(&place)), "{error}, not {place}");
    }
}

#[test]
fn another_partition_count_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let error = DiskJournal::open(DiskOptions { partitions: 3, ..options(folder.path()) }).unwrap_err().to_string();
    assert!(error.contains("with 3 partitions") && error.contains("made with 2"), "{error}");
    open(folder.path());
}

#[test]
fn another_segment_length_takes_effect_with_the_next_segment() {
    let folder = tempfile::tempdir().unwrap();
    let (_, stored) = written(folder.path());
    let journal = DiskJournal::open(DiskOptions { segment_bytes: 16384, ..options(folder.path()) }).unwrap();
    (0..10).for_each(|_| put(&journal, 0, 4000));
    let all = read_all(&journal, &journal.start());
    assert_eq!(all[..10], stored);
    assert_genuine(&all);
    drop(journal);
    let journal = open(folder.path());
    assert_eq!(read_all(&journal, &journal.start()), all);
}
