use bytes::Bytes;

use super::*;
use crate::Record;

const TAG: Tag = Tag { segment: 3, salt: 77 };
const STALE: Tag = Tag { segment: 1, salt: 76 };
const IMAGE_BYTES: usize = 2048;

/// A segment in memory, over the remains of an earlier life.
struct Image {
    bytes: Vec<u8>,
    first: Block,
    /// Where each block begins, and at last where they end; and the positions at these places.
    bounds: Vec<usize>,
    ends: Vec<Positions>,
}

fn blocks(tag: Tag, count: usize) -> Vec<Vec<u8>> {
    let mut next = Positions::from_offsets(vec![100, 7]);
    let mut encoded = Vec::new();
    let mut bytes = Vec::new();
    next = block::encode(&mut bytes, tag, &next, [].iter());
    encoded.push(bytes.clone());
    for n in 0..count {
        let records: Vec<_> = (0..=n % 3)
            .map(|i| Record { partition: ((n + i) % 2) as u16, bytes: Bytes::from(vec![b'a' + i as u8; 5 + 7 * n]) })
            .collect();
        next = block::encode(&mut bytes, tag, &next, records.iter());
        encoded.push(bytes.clone());
    }
    encoded
}

fn image() -> Image {
    let mut bytes = blocks(STALE, 12).concat();
    bytes.resize(IMAGE_BYTES, 0);
    let mut at = 0;
    let (mut bounds, mut ends) = (vec![], vec![]);
    for block in blocks(TAG, 6) {
        bytes[at..at + block.len()].copy_from_slice(&block);
        at += block.len();
        bounds.push(at);
        ends.push(block::decode(&block).unwrap().end);
    }
    let first = block::decode(&bytes).unwrap();
    Image { bytes, first, bounds, ends }
}

/// Noise that never changes.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn every_block_is_kept_and_leftovers_of_an_earlier_life_are_not() {
    let image = image();
    let scan = scan(&image.bytes, &image.first).unwrap();
    assert_eq!(scan.durable_bytes, *image.bounds.last().unwrap());
    assert_eq!(&scan.end, image.ends.last().unwrap());
    assert_eq!(scan.last_block_at, image.bounds[image.bounds.len() - 2]);
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_blocks_that_it_broke() {
    let image = image();
    let whole = *image.bounds.last().unwrap();
    let noise = noise(IMAGE_BYTES);
    for cut in image.first.length..whole {
        let zeroed = [&image.bytes[..cut], &vec![0; IMAGE_BYTES - cut]].concat();
        let garbage = [&image.bytes[..cut], &noise[cut..]].concat();
        let remains_of_earlier = [&image.bytes[..cut], &image.bytes[whole..], &vec![0; whole - cut]].concat();
        for torn in [zeroed, garbage, remains_of_earlier] {
            // Zeros in place of padding break nothing.
            let kept = image.bounds.iter().rposition(|end| torn[..*end] == image.bytes[..*end]).unwrap();
            let scan = scan(&torn, &image.first).unwrap();
            assert_eq!((scan.durable_bytes, &scan.end), (image.bounds[kept], &image.ends[kept]), "cut at {cut}");
        }
    }
}

#[test]
fn a_flip_in_the_last_block_costs_that_block() {
    let image = image();
    let last = image.bounds.len() - 2;
    for bit in image.bounds[last] * 8..image.bounds[last + 1] * 8 {
        let mut damaged = image.bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let scan = scan(&damaged, &image.first).unwrap();
        assert_eq!((scan.durable_bytes, &scan.end), (image.bounds[last], &image.ends[last]), "bit {bit}");
    }
}

#[test]
fn a_flip_before_a_valid_block_is_never_taken_for_a_torn_tail() {
    let image = image();
    for block in 0..image.bounds.len() - 2 {
        let (broken_at, valid_at) = (image.bounds[block], image.bounds[block + 1]);
        for bit in broken_at * 8..valid_at * 8 {
            let mut damaged = image.bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(scan(&damaged, &image.first), Err(Gap { broken_at, valid_at }), "bit {bit}");
        }
    }
}

#[test]
fn a_block_that_was_left_out_is_found_missing() {
    let mut blocks = blocks(TAG, 5);
    let broken_at = blocks[..3].concat().len();
    blocks.remove(3);
    let bytes = blocks.concat();
    let first = block::decode(&bytes).unwrap();
    assert_eq!(scan(&bytes, &first), Err(Gap { broken_at, valid_at: broken_at }));
}

#[test]
fn a_record_that_looks_like_a_block_cannot_make_a_torn_tail_look_like_damage() {
    let forged = blocks(Tag { salt: TAG.salt + 1, ..TAG }, 2).concat();
    let mut bytes = blocks(TAG, 1).concat();
    let base = scan(&bytes, &block::decode(&bytes).unwrap()).unwrap();
    let mut torn = Vec::new();
    block::encode(&mut torn, TAG, &base.end, [Record { partition: 0, bytes: Bytes::from(forged) }].iter());
    torn[0] ^= 1;
    bytes.extend_from_slice(&torn);
    assert_eq!(scan(&bytes, &block::decode(&bytes).unwrap()), Ok(base));
}
