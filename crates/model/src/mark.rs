//! Marks: how far a table is, committed together with what it holds. A commit moves them from where its writer left them, and
//! only from there: a mark that stands elsewhere is somebody else's.

use crate::{Partition, Positions};

/// A mark that a commit moves on: from what it must be before, to what it is after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub name: String,
    pub before: Option<i64>,
    pub after: i64,
}

/// How the marks of a commit stand in a table that was just looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All are where they must be before: commit.
    Ready,
    /// All are where they would be after: this very commit is in, and its answer was lost.
    AlreadyIn,
    /// This one is neither: another writer is at work.
    Moved { mark: Mark, found: Option<i64> },
}

impl Standing {
    /// `found` has what stands in the table for each of `marks`, in their order.
    pub fn of(marks: &[Mark], found: &[Option<i64>]) -> Self {
        debug_assert_eq!(marks.len(), found.len(), "each mark was looked for");
        let pairs = || marks.iter().zip(found);
        if pairs().all(|(mark, found)| *found == Some(mark.after)) {
            return Self::AlreadyIn;
        }
        let moved = pairs().find(|(mark, found)| **found != mark.before);
        moved.map_or(Self::Ready, |(mark, found)| Self::Moved { mark: mark.clone(), found: *found })
    }
}

/// The mark that says up to where a partition of the log is in.
pub fn position_mark(partition: Partition) -> String {
    format!("partition-{partition}")
}

/// The marks of the partitions that a batch moves on.
pub fn position_marks(from: &Positions, upto: &Positions) -> Vec<Mark> {
    let moved = upto.iter().filter(|(partition, next)| from.next(*partition) != *next);
    moved
        .map(|(partition, next)| {
            let before = from.next(partition);
            Mark { name: position_mark(partition), before: (before > 0).then_some(before as i64), after: next as i64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_made_once_and_only_from_where_its_writer_left_the_table() {
        let marks = position_marks(&Positions::from_offsets(vec![5, 0, 7]), &Positions::from_offsets(vec![9, 2, 7]));
        let names: Vec<&str> = marks.iter().map(|mark| mark.name.as_str()).collect();
        assert_eq!(names, ["partition-0", "partition-1"], "partition 2 does not move");
        assert_eq!(Standing::of(&marks, &[Some(5), None]), Standing::Ready);
        assert_eq!(Standing::of(&marks, &[Some(9), Some(2)]), Standing::AlreadyIn);
        for found in [[Some(9), None], [Some(5), Some(2)], [Some(6), None], [None, None]] {
            assert!(matches!(Standing::of(&marks, &found), Standing::Moved { .. }), "{found:?}");
        }
    }
}
