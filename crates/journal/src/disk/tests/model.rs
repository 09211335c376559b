//! Whatever is done in whatever order, the journal equals a list in memory.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Appends of so many records each, waited for together.
    Append(Vec<Vec<(u16, usize)>>),
    /// Everything below this part of what there is, in percent for each partition.
    Release(u64, u64),
    Reopen,
    /// Reopen with rubbish where the next block would go.
    Tear(u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let append = prop::collection::vec((0..2u16, 0..400usize), 0..5);
    prop_oneof![
        6 => prop::collection::vec(append, 1..6).prop_map(Step::Append),
        2 => (0..=100u64, 0..=100u64).prop_map(|(first, second)| Step::Release(first, second)),
        1 => Just(Step::Reopen),
        1 => (any::<u8>(), 1..300usize).prop_map(|(byte, length)| Step::Tear(byte, length)),
    ]
}

/// Overwrites what follows the last block.
fn tear(folder: &Path, last: &segment::Segment, byte: u8, length: usize) {
    let path = segment_path(folder, last.tag.segment);
    let mut bytes = fs::read(&path).unwrap();
    let at = last.durable_bytes as usize;
    // Starts like a block of this segment, so that it is the tail of this life and not of an earlier one.
    let mut torn = Vec::new();
    let records = [record(0, vec![byte; length])];
    block::encode(&mut torn, last.tag, &last.start, records.iter());
    torn[0] ^= 1;
    let length = torn.len().min(bytes.len() - at);
    bytes[at..at + length].copy_from_slice(&torn[..length]);
    bytes[at + length..].fill(byte);
    fs::write(path, bytes).unwrap();
}

fn check(journal: &DiskJournal, model: &[Stored]) -> Result<(), TestCaseError> {
    let start = journal.start();
    let held: Vec<_> = model.iter().filter(|stored| stored.offset >= start.next(stored.partition)).cloned().collect();
    prop_assert_eq!(read_all(journal, &start), held);
    let mut middle = start.clone();
    for (partition, end) in journal.end().iter() {
        middle.advance(partition, start.next(partition).midpoint(end));
    }
    let after: Vec<_> = model.iter().filter(|stored| stored.offset >= middle.next(stored.partition)).cloned().collect();
    prop_assert_eq!(read_all(journal, &middle), after);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_steps_leaves_what_a_list_would_hold(steps in prop::collection::vec(step(), 1..25)) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path());
        let mut model: Vec<Stored> = Vec::new();
        let mut end = Positions::start(2);
        for step in steps {
            match step {
                Step::Append(appends) => {
                    let mut receipts = Vec::new();
                    for append in appends {
                        let mut records = Vec::new();
                        for (partition, length) in append {
                            let offset = end.next(partition);
                            end.advance(partition, offset + 1);
                            let bytes = Bytes::from(contents(partition, offset, length));
                            model.push(Stored { partition, offset, bytes: bytes.clone() });
                            records.push(Record { partition, bytes });
                        }
                        receipts.push(journal.append(records).unwrap());
                    }
                    receipts.into_iter().for_each(|receipt| receipt.wait().unwrap());
                }
                Step::Release(first, second) => {
                    let below = Positions::from_offsets(vec![end.next(0) * first / 100, end.next(1) * second / 100]);
                    let before = journal.start();
                    journal.release(&below).unwrap();
                    let start = journal.start();
                    prop_assert!(start.covers(&before));
                    prop_assert!(start == before || below.covers(&start), "trimmed more than was released");
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(folder.path());
                }
                Step::Tear(byte, length) => {
                    let last = journal.shared.log.last().unwrap();
                    drop(journal);
                    tear(folder.path(), &last, byte, length);
                    journal = open(folder.path());
                }
            }
            prop_assert_eq!(journal.end(), end.clone());
            check(&journal, &model)?;
        }
    }
}
