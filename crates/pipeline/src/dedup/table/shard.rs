//! A part of the table: buckets, of which a key may stand in two and goes to the emptier (Azar et al. 1994), or makes one of the
//! keys there move to its other (cuckoo hashing: Pagh and Rodler 2001). Where that does not help, and before many must move, the shard grows by a sixth.

use std::array;

pub(in super::super) const SHARD_BITS: u32 = 12;
/// Bits of a key that its place in a row gives, so that they are not stored.
const PLACE_BITS: u32 = 6;
/// Of the room that the bits not stored leave in a slot, one says which of the key's two buckets this is.
const CODE_BITS: u32 = SHARD_BITS + PLACE_BITS - 1;
/// Codes run from 1 to this; 0 is an empty slot.
pub(in super::super) const CODE_MAX: u32 = (1 << CODE_BITS) - 1;
const STORED_BITS: u32 = 128 - SHARD_BITS - PLACE_BITS;
const BUCKET_SLOTS: usize = 8;
/// Of the keys in a full bucket, to find one that has room elsewhere.
const LOOKED_AT_ONCE: usize = 4;
const ROW_BUCKETS: usize = 1 << PLACE_BITS;
/// At a hundred million keys, a shard of 400 KB gets 70 KB more: it fits the cache while its keys move, in 0.2 ms.
const GROWS_BY_PART: usize = 6;
/// Slots of a hundred that are taken when it grows. Fuller, ever more keys would have to move to make room for one.
const FULL_PERCENT: usize = 90;
/// Slots of a hundred that are taken in a shard that was made smaller.
const SHRUNK_PERCENT: usize = 87;
/// One that is less full than this after it was swept is made smaller.
const SPARSE_PERCENT: usize = 70;

/// Two lines of cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bucket([u128; BUCKET_SLOTS]);

const EMPTY: Bucket = Bucket([0; BUCKET_SLOTS]);

type Row = Box<[Bucket; ROW_BUCKETS]>;

/// Rows that the last rebuilt shard left to the next: taken from the allocator and given back each time, they would leave gaps.
pub(super) type Spare = Vec<Row>;

/// The row and the place in it.
type At = (usize, usize);

#[derive(Debug, Default)]
pub(super) struct Shard {
    rows: Vec<Row>,
    keys: usize,
}

impl Shard {
    pub fn bytes(&self) -> usize {
        self.rows.len() * (size_of::<Row>() + size_of::<[Bucket; ROW_BUCKETS]>())
    }

    #[inline]
    pub fn find(&self, key: u128) -> Option<u32> {
        self.locate(key).map(|(at, slot)| code(self.bucket(at).0[slot]))
    }

    /// Where a key may stand.
    #[inline]
    pub fn buckets(&self, key: u128) -> Option<[&Bucket; 2]> {
        let choices = Choices::of(key).at(self.rows.len());
        (!self.rows.is_empty()).then(|| choices.map(|at| self.bucket(at)))
    }

    pub fn replace(&mut self, key: u128, code: u32) {
        if let Some((at, slot)) = self.locate(key) {
            let slot = &mut self.bucket_mut(at).0[slot];
            *slot = *slot & !u128::from(CODE_MAX) | u128::from(code);
        }
    }

    /// Takes in a key that is not here.
    #[inline]
    pub fn insert(&mut self, key: u128, code: u32, spare: &mut Spare) {
        if self.keys * 100 >= self.slots() * FULL_PERCENT {
            self.grow(spare);
        }
        self.keys += 1;
        let choices = Choices::of(key);
        if !self.place(&choices, code) {
            self.make_room(&choices, code, spare);
        }
    }

    fn slots(&self) -> usize {
        self.rows.len() * ROW_BUCKETS * BUCKET_SLOTS
    }

    fn grow(&mut self, spare: &mut Spare) {
        self.rebuild(self.rows.len() + (self.rows.len() / GROWS_BY_PART).max(1), spare);
    }

    /// Into the emptier of its two buckets, if one has room.
    #[inline]
    fn place(&mut self, choices: &Choices, code: u32) -> bool {
        let [first, second] = choices.at(self.rows.len());
        let (choice, at) =
            if self.bucket(second).room() > self.bucket(first).room() { (1, second) } else { (0, first) };
        self.bucket_mut(at).put(choices.slot(choice, code))
    }

