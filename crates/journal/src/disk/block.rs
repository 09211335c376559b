//! A block: one group commit as bytes, and back. Pure: it touches no file.
//!
//! All numbers are little-endian; the whole is padded with zeros to a multiple of 8 bytes.
//!
//! | at | what |
//! |---|---|
//! | 0 | CRC32C of everything after it, padding included (4) |
//! | 4 | magic (4) |
//! | 8 | format version (2) |
//! | 10 | partitions (2) |
//! | 12 | length of the block, padding included (4) |
//! | 16 | records (4) |
//! | 20 | salt of the segment (4) |
//! | 24 | id of the segment (8) |
//! | 32 | sequence number of the first record, over all partitions (8) |
//! | 40 | base offset of each partition (8 each) |
//! | then | records: partition (2), length (4), bytes |

use std::ops::Range;

use tally_model::{Offset, Partition, Positions};

use crate::Record;

/// Blocks begin at multiples of this, so that a search for one after damage has few places to look at.
pub const ALIGN: usize = 8;
pub const HEADER_BYTES: usize = 40;
pub const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"TLYJ";
const BASE_BYTES: usize = 8;
const RECORD_HEADER_BYTES: usize = 6;
/// At 50,000 records a second a partition gets here in 178 years. What lies beyond was never written by us, and the sum over
/// all partitions that there can be would overflow.
const OFFSET_MAX: Offset = (1 << 48) - 1;

/// One life of a segment file. A block left over from an earlier life has another tag, so recycling needs no zeroing;
/// and the salt is not guessable, so no record can pass for a block by its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub segment: u64,
    pub salt: u32,
}

/// What the front of a block claims, before anything was verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: Tag,
    pub length: usize,
    pub partitions: u16,
    version: u16,
    records: u32,
    first_sequence: u64,
}

/// A block whose checksum and structure hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub tag: Tag,
    pub length: usize,
    /// The positions before this block, and after it.
    pub base: Positions,
    pub end: Positions,
    pub records: Vec<Placed>,
}

/// A record's place in its partition, and in the bytes of its block.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed {
    pub partition: Partition,
    pub offset: Offset,
    pub bytes: Range<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Damage {
    /// Not a block, or not any more.
    Bytes,
    /// A sound block in a format that this code does not know.
    Version(u16),
}

/// What these records take in a block.
pub fn payload_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| RECORD_HEADER_BYTES.saturating_add(record.bytes.len())).fold(0, usize::saturating_add)
}

/// What a block takes beyond its records; a block without records is just this long.
pub fn overhead_bytes(partitions: u16) -> usize {
    HEADER_BYTES + BASE_BYTES * usize::from(partitions)
}

/// Replaces the contents of `into` by one block, and gives the positions after it. The caller has seen to it that the
/// records fit, so no length here exceeds its four bytes.
pub fn encode<'a>(
    into: &mut Vec<u8>,
    tag: Tag,
    base: &Positions,
    records: impl Iterator<Item = &'a Record>,
) -> Positions {
    into.clear();
    into.resize(HEADER_BYTES, 0);
    for (_, offset) in base.iter() {
        into.extend_from_slice(&offset.to_le_bytes());
    }
    let mut end = base.clone();
    let mut count = 0u32;
    for record in records {
        into.extend_from_slice(&record.partition.to_le_bytes());
        into.extend_from_slice(&(record.bytes.len() as u32).to_le_bytes());
        into.extend_from_slice(&record.bytes);
        end.advance(record.partition, end.next(record.partition) + 1);
        count += 1;
    }
    into.resize(into.len().next_multiple_of(ALIGN), 0);

    let length = into.len() as u32;
    into[4..8].copy_from_slice(&MAGIC);
    into[8..10].copy_from_slice(&VERSION.to_le_bytes());
    into[10..12].copy_from_slice(&base.partitions().to_le_bytes());
    into[12..16].copy_from_slice(&length.to_le_bytes());
    into[16..20].copy_from_slice(&count.to_le_bytes());
    into[20..24].copy_from_slice(&tag.salt.to_le_bytes());
    into[24..32].copy_from_slice(&tag.segment.to_le_bytes());
    into[32..40].copy_from_slice(&base.total().to_le_bytes());
    let crc = crc32c::crc32c(&into[4..]);
    into[0..4].copy_from_slice(&crc.to_le_bytes());
    end
}

/// The claim at the front of these bytes, if it can be one at all. The block itself may be longer than the bytes.
pub fn peek(bytes: &[u8]) -> Option<Header> {
    if bytes.get(4..8)? != MAGIC {
        return None;
    }
    let header = Header {
        version: u16::from_le_bytes(array(bytes, 8)?),
        partitions: u16::from_le_bytes(array(bytes, 10)?),
        length: u32::from_le_bytes(array(bytes, 12)?) as usize,
        records: u32::from_le_bytes(array(bytes, 16)?),
        tag: Tag { salt: u32::from_le_bytes(array(bytes, 20)?), segment: u64::from_le_bytes(array(bytes, 24)?) },
        first_sequence: u64::from_le_bytes(array(bytes, 32)?),
    };
    let plausible = header.length >= overhead_bytes(header.partitions) && header.length.is_multiple_of(ALIGN);
    plausible.then_some(header)
}

