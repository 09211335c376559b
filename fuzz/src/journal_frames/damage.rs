//! What can happen to files, eight bytes each: what, to which segment, from where, to where, how much, with what.

use super::SEGMENT_BYTES;
use crate::memory_storage::Files;

/// More would leave nothing whole to look at.
const DAMAGE_MAX: usize = 12;
const DAMAGE_BYTES: usize = 8;

#[derive(Debug)]
pub struct Damage {
    what: What,
    segment: usize,
    at: usize,
    to: usize,
    length: usize,
    value: u8,
}

#[derive(Debug)]
enum What {
    Flip,
    Fill,
    /// Bytes of the segment as it was, written over another place of it.
    Move,
    /// The same from another segment.
    Stray,
    Cut,
    Extend,
    Remove,
}

impl Damage {
    pub fn parse(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks::<DAMAGE_BYTES>().0.iter().take(DAMAGE_MAX).map(Self::from_bytes).collect()
    }

    fn from_bytes(&[what, segment, at_low, at_high, to_low, to_high, length, value]: &[u8; DAMAGE_BYTES]) -> Self {
        let place = |low, high| usize::from(u16::from_le_bytes([low, high])) % SEGMENT_BYTES as usize;
        let what = match what % 8 {
            0 | 1 => What::Flip,
            2 => What::Fill,
            3 => What::Move,
            4 => What::Stray,
            5 => What::Cut,
            6 => What::Extend,
            _ => What::Remove,
        };
        let (at, to) = (place(at_low, at_high), place(to_low, to_high));
        Self { what, segment: segment.into(), at, to, length: usize::from(length) * 2, value }
    }

    pub fn apply(&self, files: &mut Files, originals: &Files) {
        let count = files.len();
        let Some(name) = files.keys().nth(self.segment % count).cloned() else { return };
        // A journal without its oldest segment is one that was trimmed; who has read it knows, it does not.
        if matches!(self.what, What::Remove) && !self.segment.is_multiple_of(count) {
            files.remove(&name);
            return;
        }
        let other = originals.values().nth(self.to % originals.len());
        let Some(bytes) = files.get_mut(&name) else { return };
        let source = match self.what {
            What::Stray => other,
            _ => originals.get(&name),
        };
        match self.what {
            What::Flip => {
                if let Some(byte) = bytes.get_mut(self.at) {
                    *byte ^= self.value.max(1);
                }
            }
            What::Fill => write(bytes, self.at, &vec![self.value; self.length]),
            What::Move | What::Stray => {
                let rest = source.and_then(|source| source.get(self.at..)).unwrap_or_default();
                write(bytes, self.to, &rest[..self.length.min(rest.len())]);
            }
            What::Cut => bytes.truncate(self.at),
            What::Extend => bytes.extend(std::iter::repeat_n(self.value, self.length)),
            What::Remove => {}
        }
    }
}

/// As much as the file has room for: damage does not make it longer.
fn write(bytes: &mut [u8], at: usize, from: &[u8]) {
    let end = bytes.len().min(at + from.len());
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(&from[..place.len()]);
    }
}