    /// Puts a key where both of its buckets are full.
    #[inline(never)]
    fn make_room(&mut self, choices: &Choices, code: u32, spare: &mut Spare) {
        let buckets = choices.at(self.rows.len()).into_iter().enumerate();
        let has_moved = buckets.into_iter().any(|(choice, at)| self.move_one_for(choices.slot(choice, code), at));
        if !has_moved {
            self.grow(spare);
            if !self.place(choices, code) {
                self.make_room(choices, code, spare);
            }
        }
    }

    /// If one of a full bucket's keys finds room in its other bucket, another takes its slot.
    fn move_one_for(&mut self, slot: u128, at: At) -> bool {
        let Bucket(here) = *self.bucket(at);
        for (first, some) in here.chunks(LOOKED_AT_ONCE).enumerate() {
            let others = array::from_fn::<_, LOOKED_AT_ONCE, _>(|number| {
                let (choices, other) = (Choices::of_slot(some[number], at), 1 - choice(some[number]));
                (choices.at(self.rows.len())[other], choices.slot(other, code(some[number])))
            });
            // Memory is waited for once for all of them.
            let room = others.map(|(to, _)| self.bucket(to).room());
            if let Some(number) = room.iter().position(|room| *room > 0) {
                let (to, moved) = others[number];
                self.bucket_mut(to).put(moved);
                self.bucket_mut(at).0[first * LOOKED_AT_ONCE + number] = slot;
                return true;
            }
        }
        false
    }

    /// All keys into so many rows, or into as many more as they need.
    fn rebuild(&mut self, rows: usize, spare: &mut Spare) {
        let empty = (0..rows).map(|_| spare.pop().unwrap_or_else(|| Box::new([EMPTY; ROW_BUCKETS])));
        let mut old = std::mem::replace(&mut self.rows, empty.collect());
        // How many slots of each bucket are taken.
        let mut taken = vec![[0u8; ROW_BUCKETS]; rows];
        let mut left_over = Vec::new();
        for row in &mut old {
            for (place, bucket) in row.iter_mut().enumerate() {
                for slot in std::mem::replace(bucket, EMPTY).taken() {
                    let choices = Choices::of_slot(slot, (0, place));
                    let [first, second] = choices.at(rows);
                    let is_second_emptier = taken[second.0][second.1] < taken[first.0][first.1];
                    let (choice, (row, place)) = if is_second_emptier { (1, second) } else { (0, first) };
                    let taken = &mut taken[row][place];
                    if usize::from(*taken) < BUCKET_SLOTS {
                        self.rows[row][place].0[usize::from(*taken)] = choices.slot(choice, code(slot));
                        *taken += 1;
                    } else {
                        left_over.push((choices, code(slot)));
                    }
                }
            }
        }
        *spare = old;
        for (choices, code) in left_over {
            self.make_room(&choices, code, spare);
        }
    }

    /// Takes the dead out, and gives back memory that is no longer needed. Gives how many were taken out.
    pub fn sweep(&mut self, spare: &mut Spare, is_dead: impl Fn(u32, &dyn Fn() -> u128) -> bool) -> usize {
        let mut died = 0;
        for row in &mut self.rows {
            for (place, bucket) in row.iter_mut().enumerate() {
                died += bucket.clear(|slot| is_dead(code(slot), &|| Choices::of_slot(slot, (0, place)).key()));
            }
        }
        self.keys -= died;
        if self.keys * 100 < self.slots() * SPARSE_PERCENT {
            let enough = (self.keys * 100).div_ceil(ROW_BUCKETS * BUCKET_SLOTS * SHRUNK_PERCENT);
            if enough < self.rows.len() {
                self.rebuild(enough, spare);
            }
        }
        died
    }