/// The block at the front of these bytes, if every bit of it is as it was written.
pub fn decode(bytes: &[u8]) -> Result<Block, Damage> {
    let header = peek(bytes).ok_or(Damage::Bytes)?;
    let bytes = bytes.get(..header.length).ok_or(Damage::Bytes)?;
    if array(bytes, 0) != Some(crc32c::crc32c(&bytes[4..]).to_le_bytes()) {
        return Err(Damage::Bytes);
    }
    if header.version != VERSION {
        return Err(Damage::Version(header.version));
    }
    parse(&header, bytes).ok_or(Damage::Bytes)
}

fn parse(header: &Header, bytes: &[u8]) -> Option<Block> {
    let mut at = HEADER_BYTES;
    let mut base = Vec::with_capacity(usize::from(header.partitions));
    for _ in 0..header.partitions {
        base.push(u64::from_le_bytes(array(bytes, at)?));
        at += BASE_BYTES;
    }
    if base.iter().any(|offset| *offset > OFFSET_MAX) {
        return None;
    }
    let base = Positions::from_offsets(base);
    let mut end = base.clone();
    let mut records = Vec::new();
    for _ in 0..header.records {
        let partition = u16::from_le_bytes(array(bytes, at)?);
        let length = u32::from_le_bytes(array(bytes, at + 2)?) as usize;
        at += RECORD_HEADER_BYTES;
        let range = at..at + length;
        bytes.get(range.clone())?;
        at = range.end;
        let offset = end.next(partition);
        end.advance(partition, offset + 1);
        records.push(Placed { partition, offset, bytes: range });
    }
    let whole = at.next_multiple_of(ALIGN) == header.length
        && end.partitions() == header.partitions
        && base.total() == header.first_sequence;
    whole.then_some(Block { tag: header.tag, length: header.length, base, end, records })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const TAG: Tag = Tag { segment: 7, salt: 0xDEAD_BEEF };

    fn sample() -> (Vec<u8>, Vec<Record>) {
        let records = vec![
            Record { partition: 1, bytes: Bytes::from_static(b"first") },
            Record { partition: 0, bytes: Bytes::new() },
            Record { partition: 1, bytes: Bytes::from_static(b"third of them") },
        ];
        let mut bytes = Vec::new();
        encode(&mut bytes, TAG, &Positions::from_offsets(vec![10, 20]), records.iter());
        (bytes, records)
    }

    #[test]
    fn a_block_gives_back_what_went_in() {
        let (bytes, records) = sample();
        let block = decode(&bytes).unwrap();
        assert_eq!(block.tag, TAG);
        assert_eq!(block.length, bytes.len());
        assert_eq!(block.end, Positions::from_offsets(vec![11, 22]));
        let places: Vec<_> = block.records.iter().map(|placed| (placed.partition, placed.offset)).collect();
        assert_eq!(places, [(1, 20), (0, 10), (1, 21)]);
        for (placed, record) in block.records.iter().zip(&records) {
            assert_eq!(bytes[placed.bytes.clone()], record.bytes);
        }
    }

    #[test]
    fn the_length_is_known_before_encoding() {
        let (bytes, records) = sample();
        assert_eq!(bytes.len(), (overhead_bytes(2) + payload_bytes(&records)).next_multiple_of(ALIGN));
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let (bytes, _) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), Err(Damage::Bytes), "bit {bit}");
        }
    }

    #[test]
    fn a_block_cut_short_is_no_block() {
        let (bytes, _) = sample();
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), Err(Damage::Bytes), "cut to {length}");
        }
    }

    #[test]
    fn positions_that_no_partition_can_have_reached_are_damage() {
        for (base, expected) in [(OFFSET_MAX, true), (OFFSET_MAX + 1, false), (u64::MAX, false)] {
            let mut bytes = Vec::new();
            encode(&mut bytes, TAG, &Positions::from_offsets(vec![base, 0]), [].iter());
            assert_eq!(decode(&bytes).is_ok(), expected, "a partition that begins at {base}");
        }
        // Whose sum does not fit into 64 bits, so that it cannot even be written by `encode`.
        let (mut bytes, _) = sample();
        bytes[HEADER_BYTES..HEADER_BYTES + 2 * BASE_BYTES].fill(0xFF);
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Damage::Bytes));
    }

    #[test]
    fn a_later_format_is_named_rather_than_taken_for_damage() {
        let (mut bytes, _) = sample();
        bytes[8..10].copy_from_slice(&2u16.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Damage::Version(2)));
    }
}
