//! Where a record stands in the journal: its partition, and its offset within it.

use serde::{Deserialize, Serialize};

use crate::EventId;

/// One ordered log among several. Numbered from zero.
pub type Partition = u16;

/// The place of a record in its partition. Dense: the first record has 0, each later one has one more.
pub type Offset = u64;

/// For each partition, the offset of the next record: everything below it is in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Positions(Vec<Offset>);

impl Positions {
    pub fn start(partitions: u16) -> Self {
        Self(vec![0; usize::from(partitions)])
    }

    pub fn from_offsets(next: Vec<Offset>) -> Self {
        Self(next)
    }

    pub fn next(&self, partition: Partition) -> Offset {
        self.0.get(usize::from(partition)).copied().unwrap_or(0)
    }

    /// Moves a partition on to `next`; a partition not known so far starts at 0.
    pub fn advance(&mut self, partition: Partition, next: Offset) {
        let at = usize::from(partition);
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = next;
    }

    pub fn iter(&self) -> impl Iterator<Item = (Partition, Offset)> + '_ {
        (0..=Partition::MAX).zip(self.0.iter().copied())
    }

    /// Whether everything below `other` is below these positions too.
    pub fn covers(&self, other: &Positions) -> bool {
        other.iter().all(|(partition, next)| self.next(partition) >= next)
    }

    /// How many records stand below these positions, over all partitions.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn partitions(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }
}

/// The partition of an event: a pure function of its dedup key, so that every copy of an id meets the same dedup state.
///
/// Ids made by clients may be anything (sequential, or v7 with the time in front), hence the mixing.
pub fn partition_of(id: EventId, partitions: u16) -> Partition {
    let key = id.as_u128();
    let folded = (key >> 64) as u64 ^ key as u64;
    let mixed = (folded ^ (folded >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // Multiply-shift instead of a remainder: uniform, and free of division.
    ((u128::from(mixed) * u128::from(partitions.max(1))) >> 64) as Partition
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn sequential_ids_spread_evenly() {
        let mut seen = [0u32; 4];
        for n in 0..40_000u128 {
            seen[usize::from(partition_of(Uuid::from_u128(n), 4))] += 1;
        }
        assert!(seen.iter().all(|n| (9_000..11_000).contains(n)), "uneven partitions: {seen:?}");
    }

    #[test]
    fn an_id_keeps_its_partition() {
        // Fixed by the data on disk: if this changes, copies of one event land in two partitions after an upgrade.
        let id = Uuid::from_u128(0x1b77_f811_2a29_52a0_accf_20ec_92eb_1587);
        assert_eq!((partition_of(id, 4), partition_of(id, 1), partition_of(id, 64)), (3, 0, 58));
    }
}