    /// All keys with their codes, in no order. The bits of the shard are 0 in them.
    pub fn keys(&self) -> impl Iterator<Item = (u128, u32)> + '_ {
        let buckets = self.rows.iter().flat_map(|row| row.iter().enumerate());
        buckets.flat_map(|(place, bucket)| {
            bucket.taken().map(move |slot| (Choices::of_slot(slot, (0, place)).key(), code(slot)))
        })
    }

    #[inline]
    fn bucket(&self, (row, place): At) -> &Bucket {
        &self.rows[row][place]
    }

    #[inline]
    fn bucket_mut(&mut self, (row, place): At) -> &mut Bucket {
        &mut self.rows[row][place]
    }

    #[inline]
    fn locate(&self, key: u128) -> Option<(At, usize)> {
        if self.rows.is_empty() {
            return None;
        }
        let choices = Choices::of(key);
        let [first, second] = choices.at(self.rows.len());
        let within = |at: At, choice: usize| Some((at, self.bucket(at).position(choices.slot(choice, 0))?));
        within(first, 0).or_else(|| within(second, 1))
    }
}

impl Bucket {
    #[inline]
    fn room(&self) -> usize {
        self.0.iter().filter(|slot| **slot == 0).count()
    }

    /// If there is room.
    #[inline]
    fn put(&mut self, slot: u128) -> bool {
        match self.0.iter_mut().find(|free| **free == 0) {
            Some(free) => {
                *free = slot;
                true
            }
            None => false,
        }
    }

    /// The slot that has the key of this one, whatever their codes.
    #[inline]
    fn position(&self, wanted: u128) -> Option<usize> {
        self.0.iter().position(|slot| (slot ^ wanted) <= u128::from(CODE_MAX) && code(*slot) != 0)
    }

    fn taken(&self) -> impl Iterator<Item = u128> {
        self.0.into_iter().filter(|slot| *slot != 0)
    }

    fn clear(&mut self, is_dead: impl Fn(u128) -> bool) -> usize {
        let mut died = 0;
        for slot in &mut self.0 {
            if *slot != 0 && is_dead(*slot) {
                *slot = 0;
                died += 1;
            }
        }
        died
    }

    /// Reads both lines.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.0[0] as u64 ^ self.0[BUCKET_SLOTS / 2] as u64
    }
}

/// Where a key may stand in its shard.
struct Choices {
    stored: u128,
    places: [usize; 2],
    /// Which part of the rows, of 2^32.
    parts: [u64; 2],
}

impl Choices {
    #[inline]
    fn of(key: u128) -> Self {
        let stored = key & ((1 << STORED_BITS) - 1);
        Self::with((key >> STORED_BITS) as usize % ROW_BUCKETS, stored)
    }

    #[inline]
    fn of_slot(slot: u128, (_, place): At) -> Self {
        let stored = slot >> (CODE_BITS + 1);
        let choices = Self::with(place, stored);
        if choice(slot) == 0 { choices } else { Self { places: [choices.places[1], place], ..choices } }
    }

    /// All depends on all bits, so that keys that share some do not crowd.
    #[inline]
    fn with(place: usize, stored: u128) -> Self {
        let bits = stored as u64 ^ ((stored >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (one, other) = (bits.wrapping_mul(0xBF58_476D_1CE4_E5B9), bits.wrapping_mul(0x94D0_49BB_1331_11EB));
        let twist = (one >> 24) as usize % ROW_BUCKETS;
        Self { stored, places: [place, place ^ twist], parts: [one >> 32, other >> 32] }
    }

    /// Among so many rows.
    #[inline]
    fn at(&self, rows: usize) -> [At; 2] {
        array::from_fn(|choice| (((self.parts[choice] * rows as u64) >> 32) as usize, self.places[choice]))
    }

    #[inline]
    fn slot(&self, choice: usize, code: u32) -> u128 {
        self.stored << (CODE_BITS + 1) | (choice as u128) << CODE_BITS | u128::from(code)
    }

    /// All but the bits of the shard.
    #[inline]
    fn key(&self) -> u128 {
        (self.places[0] as u128) << STORED_BITS | self.stored
    }
}

#[inline]
fn choice(slot: u128) -> usize {
    (slot >> CODE_BITS) as usize & 1
}

#[inline]
fn code(slot: u128) -> u32 {
    slot as u32 & CODE_MAX
}
