//! The bytes of a run. All numbers are little-endian; a change of anything here is a new version, and older files are made anew.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crc32c::crc32c;
use tally_model::Positions;

use super::super::filter::Filter;
use super::{Head, Rules, Search};

pub(super) const BLOCK_BYTES: usize = 4_096;
/// 20 bytes each; the rest is the count and the checksum.
pub(super) const BLOCK_IDS: usize = 204;
const TIMES_AT: usize = BLOCK_IDS * 16;
const COUNT_AT: usize = TIMES_AT + BLOCK_IDS * 4;
const CHECKSUM_AT: usize = BLOCK_BYTES - 4;

const MAGIC: [u8; 8] = *b"tallyrun";
const VERSION: u32 = 2;
/// Where the tail begins, its length, its checksum, and the magic.
const TRAILER_BYTES: usize = 8 + 8 + 4 + MAGIC.len();
/// Far more than any run has; a damaged length must not ask for all memory.
const TAIL_BYTES_MAX: u64 = 16 << 30;

/// Ids in the order of their keys: first all keys, then the seconds in which they were first seen.
pub(super) struct Block<'a>(&'a [u8; BLOCK_BYTES]);

impl<'a> Block<'a> {
    pub fn encode(ids: &[(u128, u32)]) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        for (at, (key, first_seen_s)) in ids.iter().enumerate() {
            bytes[at * 16..][..16].copy_from_slice(&key.to_le_bytes());
            bytes[TIMES_AT + at * 4..][..4].copy_from_slice(&first_seen_s.to_le_bytes());
        }
        bytes[COUNT_AT..][..4].copy_from_slice(&(ids.len() as u32).to_le_bytes());
        let checksum = crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn check(bytes: &'a [u8; BLOCK_BYTES]) -> io::Result<Self> {
        let block = Self(bytes);
        let is_whole = crc32c(&bytes[..CHECKSUM_AT]) == number(bytes, CHECKSUM_AT) && block.ids() <= BLOCK_IDS;
        if is_whole { Ok(block) } else { Err(damaged("a block's checksum does not match")) }
    }

    pub fn find(&self, key: u128) -> Option<i64> {
        let (mut low, mut high) = (0, self.ids());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).cmp(&key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(number(self.0, TIMES_AT + middle * 4).into()),
            }
        }
        None
    }

    fn ids(&self) -> usize {
        number(self.0, COUNT_AT) as usize
    }

    fn key(&self, at: usize) -> u128 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[at * 16..][..16]);
        u128::from_le_bytes(bytes)
    }
}

fn number(bytes: &[u8; BLOCK_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Everything after the blocks.
pub(super) fn encode_tail(head: &Head, firsts: &[u64], filters: &[(u32, Filter)], tail_at: u64) -> Vec<u8> {
    let fingerprints: usize = filters.iter().map(|(_, filter)| filter.fingerprints().len()).sum();
    let mut tail = Vec::with_capacity(256 + firsts.len() * 8 + fingerprints);
    tail.extend(VERSION.to_le_bytes());
    tail.extend(head.rules.ttl_s.to_le_bytes());
    tail.extend(head.rules.unit_s.to_le_bytes());
    tail.extend(head.rules.partitions.to_le_bytes());
    tail.extend(head.seed.to_le_bytes());
    tail.extend(head.from_s.to_le_bytes());
    tail.extend(head.upto_s.to_le_bytes());
    tail.extend(head.ids.to_le_bytes());
    tail.extend(head.judged.partitions().to_le_bytes());
    head.judged.iter().for_each(|(_, next)| tail.extend(next.to_le_bytes()));
    tail.extend((firsts.len() as u32).to_le_bytes());
    firsts.iter().for_each(|first| tail.extend(first.to_le_bytes()));
    tail.extend((filters.len() as u32).to_le_bytes());
    for (first_shard, filter) in filters {
        tail.extend(first_shard.to_le_bytes());
        tail.extend(filter.descriptor());
        tail.extend((filter.fingerprints().len() as u32).to_le_bytes());
        tail.extend(filter.fingerprints());
    }
    let (length, checksum) = (tail.len() as u64, crc32c(&tail));
    tail.extend(tail_at.to_le_bytes());
    tail.extend(length.to_le_bytes());
    tail.extend(checksum.to_le_bytes());
    tail.extend(MAGIC);
    tail
}

pub(super) fn read_tail(file: &File) -> io::Result<(Head, Search)> {
    let file_bytes = file.metadata()?.len();
    let trailer_at =
        file_bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| damaged("it is too short to be a run"))?;
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let mut fields = Fields(&trailer);
    let (tail_at, length, checksum) = (fields.u64()?, fields.u64()?, fields.u32()?);
    if fields.0 != MAGIC {
        return Err(damaged("it does not end as a run does"));
    }
    if tail_at.checked_add(length) != Some(trailer_at) || length > TAIL_BYTES_MAX {
        return Err(damaged("its trailer does not fit its length"));
    }
    let mut tail = vec![0; length as usize];
    file.read_exact_at(&mut tail, tail_at)?;
    if crc32c(&tail) != checksum {
        return Err(damaged("the checksum of its tail does not match"));
    }
    let (head, search) = decode_tail(&tail)?;
    if (search.firsts.len() * BLOCK_BYTES) as u64 != tail_at {
        return Err(damaged("it has not as many blocks as its tail says"));
    }
    Ok((head, search))
}

fn decode_tail(tail: &[u8]) -> io::Result<(Head, Search)> {
    let mut fields = Fields(tail);
    if fields.u32()? != VERSION {
        return Err(damaged("another version wrote it"));
    }
    let rules = Rules { ttl_s: fields.u64()?, unit_s: i64::from_le_bytes(fields.array()?), partitions: fields.u16()? };
    let seed = u128::from_le_bytes(fields.array()?);
    let (from_s, upto_s) = (i64::from_le_bytes(fields.array()?), i64::from_le_bytes(fields.array()?));
    let ids = fields.u64()?;
    let judged = (0..fields.u16()?).map(|_| fields.u64()).collect::<io::Result<_>>()?;
    let firsts = (0..fields.u32()?).map(|_| fields.u64()).collect::<io::Result<_>>()?;
    let filters = (0..fields.u32()?).map(|_| {
        let (first_shard, descriptor) = (fields.u32()?, fields.array()?);
        let length = fields.u32()? as usize;
        Ok((first_shard, Filter::of(descriptor, fields.take(length)?)))
    });
    let filters = filters.collect::<io::Result<_>>()?;
    let head = Head { rules, seed, from_s, upto_s, judged: Positions::from_offsets(judged), ids };
    Ok((head, Search { firsts, filters }))
}

/// Reads from the front; an error where too little is left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
